"""A Dataflow that only keeps jobs: an HTTP server for Beam's option ``dataflow_endpoint``."""

from __future__ import annotations

import dataclasses
import json
import re
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlsplit

from helpers.http_server import Server

_JOBS = re.compile(
    r"/v1b3/projects/(?P<project>[^/]+)/locations/(?P<region>[^/]+)/jobs/?(?P<rest>.*)"
)
_ENDED = ("DONE", "FAILED", "CANCELLED", "UPDATED", "DRAINED")


@dataclasses.dataclass
class DataflowServer:
    """Keeps the jobs that it is sent, by their IDs; a test gives them their ``states``.

    Attributes:
      jobs: ID → the job's description, with ``name``.
      states: ID → such as RUNNING; each but the last is told once.
      errors: the statuses of the next answers, by ``"METHOD what"``, such as ``"POST jobs"``; None
        answers as usual. The last one stays.
      requests: how often was asked, likewise.
    """

    jobs: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    states: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    errors: dict[str, list[int | None]] = dataclasses.field(default_factory=dict)
    requests: Counter[str] = dataclasses.field(default_factory=Counter)

    def __enter__(self) -> DataflowServer:
        self._server = Server(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def flags(self) -> list[str]:
        """Beam's flags for jobs that it keeps."""
        return [
            *("--runner=DataflowRunner", "--project=my-project", "--region=europe-west1"),
            *(f"--dataflow_endpoint=http://localhost:{self._server.server_port}", "--no_auth"),
        ]

    def add(self, id_: str, name: str, *states: str) -> None:
        """Let there be a job."""
        self.jobs[id_] = {"id": id_, "name": name}
        self.states[id_] = list(states)

    def _state(self, id_: str) -> str:
        states = self.states[id_]
        return f"JOB_STATE_{states.pop(0) if len(states) > 1 else states[0]}"

    def _answer(self, method: str, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        match = _JOBS.fullmatch(urlsplit(path).path)
        if match is None:
            return 501, _error(501, path)
        id_, _, part = match["rest"].partition("/")
        what = f"{method} {part or ('job' if id_ else 'jobs')}"
        self.requests[what] += 1
        errors = self.errors.get(what) or [None]
        status = errors.pop(0) if len(errors) > 1 else errors[0]
        if status is not None:
            return status, _error(status, "the service says so")
        if id_ and id_ not in self.jobs:
            return 404, _error(404, "no such job")
        if what == "POST jobs":
            id_ = f"2026-11-25_02_00_00-{len(self.jobs)}"
            self.add(id_, body["name"], "RUNNING", "DONE")
            self.jobs[id_] = body | {"id": id_}
            return 200, {
                "id": id_,
                "name": body["name"],
                "clientRequestId": body.get("clientRequestId", ""),
            }
        if what == "GET jobs":
            name = parse_qs(urlsplit(path).query).get("name", [None])[0]
            listed = [
                {"id": key, "name": job["name"], "currentState": f"JOB_STATE_{self.states[key][0]}"}
                for key, job in self.jobs.items()
                if name in (None, job["name"]) and self.states[key][0] not in _ENDED
            ]
            return 200, {"jobs": listed}
        if what == "PUT job":
            self.states[id_] = [body["requestedState"].removeprefix("JOB_STATE_")]
        if what in ("GET job", "PUT job"):
            job = self.jobs[id_]
            return 200, {"id": id_, "name": job["name"], "currentState": self._state(id_)}
        return 200, {}  # its messages, its metrics

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1

            def handle_request(self) -> None:
                length = int(self.headers.get("Content-Length", 0))
                body = json.loads(self.rfile.read(length) or b"{}") if length else {}
                status, answer = outer._answer(self.command, self.path, body)
                content = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)
                self.wfile.flush()

            do_GET = do_POST = do_PUT = handle_request

            def log_message(self, *_: object) -> None:
                pass

        return Handler


def _error(status: int, message: str) -> dict[str, Any]:
    return {"error": {"code": status, "message": message, "status": "ERROR"}}
