"""A small HTTP server on the loopback interface, for the tests that need one."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit


@dataclasses.dataclass(frozen=True)
class Answer:
    """What the server says to a GET or HEAD.

    Attributes:
      body: the bytes to send.
      status: the HTTP status.
      headers: further headers, ``Location`` for one.
      length: the ``Content-Length`` to claim; None for the true one.
      delay: seconds to wait before the status line.
      stall_after: how many bytes of the body to send before ``stall`` seconds of silence.
      stall: see ``stall_after``.
      drip: seconds between any two bytes of the body, sent one by one; 0 for all at once.
      reset: whether the connection is reset instead.
    """

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    length: int | None = None
    delay: float = 0
    stall_after: int | None = None
    stall: float = 0
    drip: float = 0
    reset: bool = False


@dataclasses.dataclass
class Request:
    """What the server was asked, when, and with which status it answered."""

    time: float
    method: str
    path: str
    headers: dict[str, str]
    status: int = 0


Content = bytes | Answer | list[bytes | Answer]


def redirect(location: str, status: int = 302) -> Answer:
    return Answer(status=status, headers={"Location": location})


def truncated(body: bytes, sent: int) -> Answer:
    """Claims the whole body, sends its first bytes, and hangs up."""
    return Answer(body[:sent], length=len(body))


def raw(chunks: bytes) -> Answer:
    """A body in chunks, as they go over the wire; then the server hangs up."""
    return Answer(chunks, headers={"Transfer-Encoding": "chunked"})


class HttpServer:
    """Serves ``answers``, which may be changed while it runs.

        with HttpServer({"/photo.jpg": b"..."}) as server:
            requests.get(server.url("/photo.jpg"))
        assert server.requests["/photo.jpg"] == 1

    A value is the body, or an ``Answer``, or a list of them, of which each but the last is given
    once. Paths are unquoted and without the query; ``queries`` keeps those, in order. A path with
    its query, as sent, goes before. To what is not in the dict the answer is ``default``.

    ``log`` has every request. ``busy`` may answer in place of the dict: it gets the number of the
    request, from 1, and its method, and returns None for an answer as usual.
    """

    def __init__(
        self,
        answers: dict[str, Content] | None = None,
        default: Content = Answer(b"no such file", status=404),
    ):
        self.answers: dict[str, Content] = dict(answers or {})
        self.default = default
        self.requests: Counter[str] = Counter()
        self.queries: list[str] = []
        self.log: list[Request] = []
        self.busy: Callable[[int, str], Answer | None] = lambda number, method: None
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._server = Server(("127.0.0.1", 0), self._handler())
        # Polled often, since shutdown waits for the next poll.
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    @property
    def port(self) -> int:
        return self._server.server_port

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
            protocol_version = "HTTP/1.1"  # knows chunks

            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                path = unquote(parts.path)
                outer.requests[path] += 1
                outer.queries.append(parts.query)
                with outer._lock:
                    request = Request(time.monotonic(), self.command, path, dict(self.headers))
                    outer.log.append(request)
                    busy = outer.busy(len(outer.log), self.command)
                answer = busy or outer.answers.get(
                    self.path, outer.answers.get(path, outer.default)
                )
                if isinstance(answer, list):
                    answer = answer[min(outer.requests[path], len(answer)) - 1]
                if isinstance(answer, bytes):
                    answer = Answer(answer)
                request.status = answer.status
                outer._stop.wait(answer.delay)
                if answer.reset:
                    reset(self.connection)
                    return
                with contextlib.suppress(OSError):  # a client may hang up; in some tests it should
                    self._send(answer)

            do_HEAD = do_GET

            def _send(self, answer: Answer) -> None:
                self.close_connection = True
                self.send_response(answer.status)
                self.send_header("Connection", "close")
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                length = len(answer.body) if answer.length is None else answer.length
                if "Transfer-Encoding" not in answer.headers:
                    self.send_header("Content-Length", str(length))
                self.end_headers()
                if self.command == "HEAD":
                    return
                if answer.drip:
                    for n in range(len(answer.body)):
                        self.wfile.write(answer.body[n : n + 1])
                        if outer._stop.wait(answer.drip):
                            return
                    return
                self.wfile.write(answer.body[: answer.stall_after])
                if answer.stall_after is not None:
                    outer._stop.wait(answer.stall)
                    self.wfile.write(answer.body[answer.stall_after :])

            def log_message(self, *_: object) -> None:
                pass

        return Handler


class Server(ThreadingHTTPServer):
    """Of Python's, for many clients at a time that may break off."""

    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, *_: object) -> None:
        """Say nothing of connections that were reset."""

    def shutdown_request(self, request: socket.socket) -> None:  # type: ignore[override]
        """As usual, unless ``reset`` has closed it."""
        if request.fileno() != -1:
            super().shutdown_request(request)


def reset(connection: socket.socket) -> None:
    """Close a connection in the way that the other side takes for an error."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    # At once: a socket object waits for the files that were made of it.
    os.close(connection.detach())


def unused_url(path: str = "/") -> str:
    """A URL on this machine at which nothing listens."""
    with HttpServer() as server:
        url = server.url(path)
    return url
