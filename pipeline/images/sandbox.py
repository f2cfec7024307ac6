"""Decodes files in processes that may crash, hang or swallow memory.

A process of a worker has a few of them, started when the first such file comes and used again. What
ends one of them, by a signal, at its time limit or at its limit of memory, costs the image that it
had; the next image gets a new one.

The two sides send each other messages over a pair of sockets: a header in JSON, with its length in
front, and then bytes, as many as both sides know. Nothing that comes from a sandbox is run or
unpickled here.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import resource
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import pipeline
from pipeline.errors import ImageError, RunError
from pipeline.images.pixels import LARGE_PIXELS, Decoded, Target, decode_here, large_ones_alone
from pipeline.records import Reason

# The slowest, a JPEG 2000 of the most pixels, takes a tenth of this where nothing else is going on.
_SECONDS = 120.0
# A machine that is busy with other things may take a while; an idle one takes a fifth of a second.
_START_SECONDS = 120.0

# Seconds before a sandbox that did not start is started again.
_WAITS_TO_START = (0.1, 1.0, 3.0)

# Memory for opening a file, in bytes, and for each pixel, of which decoders keep several copies:
# 32-bit samples of four channels, what is made of them, and what is resized.
_MEMORY = 400_000_000
_MEMORY_OF_A_PIXEL = 48

_MEMORY_NOW = Path("/proc/self/statm")  # in pages

_MAX_HEADER = 65_536
_MAX_MESSAGE = 500

_START = """
import sys
sys.path[:] = sys.argv[2:]
{prelude}
from pipeline.images.sandbox import serve
serve(int(sys.argv[1]))
"""

# Of the environment, what a process needs to start; nothing that is secret.
_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "LANG", "LC_ALL", "TZ")
# One thread and one arena, else address space is taken that nobody uses; and what is large is given
# back when it is freed.
_LITTLE_MEMORY = {
    **{"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
    **{"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "1000000"},
}


class Sandbox:
    """Decodes in other processes: as many as threads need at once, but at most one per core.

    Args:
      seconds: time limit for decoding an image.
      prelude: Python that each process runs first; for tests.
    """

    def __init__(self, seconds: float = _SECONDS, prelude: str = ""):
        self._seconds = seconds
        self._prelude = prelude
        self._begin()
        os.register_at_fork(after_in_child=self._begin)
        atexit.register(self.close)

    def _begin(self) -> None:
        self._idle: list[_Process] = []
        self._slots = threading.BoundedSemaphore(os.cpu_count() or 1)

    def decode(self, data: bytes, target: Target) -> Decoded:
        """Decode an image file and resize it.

        Raises:
          ImageError: it cannot be decoded, or its decoder ended, or had to be ended.
          RunError: no process can be started.
        """
        with self._slots:
            process = self._take()
            try:
                decoded = process.decode(data, target, self._seconds)
            except TimeoutError:
                process.end(0)
                message = f"decoding it took longer than {self._seconds:g} seconds"
                raise ImageError(Reason.CORRUPT, message) from None
            except (OSError, EOFError, ValueError, KeyError, TypeError):
                message = f"its decoder crashed ({process.end()})"
                raise ImageError(Reason.CORRUPT, message) from None
            except ImageError:
                self._idle.append(process)
                raise
            self._idle.append(process)
            return decoded

    def _take(self) -> _Process:
        """Take an idle process that is alive, or start one."""
        with contextlib.suppress(IndexError):
            while True:
                process = self._idle.pop()
                if process.lives:
                    return process
                process.end()
        for wait in _WAITS_TO_START:
            # A machine that is short of memory may end one that is just starting.
            with contextlib.suppress(RunError):
                return _Process(self._prelude)
            time.sleep(wait)
        return _Process(self._prelude)

    def close(self) -> None:
        """End the idle processes."""
        with contextlib.suppress(IndexError):
            while True:
                self._idle.pop().end()


class _Process:
    """One sandbox, as it is seen from outside."""

    def __init__(self, prelude: str):
        path = [str(Path(pipeline.__file__).parents[1]), *filter(None, sys.path)]
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-I", "-c", _START.format(prelude=prelude)),
                    *(str(theirs.fileno()), *path),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=[theirs.fileno()],
                env={n: os.environ[n] for n in _ENVIRONMENT if n in os.environ} | _LITTLE_MEMORY,
                start_new_session=True,  # Ctrl-C is not for it
            )
        self._socket = ours
        assert self._process.stderr is not None
        with self._process.stderr as stderr:
            try:
                _receive(ours, time.monotonic() + _START_SECONDS)
            except (OSError, EOFError) as error:
                how = self.end()
                said = stderr.read().decode(errors="replace").strip().splitlines() or [how]
                message = f"the process that decodes images does not start: {said[-1]}"
                raise RunError(message) from error

    @property
    def lives(self) -> bool:
        return self._process.poll() is None

    def end(self, grace: float = 1.0) -> str:
        """End it, by force after some seconds; returns how it ended."""
        self._socket.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(grace)
        self._process.kill()
        code = self._process.wait()
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"

    def decode(self, data: bytes, target: Target, seconds: float) -> Decoded:
        """Have an image decoded.

        Raises:
          ImageError: the process says that it cannot be.
          TimeoutError: it has taken too long.
          OSError, EOFError, ValueError, KeyError, TypeError: it has ended, or talks nonsense.
        """
        deadline = time.monotonic() + seconds
        header = {**target._asdict(), "size": len(data), "seconds": seconds}
        _send(self._socket, header, data, deadline)
        answer = _receive(self._socket, deadline)
        if "kept" not in answer:
            return self._result(answer, target, deadline)
        with large_ones_alone(answer["kept"]):
            deadline = time.monotonic() + seconds
            _send(self._socket, {}, b"", deadline)
            return self._result(_receive(self._socket, deadline), target, deadline)

    def _result(self, answer: dict[str, Any], target: Target, deadline: float) -> Decoded:
        if "reason" in answer:
            raise ImageError(Reason(answer["reason"]), str(answer["message"])[:_MAX_MESSAGE])
        shape = (target.height, target.width, 3)
        content = _receive_bytes(self._socket, target.height * target.width * 3, deadline)
        pixels = np.frombuffer(content, np.uint8).reshape(shape)
        width, height = int(answer["width"]), int(answer["height"])
        return Decoded(pixels, width, height, float(answer["seconds"]))


def serve(descriptor: int) -> None:
    """Decode what comes through a socket, until it is closed. This is the sandbox's own side."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    connection = socket.socket(fileno=descriptor)
    _send(connection, {}, b"", None)
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)  # where libraries print to nobody
    with contextlib.suppress(EOFError, ConnectionError):
        while True:
            _serve_one(connection)


def _serve_one(connection: socket.socket) -> None:
    header = _receive(connection, None)
    seconds, size = header.pop("seconds"), header.pop("size")
    data = _receive_bytes(connection, size, None)
    after = int(seconds) + 5  # where the other side has ended before it could end this one
    limit = _MEMORY

    @contextlib.contextmanager
    def attend(kept: int) -> Iterator[None]:
        nonlocal limit
        if kept > LARGE_PIXELS:
            signal.alarm(0)
            _send(connection, {"kept": kept}, b"", None)
            _receive(connection, None)
            signal.alarm(after)
        limit += _MEMORY_OF_A_PIXEL * kept
        _limit_memory(limit)
        yield

    started = time.process_time()
    signal.alarm(after)
    _limit_memory(limit)
    pixels = b""
    answer: dict[str, Any]
    try:
        decoded = decode_here(bytes(data), Target(**header), attend)
    except ImageError as error:
        reason, message = error.reason, error.message
        if isinstance(error.__cause__, MemoryError):
            reason, message = Reason.CORRUPT, f"decoding it took more than {limit / 1e6:,.0f} MB"
        answer = {"reason": reason.value, "message": message[:_MAX_MESSAGE]}
    else:
        pixels = decoded.pixels.tobytes()
        answer = {"width": decoded.width, "height": decoded.height}
        answer["seconds"] = time.process_time() - started
    signal.alarm(0)
    _limit_memory(None)
    _send(connection, answer, pixels, None)


def _limit_memory(more: int | None) -> None:
    """Let this process take so many bytes more than it has now; only Linux keeps to that."""
    if not _MEMORY_NOW.exists():
        return
    limit = resource.RLIM_INFINITY
    if more is not None:
        limit = int(_MEMORY_NOW.read_bytes().split()[0]) * resource.getpagesize() + more
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    if most != resource.RLIM_INFINITY:
        limit = most if more is None else min(limit, most)
    resource.setrlimit(resource.RLIMIT_AS, (limit, most))


def _send(
    connection: socket.socket, header: dict[str, Any], content: bytes, deadline: float | None
) -> None:
    text = json.dumps(header).encode()
    _wait_until(connection, deadline)
    connection.sendall(struct.pack(">I", len(text)) + text)
    _wait_until(connection, deadline)
    connection.sendall(content)


def _receive(connection: socket.socket, deadline: float | None) -> dict[str, Any]:
    """Receive a message's header.

    Raises:
      EOFError: the other side has ended.
      TimeoutError: it sends nothing.
      ValueError: it sends nonsense.
    """
    (size,) = struct.unpack(">I", _receive_bytes(connection, 4, deadline))
    if size > _MAX_HEADER:
        raise ValueError(f"a header of {size} bytes")
    header = json.loads(_receive_bytes(connection, size, deadline))
    if not isinstance(header, dict):
        raise ValueError(f"a header that is {header!r}")
    return header


def _receive_bytes(connection: socket.socket, size: int, deadline: float | None) -> bytearray:
    content = bytearray(size)
    view = memoryview(content)
    while view:
        _wait_until(connection, deadline)
        received = connection.recv_into(view)
        if not received:
            raise EOFError("the other side has ended")
        view = view[received:]
    return content


def _wait_until(connection: socket.socket, deadline: float | None) -> None:
    """Have the next call on a socket end at that time.

    Raises:
      TimeoutError: it is past.
    """
    left = None if deadline is None else deadline - time.monotonic()
    if left is not None and left <= 0:
        raise TimeoutError
    connection.settimeout(left)
