"""Allows one run at a time on an output: a run takes the output's lock, which ends with its holder.

On this machine it is a file lock, which the system releases when the process ends, in whatever way.
In a bucket, where nobody does that, it is an object that its holder renews.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import signal
import socket
import threading
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import IO, Any

from pipeline import console, storage
from pipeline.errors import OutputError, StoreError
from pipeline.records import TIME
from pipeline.shutdown import Step, at

# The lock's file or object in the output folder.
FILE_NAME = ".claim"

# Seconds. A holder may miss some renewals.
RENEWED_EVERY = 20.0
EXPIRES_AFTER = 120.0

# Seconds after which it shows if another run wrote its lock at the same moment.
_SETTLES_IN = 1.0


@contextlib.contextmanager
def held(output: str) -> Iterator[None]:
    """Hold the lock of an output folder while in this context.

    Args:
      output: absolute path or URI of the folder, which exists if its file system has folders.

    Raises:
      OutputError: another run holds it; the message says which.
    """
    path = storage.join(output, FILE_NAME)
    try:
        lock = None if storage.is_remote(output) else _lock(path)
    except OSError as error:
        raise OutputError(f"cannot be locked: {error}", subject="output", given=output) from error
    if lock is None:
        with _renewed(path):
            yield
        return
    with lock:
        try:
            yield
        finally:
            with contextlib.suppress(FileNotFoundError):  # the folder was deleted meanwhile
                Path(path).unlink()


def refuse_held(output: str) -> None:
    """Refuse an output folder if another run holds its lock; do not take the lock.

    Raises:
      OutputError: another run holds it; the message says which.
    """
    path = storage.join(output, FILE_NAME)
    if storage.is_remote(output):
        _refuse_other(path)
        return
    with contextlib.suppress(FileNotFoundError), Path(path).open(encoding="utf-8") as file:
        try:
            # A shared lock, for a moment.
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _in_use(path, file.read(), "wait until it has ended") from None
        except OSError:  # files cannot be locked there
            _refuse_other(path)


def _lock(path: str) -> IO[str] | None:
    """Lock the file; return None if files cannot be locked, as on a mounted bucket."""
    while True:
        file = open(path, "a+", encoding="utf-8")  # noqa: SIM115, PTH123 - its lock is to last
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with file:
                file.seek(0)
                raise _in_use(path, file.read(), "wait until it has ended") from None
        except OSError:
            file.close()
            return None
        if _is_still(file, path):
            file.truncate(0)
            file.write(json.dumps(_holder()))
            file.flush()
            return file
        file.close()  # its holder has just removed it, so this locked a deleted file


def _is_still(file: IO[str], path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), Path(path).stat())
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def _renewed(path: str) -> Iterator[None]:
    """Hold a lock that is an object, and renew it while in this context."""
    holder = _holder()
    _refuse_other(path)
    _write(path, holder)
    time.sleep(_SETTLES_IN)
    other = _read(path)
    if other is None or other.get("token") != holder["token"]:
        raise _in_use(path, json.dumps(other), "wait until it has ended")
    ended = threading.Event()
    thread = threading.Thread(target=_renew, args=(path, holder, ended), daemon=True)
    thread.start()
    _RENEWED[path] = holder["token"]
    try:
        yield
    finally:
        ended.set()
        thread.join()
        release()


def _refuse_other(path: str) -> None:
    """Refuse a lock of another run that is an object and has not expired."""
    other = _read(path)
    if other is None:
        return
    left = EXPIRES_AFTER - (time.time() - other.get("renewed", 0.0))
    if left > 0:
        raise _in_use(
            path,
            json.dumps(other),
            f"wait until it has ended; if it is dead, its lock expires in {left:.0f} s",
        )


# The locks that this process renews: path → token.
_RENEWED: dict[str, str] = {}


@at(Step.RELEASE_LOCK)
def release() -> None:
    """Release the locks that would outlive this process."""
    while _RENEWED:
        path, token = _RENEWED.popitem()
        with contextlib.suppress(StoreError):
            found = _read(path)
            if found is not None and found.get("token") == token:  # else another run has it
                storage.delete([path])


def _renew(path: str, holder: dict[str, Any], ended: threading.Event) -> None:
    while not ended.wait(RENEWED_EVERY):
        try:
            other = _read(path)
            if other is not None and other.get("token") != holder["token"]:
                console.say(
                    f"error: another run has locked the output ({_described(other)}), while this "
                    "one could not renew its lock; this one ends"
                )
                os.kill(os.getpid(), signal.SIGTERM)
                return
            _write(path, holder)
        except StoreError as error:
            console.say(f"warning: the lock of the output cannot be renewed: {error}")


def _holder() -> dict[str, Any]:
    return {
        "token": secrets.token_hex(8),
        "host": socket.gethostname(),
        "process": os.getpid(),
        "since": f"{datetime.now(timezone.utc):{TIME}}",
    }


def _write(path: str, holder: dict[str, Any]) -> None:
    storage.write_file(path, json.dumps(holder | {"renewed": time.time()}).encode())


def _read(path: str) -> dict[str, Any] | None:
    """Read what a lock says; None if it says nothing, and so nobody holds it."""
    if not storage.exists(path):
        return None
    with storage.open_file(path) as file:
        content = file.read()
    try:
        return dict(json.loads(content))
    except (TypeError, ValueError):
        return None


def _in_use(path: str, holder: str, remedy: str) -> OutputError:
    try:
        described = _described(json.loads(holder))
    except (ValueError, TypeError):  # it is just being written
        described = "another process"
    return OutputError(
        f"a run is writing there ({described})",
        subject="output",
        given=path.rpartition("/")[0],
        remedy=remedy,
    )


def _described(holder: dict[str, Any]) -> str:
    return f"process {holder.get('process')} on {holder.get('host')}, since {holder.get('since')}"
