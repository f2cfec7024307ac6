"""The part of BigQuery's REST interface that the client calls here, on tables of DuckDB.

It is not BigQuery. It has what matters for loading: ids of jobs that are refused the second time,
jobs that take time and have a location, tables that expire, and DML that is executed. Its SQL is
DuckDB's, with BigQuery's functions as macros.
"""

from __future__ import annotations

import contextlib
import csv
import email
import gzip
import io
import json
import re
import tempfile
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlsplit

import duckdb
import pytest
from google.auth.credentials import AnonymousCredentials

from helpers.http_server import Server

PROJECT = "project"
ROOT = f"/bigquery/v2/projects/{PROJECT}"
LOCATION = "europe-west1"

_CHECKS = {
    "STRING": lambda value: isinstance(value, str),
    "INTEGER": lambda value: isinstance(value, int),
    "FLOAT": lambda value: isinstance(value, (int, float)),
    "TIMESTAMP": lambda value: bool(datetime.strptime(value, "%Y-%m-%dT%H:%M:%SZ")),
    "JSON": lambda value: True,
}

_TYPES = {
    "STRING": "VARCHAR",
    "INTEGER": "BIGINT",
    "FLOAT": "DOUBLE",
    "TIMESTAMP": "TIMESTAMPTZ",
    "JSON": "JSON",
}

_MACROS = """
    SET TimeZone = 'UTC';
    ATTACH ':memory:' AS project;
    CREATE SCHEMA project.dataset;
    CREATE MACRO json_type(x) AS CASE WHEN x::VARCHAR LIKE '"%' THEN 'string' ELSE 'other' END;
    CREATE MACRO string(x) AS x ->> '$';
    CREATE MACRO to_json_string(x) AS coalesce(x::VARCHAR, 'null');
"""

# An array of structs from JSON, which DuckDB has another way to write.
_STRUCTS = re.compile(
    r"ARRAY\(SELECT AS STRUCT .* FROM UNNEST\(JSON_QUERY_ARRAY\((.*)\)\) AS one\)"
)


class BigQuery:
    """A project with the dataset ``dataset``, which is in one region.

    Attributes:
      tables: their resources, as the client sends and gets them.
      objects: content of the files in buckets, by URI.
      jobs: the configurations of all jobs, in order.
      answers: of queries: the schema's fields, and the rows.
      refusals: messages with which the next jobs are refused.
      problems: messages with which the next statements fail.
      seconds: how long a job takes.
      seen: the number of rows by run, as readers of a table saw it after each job that changed it.
    """

    def __init__(self) -> None:
        self.tables: dict[str, dict[str, Any]] = {}
        self.objects: dict[str, bytes] = {}
        self.jobs: list[dict[str, Any]] = []
        self.answers: dict[str, tuple[list[dict[str, Any]], list[list[Any]]]] = {}
        self.refusals: list[str] = []
        self.problems: list[str] = []
        self.seconds = 0.0
        self.seen: list[dict[str, int]] = []
        self._jobs: dict[str, dict[str, Any]] = {}
        self._lock = threading.RLock()
        self._database = duckdb.connect()
        self._database.execute(_MACROS)

    def rows(self, name: str) -> list[dict[str, Any]]:
        """The rows of a table, with JSON's types, by image."""
        with self._lock:
            self._catch_up()
            if name not in self.tables:
                return []
            cursor = self._database.execute(f"FROM {_place(name)}")
            names = [column[0] for column in cursor.description]
            rows = [dict(zip(names, map(_plain, row), strict=True)) for row in cursor.fetchall()]
        return sorted(rows, key=lambda row: (row.get("image") or "", str(row)))

    def _count(self, name: str) -> int:
        [[count]] = self._database.execute(f"SELECT count(*) FROM {_place(name)}").fetchall()
        return int(count)

    def add_table(self, name: str, fields: list[dict[str, Any]], **others: Any) -> None:
        """Create a table with these columns, without rows."""
        with self._lock:
            self.tables[name] = {
                "tableReference": {"projectId": PROJECT, "datasetId": "dataset", "tableId": name},
                "schema": {"fields": fields},
                "type": "TABLE",
                "etag": "1",
                "creationTime": str(int(time.time() * 1000)),
                **others,
            }
            columns = ", ".join(_column(field) for field in fields) or '"_" BIGINT'
            self._database.execute(f"CREATE TABLE {_place(name)} ({columns})")

    def answer(self, method: str, path: str, query: dict[str, str], body: Any) -> tuple[int, Any]:
        """The answer to a request that has no rows with it."""
        with self._lock:
            self._catch_up()
            *_, kind, name = path.split("/")
            if (method, name) == ("POST", "jobs"):
                return self.start(body)
            if (method, name) == ("POST", "tables"):
                return self._create(body)
            if kind == "datasets":
                reference = {"projectId": PROJECT, "datasetId": name}
                found = {"datasetReference": reference, "location": LOCATION}
                return (200, found) if name == "dataset" else _error(404, f"Not found: {name}")
            if kind == "tables":
                return self._of_table(method, name, body)
            return self._of_job(kind, name, query)

    def start(self, resource: dict[str, Any], content: bytes = b"") -> tuple[int, Any]:
        """The answer to a new job."""
        with self._lock:
            name = resource["jobReference"]["jobId"]
            if name in self._jobs:
                return _error(409, f"Already Exists: Job {PROJECT}:{name}", "duplicate")
            if self.refusals:
                return _error(400, self.refusals.pop())
            configuration = resource["configuration"]
            self.jobs.append(configuration)
            self._jobs[name] = {
                "content": content,
                "ends": time.monotonic() + self.seconds,
                "resource": {
                    "jobReference": {"projectId": PROJECT, "jobId": name, "location": LOCATION},
                    "configuration": configuration,
                    "status": {"state": "RUNNING"},
                    "statistics": {},
                },
            }
            return 200, self._job(name)

    def _catch_up(self) -> None:
        """End the jobs whose time is over, in their order, whether or not anybody waits."""
        for name in self._jobs:
            self._job(name)
        for name, table in list(self.tables.items()):
            if int(table.get("expirationTime") or 2**62) < time.time() * 1000:
                self._drop(name)

    def _drop(self, name: str) -> None:
        del self.tables[name]
        self._database.execute(f"DROP TABLE {_place(name)}")

    def _create(self, body: dict[str, Any]) -> tuple[int, Any]:
        name = body["tableReference"]["tableId"]
        if name in self.tables:
            return _error(409, f"Already Exists: Table {name}", "duplicate")
        fields = body["schema"]["fields"]
        others = {key: body[key] for key in body if key not in ("tableReference", "schema")}
        self.add_table(name, fields, **others)
        return 200, self.tables[name]

    def _of_table(self, method: str, name: str, body: Any) -> tuple[int, Any]:
        table = self.tables.get(name)
        if table is None:
            return _error(404, f"Not found: Table {name}")
        if method == "DELETE":
            self._drop(name)
            return 204, {}
        if method == "PATCH":
            if body.pop("If-Match", table["etag"]) != table["etag"]:
                return _error(412, "Precondition Failed")
            before = table["schema"]["fields"]
            fields = body["schema"]["fields"]
            assert fields[: len(before)] == before, "only additions are allowed"
            for field in fields[len(before) :]:
                self._database.execute(f"ALTER TABLE {_place(name)} ADD COLUMN {_column(field)}")
            table |= {"schema": {"fields": fields}, "etag": str(int(table["etag"]) + 1)}
        return 200, table

    def _of_job(self, kind: str, name: str, query: dict[str, str]) -> tuple[int, Any]:
        # Outside of the multi-regions US and EU, a job is not found without its location.
        if name not in self._jobs or query.get("location") != LOCATION:
            return _error(404, f"Not found: Job {PROJECT}:{name}")
        job = self._job(name)
        if kind == "jobs":
            return 200, job
        if "errorResult" in job["status"]:
            return _error(400, job["status"]["errorResult"]["message"])
        answer: dict[str, Any] = {"jobReference": job["jobReference"]}
        if job["status"]["state"] != "DONE":
            return 200, answer | {"jobComplete": False}
        fields, rows = self.answers.get(job["configuration"]["query"]["query"], ([], []))
        cells = [{"f": [{"v": value} for value in row]} for row in rows]
        answer |= {"schema": {"fields": fields}, "totalRows": len(rows), "rows": cells}
        return 200, answer | {"jobComplete": True}

    def _job(self, name: str) -> dict[str, Any]:
        """A job's resource; it is executed when its time is over."""
        job = self._jobs[name]
        resource: dict[str, Any] = job["resource"]
        if resource["status"]["state"] == "DONE" or time.monotonic() < job["ends"]:
            return resource
        configuration = resource["configuration"]
        resource["status"] = {"state": "DONE"}
        try:
            if configuration.get("dryRun"):
                fields, _ = self.answers[configuration["query"]["query"]]
                resource["statistics"] = {"query": {"schema": {"fields": fields}}}
            elif "load" in configuration:
                count = self._load(configuration["load"], job.pop("content"))
                resource["statistics"] = {"load": {"outputRows": str(count)}}
            elif configuration["query"]["query"] not in self.answers:
                self._execute(configuration["query"])
                self._look(configuration["query"]["query"])
        except (duckdb.Error, KeyError) as error:
            problem = {"reason": "invalid", "message": str(error)}
            resource["status"] |= {"errorResult": problem, "errors": [problem]}
        return resource

    def _look(self, query: str) -> None:
        name = query.split("`")[1].split(".")[-1]
        counts = f"SELECT run_id, count(*) FROM {_place(name)} GROUP BY run_id"
        self.seen.append(dict(self._database.execute(counts).fetchall()))

    def _load(self, load: dict[str, Any], content: bytes) -> int:
        name = load["destinationTable"]["tableId"]
        fields = load["schema"]["fields"]
        if name not in self.tables:
            assert load.get("createDisposition") == "CREATE_NEVER"
            raise KeyError(f"Not found: Table {name}")
        uris = load.get("sourceUris", [])
        assert len(uris) <= 10_000
        before = self._count(name)
        for part in [self.objects[uri] for uri in uris] or [content]:
            data = gzip.decompress(part) if part[:2] == b"\x1f\x8b" else part
            with tempfile.NamedTemporaryFile() as file:
                file.write(data)
                file.flush()
                self._read(file.name, data, _place(name), load["sourceFormat"], fields)
        return self._count(name) - before

    def _read(self, path: str, data: bytes, table: str, format_: str, fields: Any) -> None:
        columns = ", ".join(f"'{field['name']}': '{_type(field)}'" for field in fields)
        if format_ == "PARQUET":
            source = f"read_parquet('{path}')"
        elif format_ == "CSV":
            header = next(csv.reader(io.StringIO(data.decode())))
            assert header == [field["name"] for field in fields]
            texts = [field["name"] for field in fields if field["type"] == "STRING"]
            source = (
                f"read_csv('{path}', header = true, columns = {{{columns}}}, quote = '\"', "
                f"escape = '\"', delim = ',', force_not_null = {texts})"
            )
        else:
            lines = data.splitlines()
            for line in lines:
                _check(json.loads(line), fields)
            if not lines:
                return
            source = f"read_json('{path}', format = 'newline_delimited', columns = {{{columns}}})"
        names = ", ".join(f'"{field["name"]}"' for field in fields)
        self._database.execute(f"INSERT INTO {table} ({names}) SELECT {names} FROM {source}")

    def _execute(self, query: dict[str, Any]) -> None:
        if self.problems:
            raise KeyError(self.problems.pop())
        values: dict[str, Any] = {}
        for parameter in query.get("queryParameters", []):
            value = parameter["parameterValue"]
            array = value.get("arrayValues")
            values[parameter["name"]] = (
                value["value"] if array is None else [one["value"] for one in array]
            )
        sql = _STRUCTS.sub(
            r"CAST(\1 AS STRUCT(class_id BIGINT, label VARCHAR, score DOUBLE)[])", query["query"]
        )
        sql = re.sub(rf"`{PROJECT}\.dataset\.([^`]+)`", r'"project"."dataset"."\1"', sql)
        sql = sql.replace("`", '"')
        sql = re.sub(r"IN UNNEST\(@(\w+)\)", r"IN (SELECT unnest($\1))", sql)
        self._database.execute(sql.replace("@since", "$since::TIMESTAMPTZ"), values)


def _place(name: str) -> str:
    return f'"project"."dataset"."{name}"'


def _column(field: dict[str, Any]) -> str:
    return f'"{field["name"]}" {_type(field)}'


def _type(field: dict[str, Any]) -> str:
    if field["type"] in ("RECORD", "STRUCT"):
        return f"STRUCT({', '.join(map(_column, field['fields']))})[]"
    return _TYPES[field["type"]]


def _plain(value: Any) -> Any:
    return f"{value:%Y-%m-%dT%H:%M:%SZ}" if isinstance(value, datetime) else value


def _error(status: int, message: str, reason: str = "invalid") -> tuple[int, Any]:
    return status, {"error": {"message": message, "errors": [{"reason": reason}]}}


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
            self._respond(None)

        def do_DELETE(self) -> None:
            self._respond(None)

        def do_PATCH(self) -> None:
            body = json.loads(self._body())
            if "If-Match" in self.headers:
                body["If-Match"] = self.headers["If-Match"]
            self._respond(body)

        def do_POST(self) -> None:
            parts = urlsplit(self.path)
            kind = parse_qs(parts.query).get("uploadType")
            body = self._body()
            if kind == ["resumable"]:
                uploads.append(json.loads(body))
                here = f"http://{self.headers['Host']}/{len(uploads) - 1}"
                self._answer(200, {}, {"Location": here})
            elif kind == ["multipart"]:
                head = f"Content-Type: {self.headers['Content-Type']}\n\n".encode()
                job, rows = email.message_from_bytes(head + body).get_payload()
                resource = json.loads(job.get_payload())
                self._answer(*service.start(resource, rows.get_payload(decode=True)))
            else:
                self._answer(*service.answer("POST", parts.path, {}, json.loads(body)))

        def do_PUT(self) -> None:
            content = self._body()
            self._answer(*service.start(uploads[int(self.path[1:])], content))

        def _body(self) -> bytes:
            return self.rfile.read(int(self.headers["Content-Length"]))

        def _respond(self, body: Any) -> None:
            parts = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            self._answer(*service.answer(self.command, parts.path, query, body))

        def _answer(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
            content = b"" if status == 204 else json.dumps(body).encode()
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
