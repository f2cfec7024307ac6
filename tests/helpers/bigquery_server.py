"""The part of BigQuery's REST interface that the client calls here: it records and answers calls.

It is not BigQuery: it reads no SQL, and checks values only against their columns' types.
"""

from __future__ import annotations

import contextlib
import email
import json
import threading
from collections.abc import Iterator
from datetime import datetime
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from google.auth.credentials import AnonymousCredentials

from helpers.http_server import Server

PROJECT = "project"
ROOT = f"/bigquery/v2/projects/{PROJECT}"

_CHECKS = {
    "STRING": lambda value: isinstance(value, str),
    "INTEGER": lambda value: isinstance(value, int),
    "FLOAT": lambda value: isinstance(value, (int, float)),
    "TIMESTAMP": lambda value: bool(datetime.strptime(value, "%Y-%m-%dT%H:%M:%SZ")),
}


class BigQuery:
    """A project with the dataset ``dataset``.

    Attributes:
      tables: their resources, as the client sends and gets them.
      loaded: the rows that were sent, by table.
      jobs: the configurations of all jobs, in order.
      answers: of queries: the schema's fields, and the rows.
      refusals: messages with which the next jobs fail.
    """

    def __init__(self) -> None:
        self.tables: dict[str, dict[str, Any]] = {}
        self.loaded: dict[str, list[dict[str, Any]]] = {}
        self.jobs: list[dict[str, Any]] = []
        self.answers: dict[str, tuple[list[dict[str, Any]], list[list[Any]]]] = {}
        self.refusals: list[str] = []

    def get(self, path: str) -> tuple[int, Any]:
        """The answer to a GET."""
        *_, kind, name = path.split("/")
        if kind == "datasets":
            reference = {"projectId": PROJECT, "datasetId": name}
            return (
                (200, {"datasetReference": reference}) if name == "dataset" else self._absent(name)
            )
        if kind == "tables":
            table = self.tables.get(name)
            return (200, table) if table else self._absent(name)
        job = self.jobs[int(name.removeprefix("job"))]
        if kind == "jobs":
            return 200, self._job(int(name.removeprefix("job")))
        fields, rows = self.answers.get(job["query"]["query"], ([], []))
        cells = [{"f": [{"v": value} for value in row]} for row in rows]
        answer = {"jobReference": self._reference(name), "jobComplete": True}
        return 200, answer | {"schema": {"fields": fields}, "totalRows": len(rows), "rows": cells}

    def start(self, configuration: dict[str, Any], content: bytes = b"") -> tuple[int, Any]:
        """The answer to a new job."""
        if self.refusals:
            return 400, {
                "error": {"message": self.refusals.pop(), "errors": [{"reason": "invalid"}]}
            }
        self.jobs.append(configuration)
        if "load" in configuration:
            self._load(configuration["load"], content)
        elif configuration["query"]["query"].startswith("DELETE"):
            table = configuration["query"]["query"].split("`")[1].split(".")[-1]
            if table not in self.tables:
                self.jobs.pop()
                return self._absent(table)
            [ids, _] = configuration["query"]["queryParameters"]
            gone = {value["value"] for value in ids["parameterValue"]["arrayValues"]}
            rows = self.loaded[table]
            self.loaded[table] = [row for row in rows if row["run_id"] not in gone]
        return 200, self._job(len(self.jobs) - 1)

    def _load(self, load: dict[str, Any], content: bytes) -> None:
        name = load["destinationTable"]["tableId"]
        fields = load["schema"]["fields"]
        self.tables.setdefault(name, table(name, fields))
        rows = [json.loads(line) for line in content.splitlines()]
        for row in rows:
            _check(row, fields)
        self.loaded.setdefault(name, []).extend(rows)

    def _job(self, number: int) -> dict[str, Any]:
        configuration = self.jobs[number]
        job = {
            "jobReference": self._reference(f"job{number}"),
            "configuration": configuration,
            "status": {"state": "DONE"},
        }
        if configuration.get("dryRun"):
            fields, _ = self.answers[configuration["query"]["query"]]
            job["statistics"] = {"query": {"schema": {"fields": fields}}}
        return job

    @staticmethod
    def _reference(name: str) -> dict[str, str]:
        return {"projectId": PROJECT, "jobId": name, "location": "EU"}

    @staticmethod
    def _absent(name: str) -> tuple[int, Any]:
        return _error(404, f"Not found: {name}")


def _error(status: int, message: str) -> tuple[int, Any]:
    return status, {"error": {"message": message, "errors": [{"reason": "invalid"}]}}


def table(name: str, fields: list[dict[str, Any]]) -> dict[str, Any]:
    """The resource of a table with these columns."""
    reference = {"projectId": PROJECT, "datasetId": "dataset", "tableId": name}
    return {"tableReference": reference, "schema": {"fields": fields}, "type": "TABLE"}


def _check(row: dict[str, Any], fields: list[dict[str, Any]]) -> None:
    """Check rows as a load does: no column that the schema lacks, no value of another type."""
    types = {field["name"]: field for field in fields}
    assert row.keys() <= types.keys()
    for name, value in row.items():
        field = types[name]
        if field["mode"] == "REPEATED":
            for inner in value:
                _check(inner, field["fields"])
        else:
            assert value is None or _CHECKS[field["type"]](value), (name, value)


@contextlib.contextmanager
def bigquery_server() -> Iterator[BigQuery]:
    """While in this context, Google's client talks to what this yields."""
    service = BigQuery()
    server = Server(("127.0.0.1", 0), _handler(service))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BIGQUERY_EMULATOR_HOST", f"http://127.0.0.1:{server.server_port}")
        patch.setattr("google.auth.default", lambda **_: (AnonymousCredentials(), PROJECT))
        yield service
    server.shutdown()
    thread.join()
    server.server_close()


def _handler(service: BigQuery) -> type[BaseHTTPRequestHandler]:
    uploads: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(*service.get(urlsplit(self.path).path))

        def do_POST(self) -> None:
            parts = urlsplit(self.path)
            body = self.rfile.read(int(self.headers["Content-Length"]))
            kind = parse_qs(parts.query).get("uploadType")
            if kind == ["resumable"]:
                uploads.append(json.loads(body))
                here = f"http://{self.headers['Host']}/{len(uploads) - 1}"
                self._answer(200, {}, {"Location": here})
            elif kind == ["multipart"]:
                head = f"Content-Type: {self.headers['Content-Type']}\n\n".encode()
                job, rows = email.message_from_bytes(head + body).get_payload()
                configuration = json.loads(job.get_payload())["configuration"]
                self._answer(*service.start(configuration, rows.get_payload(decode=True)))
            else:
                self._answer(*service.start(json.loads(body)["configuration"]))

        def do_PUT(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            upload = uploads[int(self.path[1:])]
            self._answer(*service.start(upload["configuration"], content))

        def _answer(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
            content = json.dumps(body).encode()
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    return Handler
