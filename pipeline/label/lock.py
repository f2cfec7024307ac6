"""Allows one run at a time on an output: a run claims the output, and so does the job it starts.

On this machine the claim is a file lock, which the system releases when the process ends, in
whatever way. In a bucket, where nobody does that, it is an object that its holder renews. Google's
and Amazon's stores write it only if nobody else has done so meanwhile, so one of several holds it.
Other stores, file systems without locks, and stores that only resemble Amazon's have no such
promise. There a holder looks again after a moment whether its claim is still there, and two hold
the output if a write takes longer than that.

A job elsewhere outlives the process that has started it. The claim names it, and is judged by the
job's own state once the process has ended.
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
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import IO, Any, NamedTuple

from pipeline import console, storage
from pipeline.errors import OutputError, StoreError, UsageError
from pipeline.records import TIME
from pipeline.runners import jobs
from pipeline.shutdown import Step, at

# The claim's file or object in the output folder.
FILE_NAME = ".claim"

# Seconds. A holder may miss some renewals.
RENEWED_EVERY = 20.0
EXPIRES_AFTER = 120.0

# Seconds after which it shows if another run wrote its claim at the same moment.
_SETTLES_IN = 1.0


class Key(NamedTuple):
    """Where a claim is, and what tells it from others; a worker releases it with this."""

    path: str
    token: str


class Claim:
    """An output that this process holds.

    Args:
      path: of the file or object.
      file: the locked file; None if the claim is an object, or a file that cannot be locked.
    """

    def __init__(self, path: str, file: IO[str] | None = None):
        self.key = Key(path, secrets.token_hex(8))
        self._file = file
        # Also taken in a signal's handler, while this thread may hold it.
        self._lock = threading.RLock()
        self._is_over = False
        self._content: dict[str, Any] = {
            "token": self.key.token,
            "host": socket.gethostname(),
            "process": os.getpid(),
            "since": f"{datetime.now(timezone.utc):{TIME}}",
        }

    @property
    def names_job(self) -> bool:
        """Whether a job goes on when this process ends."""
        return "job" in self._content

    def name_job(self, job: Mapping[str, Any] | None) -> None:
        """Note the job that writes into the output, or that it has ended (None)."""
        with self._lock:
            self._content.pop("job", None)
            if job is not None:
                self._content["job"] = dict(job)
        try:
            self.write()
        except StoreError as error:
            console.say(f"warning: the job cannot be noted in {self.key.path}: {error}")

    def end(self) -> None:
        """Release the output, or leave it to the job that the claim names; write no more."""
        with self._lock, contextlib.suppress(StoreError):
            try:
                if self.names_job:
                    self._content["is_left"] = True
                    self.write()
                else:
                    release(self.key)
            finally:
                self._is_over = True

    def content(self) -> bytes:
        """Return what the claim says now."""
        return json.dumps(self._content | {"renewed": time.time()}).encode()

    def write(self) -> bool:
        """Write the claim, if nobody else holds the output; return whether it is still held.

        Raises:
          StoreError: the store cannot be asked.
        """
        with self._lock:
            if self._is_over:
                return True
            if self._file is not None:
                self._file.truncate(0)
                self._file.write(self.content().decode())
                self._file.flush()
                return True
            while True:
                found = storage.read_versioned(self.key.path)
                if found is not None and _parsed(found.data).get("token") != self.key.token:
                    return False
                version = None if found is None else found.version
                if storage.write_if(self.key.path, self.content(), version):
                    return True


@contextlib.contextmanager
def held(output: str, own_job: Mapping[str, Any] | None = None) -> Iterator[Claim]:
    """Hold an output folder while in this context, and longer if a job goes on.

    Args:
      output: absolute path or URI of the folder, which exists if its file system has folders.
      own_job: the job that this process describes and somebody else has begun, if there is one.

    Raises:
      OutputError: another run, or its job, holds it; the message says which.
    """
    path = storage.join(output, FILE_NAME)
    try:
        file = None if storage.is_remote(output) else _locked(path)
    except OSError as error:
        raise OutputError(f"cannot be locked: {error}", subject="output", given=output) from error
    if file is None:
        with _renewed(path, own_job) as claim:
            yield claim
        return
    with file:
        _refuse_job_of(path, _parsed(file.read().encode()), own_job)
        claim = Claim(path, file)
        claim.write()
        try:
            yield claim
        finally:
            if not claim.names_job:
                with contextlib.suppress(FileNotFoundError):  # the folder was deleted meanwhile
                    Path(path).unlink()


def refuse_held(output: str) -> None:
    """Refuse an output folder if another run or its job holds it; do not claim it.

    Raises:
      OutputError: another one holds it; the message says which.
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
            raise _in_use(path, _parsed(file.read().encode())) from None
        except OSError:  # files cannot be locked there
            _refuse_other(path)
            return
        _refuse_job_of(path, _parsed(file.read().encode()))


def release(key: Key) -> None:
    """Release a claim, unless another run has it.

    Raises:
      StoreError: the store cannot be asked.
    """
    found = storage.read_versioned(key.path)
    if found is not None and _parsed(found.data).get("token") == key.token:
        storage.delete_if(key.path, found.version)


def _locked(path: str) -> IO[str] | None:
    """Lock the file; return None if files cannot be locked, as on a mounted bucket."""
    while True:
        file = open(path, "a+", encoding="utf-8")  # noqa: SIM115, PTH123 - its lock is to last
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with file:
                file.seek(0)
                raise _in_use(path, _parsed(file.read().encode())) from None
        except OSError:
            file.close()
            return None
        if _is_still(file, path):
            file.seek(0)
            return file
        file.close()  # its holder has just removed it, so this locked a deleted file


def _is_still(file: IO[str], path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), Path(path).stat())
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def _renewed(path: str, own_job: Mapping[str, Any] | None) -> Iterator[Claim]:
    """Hold a claim that is an object, and renew it while in this context."""
    claim = Claim(path)
    _take(claim, own_job)
    ended = threading.Event()
    thread = threading.Thread(target=_renew, args=(claim, ended), daemon=True)
    thread.start()
    _RENEWED[path] = claim
    try:
        yield claim
    finally:
        ended.set()
        thread.join()
        if _RENEWED.pop(path, None) is not None:
            claim.end()


def _take(claim: Claim, own_job: Mapping[str, Any] | None) -> None:
    """Write a claim, in place of one that is no longer held.

    Raises:
      OutputError: another run holds the output.
    """
    path, token = claim.key
    while True:
        found = storage.read_versioned(path)
        if found is not None:
            other = _parsed(found.data)
            if other.get("token") == token:
                break  # the answer to the request that wrote it was lost
            _refuse(path, other, own_job)
        if storage.write_if(path, claim.content(), None if found is None else found.version):
            break
    if storage.honors_conditions(path, claim.content()):
        return
    time.sleep(_SETTLES_IN)
    found = storage.read_versioned(path)
    other = {} if found is None else _parsed(found.data)
    if other.get("token") != token:
        raise _in_use(path, other)


def _refuse_other(path: str) -> None:
    """Refuse a claim of another run that is an object."""
    found = storage.read_versioned(path)
    if found is not None:
        _refuse(path, _parsed(found.data))


def _refuse(path: str, other: Mapping[str, Any], own_job: Mapping[str, Any] | None = None) -> None:
    """Refuse a claim that has not expired, or whose job lives.

    A job with an ID is asked at once if the process that began it has said that it ends.
    """
    left = EXPIRES_AFTER - (time.time() - other.get("renewed", 0.0))
    if left > 0 and not (other.get("is_left") and other.get("job", {}).get("id")):
        raise _in_use(
            path,
            other,
            f"wait until it has ended; if it is dead, its lock expires in {left:.0f} s",
        )
    _refuse_job_of(path, other, own_job)


def _refuse_job_of(
    path: str, other: Mapping[str, Any], own_job: Mapping[str, Any] | None = None
) -> None:
    """Refuse a claim whose job lives, though the process that has started it has ended."""
    job = other.get("job")
    if not job:
        return
    output = path.rpartition("/")[0]
    try:
        living = jobs.living(job, own_job)
    except UsageError as error:
        raise OutputError(
            f"a job was writing there, and whether it has ended is not known: {error.problem}",
            subject="output",
            given=output,
            remedy=f"{error.remedy}; if you know that it has ended, delete {FILE_NAME} there",
        ) from error
    if living is not None:
        raise OutputError(
            f"a job is writing there ({living})",
            subject="output",
            given=output,
            remedy="wait until it has ended, or cancel it",
        )


# The claims that this process renews, by their paths.
_RENEWED: dict[str, Claim] = {}


@at(Step.RELEASE_LOCK)
def release_all() -> None:
    """Release the claims that would outlive this process, or leave them to its job."""
    while _RENEWED:
        _, claim = _RENEWED.popitem()
        claim.end()


def _renew(claim: Claim, ended: threading.Event) -> None:
    while not ended.wait(RENEWED_EVERY):
        try:
            if claim.write():
                continue
            found = storage.read_versioned(claim.key.path)
            other = {} if found is None else _parsed(found.data)
            console.say(
                f"error: another run has locked the output ({_described(other)}), while this "
                "one could not renew its lock; this one ends"
            )
            os.kill(os.getpid(), signal.SIGTERM)
            return
        except StoreError as error:
            console.say(f"warning: the lock of the output cannot be renewed: {error}")


def _parsed(content: bytes) -> dict[str, Any]:
    """Read what a claim says; nothing if it is just being written."""
    try:
        return dict(json.loads(content))
    except (TypeError, ValueError):
        return {}


def _in_use(
    path: str, other: Mapping[str, Any], remedy: str = "wait until it has ended"
) -> OutputError:
    return OutputError(
        f"a run is writing there ({_described(other)})",
        subject="output",
        given=path.rpartition("/")[0],
        remedy=remedy,
    )


def _described(holder: Mapping[str, Any]) -> str:
    if not holder:  # it is just being written, or gone
        return "another process"
    return f"process {holder.get('process')} on {holder.get('host')}, since {holder.get('since')}"
