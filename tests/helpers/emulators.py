"""Emulated object stores of Google and Amazon, and a proxy that makes them fail."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import os
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import boto3
import botocore.session
import pytest
from apache_beam.internal.gcp import auth
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage

from helpers.http_server import Server, reset

BUCKET = "bucket"


@dataclasses.dataclass(frozen=True)
class Emulator:
    """A running store with one empty bucket.

    Attributes:
      scheme: ``gs`` or ``s3``.
      url: where it listens.
    """

    scheme: str
    url: str

    def uri(self, name: str = "") -> str:
        """The URI of an object, or of the bucket."""
        return f"{self.scheme}://{BUCKET}/{name}".rstrip("/")

    def put(self, objects: dict[str, bytes], public: bool = False) -> None:
        """Upload objects: name → content; ``public`` ones are read without credentials."""
        if self.scheme == "gs":
            with contextlib.closing(_gcs(self.url)) as client:
                for name, data in objects.items():
                    client.bucket(BUCKET).blob(name).upload_from_string(data)
        else:
            with contextlib.closing(_s3(self.url)) as client:
                for name, data in objects.items():
                    acl = "public-read" if public else "private"
                    client.put_object(Bucket=BUCKET, Key=name, Body=data, ACL=acl)

    @contextlib.contextmanager
    def reached_at(self, url: str) -> Iterator[list[str]]:
        """In this context, Beam finds the store at ``url``, with the flags that this yields."""
        with pytest.MonkeyPatch.context() as patch:
            if self.scheme == "gs":
                patch.setenv("STORAGE_EMULATOR_HOST", url)
                # Beam asks for credentials once per process, for half a minute if there are none.
                patch.setattr(auth._Credentials, "_credentials_init", True)
                patch.setattr(auth._Credentials, "_credentials", None)
                yield []
            else:
                # Beam makes a session per operation, and each would parse the same 3 MB of JSON.
                loader = botocore.session.create_loader()
                patch.setattr(botocore.session, "create_loader", lambda *_: loader)
                yield [
                    f"--s3_endpoint_url={url}",
                    "--s3_access_key_id=key",
                    "--s3_secret_access_key=secret",
                    "--s3_region_name=us-east-1",
                ]


@contextlib.contextmanager
def gcs_emulator() -> Iterator[Emulator]:
    """An emulated Google Cloud Storage, in a process of its own."""
    port = _free_port()
    program = str(Path(__file__).with_name("gcs_server.py"))
    argv = [program, "start", f"--port={port}", "--host=127.0.0.1", "--in-memory"]
    with _server([*argv, f"--default-bucket={BUCKET}"], port) as url:
        yield Emulator("gs", url)


@contextlib.contextmanager
def s3_emulator() -> Iterator[Emulator]:
    """An emulated S3, in a process of its own."""
    port = _free_port()
    with _server(["-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], port) as url:
        with contextlib.closing(_s3(url)) as client:
            client.create_bucket(Bucket=BUCKET)
        yield Emulator("s3", url)


def _gcs(url: str) -> storage.Client:
    return storage.Client(
        project="test",
        credentials=AnonymousCredentials(),
        client_options={"api_endpoint": url},
    )


def _s3(url: str) -> Any:
    return boto3.session.Session().client(
        "s3",
        endpoint_url=url,
        aws_access_key_id="key",
        aws_secret_access_key="secret",
        region_name="us-east-1",
    )


EMULATORS: dict[str, Callable[[], contextlib.AbstractContextManager[Emulator]]] = {
    "gs": gcs_emulator,
    "s3": s3_emulator,
}


@contextlib.contextmanager
def _server(argv: list[str], port: int) -> Iterator[str]:
    """Run a program of Python that listens at a port of this machine; the URL."""
    process = subprocess.Popen(
        [sys.executable, *argv],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"},
    )
    try:
        deadline = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            assert process.poll() is None, f"{argv} ended with {process.returncode}"
            assert time.monotonic() < deadline, f"{argv} does not listen"
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@dataclasses.dataclass(frozen=True)
class Fault:
    """What goes wrong with an object.

    Attributes:
      kind: ``reset`` (the connection, before an answer), ``truncate`` (half of the body arrives),
        ``hang`` (no answer), ``drip`` (a byte now and then), or an HTTP status.
      times: how many requests of the object have it; None for all.
    """

    kind: str | int
    times: int | None = None


class FaultyProxy:
    """Stands before a store, and fails as ``faults`` says: last part of an object's name → fault.

    with FaultyProxy(store.url, {"a.png": Fault(503, times=1)}) as proxy:
        ...
    assert proxy.requests["a.png"] == 2

    ``delay`` gives the seconds after which a request of this method is passed on; ``at_once`` is
    how many requests the store gets at a time.
    """

    def __init__(
        self,
        upstream: str,
        faults: dict[str, Fault] | None = None,
        delay: Callable[[str], float] = lambda _: 0,
        at_once: int = 4,
    ):
        self.faults = dict(faults or {})
        self._delay = delay
        self.requests: Counter[str] = Counter()
        self.answer_headers: dict[str, str] = {}  # sent with each answer, in addition
        self.log: list[dict[str, str]] = []  # the headers of each request
        self._upstream = urlsplit(upstream).netloc
        # The emulators serve one request after the other; a full backlog would cost seconds.
        self._turn = threading.BoundedSemaphore(at_once)
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._server = Server(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> FaultyProxy:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()  # ends what hangs
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _fault(self, name: str) -> Fault | None:
        """The fault of this request, which is counted."""
        with self._lock:
            self.requests[name] += 1
            fault = self.faults.get(name)
            if fault and (fault.times is None or self.requests[name] <= fault.times):
                return fault
            return None

    def _ask(self, handler: BaseHTTPRequestHandler) -> tuple[int, list[tuple[str, str]], bytes]:
        """The store's own answer: status, headers, body."""
        length = int(handler.headers.get("Content-Length", 0))
        body = handler.rfile.read(length) if length else None
        self._stop.wait(self._delay(handler.command))
        with self._turn:
            connection = http.client.HTTPConnection(self._upstream)
            try:
                headers = dict(handler.headers.items())
                headers.pop("Expect", None)
                connection.request(handler.command, handler.path, body, headers)
                answer = connection.getresponse()
                return answer.status, answer.getheaders(), answer.read()
            finally:
                connection.close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True
            wbufsize = -1  # header and body in one packet

            def handle_request(self) -> None:
                with contextlib.suppress(OSError):  # a client may hang up; in some tests it should
                    self._handle()

            def handle_expect_100(self) -> bool:
                goes_on = super().handle_expect_100()
                self.wfile.flush()  # else the client waits a second for it
                return goes_on

            do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = do_PATCH = handle_request

            def _handle(self) -> None:
                name = unquote(urlsplit(self.path).path).rsplit("/", 1)[-1]
                outer.log.append(dict(self.headers.items()))
                fault = outer._fault(name) if self.command in ("GET", "HEAD") else None
                if fault is None:
                    self._send(*outer._ask(self))
                elif isinstance(fault.kind, int):
                    self._send(fault.kind, [], b"")
                elif fault.kind == "reset":
                    self.close_connection = True
                    reset(self.connection)
                elif fault.kind == "hang":
                    self.close_connection = True
                    outer._stop.wait()
                else:
                    self.close_connection = True
                    self._send(*outer._ask(self), fault=fault.kind)

            def _send(
                self,
                status: int,
                headers: list[tuple[str, str]],
                body: bytes,
                fault: str | None = None,
            ) -> None:
                self.send_response_only(status)
                length = len(body)
                for key, value in headers:
                    if self.command == "HEAD" and key.lower() == "content-length":
                        length = int(value)
                    elif key.lower() not in ("content-length", "transfer-encoding", "connection"):
                        self.send_header(key, value)
                for key, value in outer.answer_headers.items():
                    self.send_header(key, value)
                if status != 204:
                    self.send_header("Content-Length", str(length))
                self.end_headers()
                if self.command == "HEAD":
                    pass
                elif fault == "truncate":
                    self.wfile.write(body[: length // 2])
                elif fault == "drip":
                    for n in range(length):
                        self.wfile.write(body[n : n + 1])
                        self.wfile.flush()
                        if outer._stop.wait(0.02):
                            break
                else:
                    self.wfile.write(body)
                self.wfile.flush()

            def log_message(self, *_: object) -> None:
                pass

        return Handler
