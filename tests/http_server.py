"""A small HTTP server on the loopback interface, for the tests that need one."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit


@dataclasses.dataclass(frozen=True)
class Answer:
    """What the server says to a GET.

    Attributes:
      body: the bytes to send.
      status: the HTTP status.
      headers: further headers, ``Location`` for one.
      length: the ``Content-Length`` to claim; None for the true one.
      delay: seconds to wait before the status line.
      stall_after: how many bytes of the body to send before ``stall`` seconds of silence.
      stall: see ``stall_after``.
    """

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    length: int | None = None
    delay: float = 0
    stall_after: int | None = None
    stall: float = 0


def redirect(location: str, status: int = 302) -> Answer:
    return Answer(status=status, headers={"Location": location})


def truncated(body: bytes, sent: int) -> Answer:
    """Claims the whole body, sends its first bytes, and hangs up."""
    return Answer(body[:sent], length=len(body))


class HttpServer:
    """Serves ``answers``, which may be changed while it runs.

        with HttpServer({"/photo.jpg": b"..."}) as server:
            requests.get(server.url("/photo.jpg"))
        assert server.requests["/photo.jpg"] == 1

    A value is the body, or an ``Answer``. Paths are unquoted and without the query; ``queries``
    keeps those, in order. What is not in the dict is 404.
    """

    def __init__(self, answers: dict[str, bytes | Answer] | None = None):
        self.answers: dict[str, bytes | Answer] = dict(answers or {})
        self.requests: Counter[str] = Counter()
        self.queries: list[str] = []
        self._stop = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        # Polled often, since shutdown waits for the next poll.
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def url(self, path: str = "") -> str:
        return f"http://127.0.0.1:{self._server.server_port}{path}"

    def __enter__(self) -> HttpServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()  # ends the answers that are waiting
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                path = unquote(parts.path)
                outer.requests[path] += 1
                outer.queries.append(parts.query)
                answer = outer.answers.get(path, Answer(b"no such file", status=404))
                if isinstance(answer, bytes):
                    answer = Answer(answer)
                outer._stop.wait(answer.delay)
                with contextlib.suppress(OSError):  # a client may hang up; in some tests it should
                    self._send(answer)

            def _send(self, answer: Answer) -> None:
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                length = len(answer.body) if answer.length is None else answer.length
                self.send_header("Content-Length", str(length))
                self.end_headers()
                self.wfile.write(answer.body[: answer.stall_after])
                if answer.stall_after is not None:
                    outer._stop.wait(answer.stall)
                    self.wfile.write(answer.body[answer.stall_after :])

            def log_message(self, *_: object) -> None:
                pass

        return Handler


def unused_url(path: str = "/") -> str:
    """A URL on this machine at which nothing listens."""
    with HttpServer() as server:
        url = server.url(path)
    return url
