"""Reads files from anywhere: whole and with a time limit, or in pieces."""

from __future__ import annotations

import functools
import io
import stat
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from pipeline.errors import ImageError, StoreError
from pipeline.limits import DEFAULT_LIMITS
from pipeline.records import Reason
from pipeline.redaction import redact
from pipeline.storage import object_stores
from pipeline.storage.errors import MappedFile, mapped
from pipeline.storage.hosts import HOSTS, MAX_WAIT, persistently
from pipeline.storage.http import Content, read_http
from pipeline.storage.memory import Claim, NeedsMemoryError
from pipeline.storage.object_stores import Body, check_size
from pipeline.storage.threads import within
from pipeline.storage.uris import bucket_of, is_http, is_remote, local_path


def read_bytes(
    uri: str,
    max_bytes: int = DEFAULT_LIMITS.max_image_bytes,
    timeout_seconds: float = DEFAULT_LIMITS.read_timeout_seconds,
    max_wait: float = MAX_WAIT,
    is_given: bool = True,
) -> bytes:
    """Read the whole content of a file; see ``read_content``."""
    return read_content(uri, max_bytes, timeout_seconds, max_wait, is_given).data


def read_content(
    uri: str,
    max_bytes: int = DEFAULT_LIMITS.max_image_bytes,
    timeout_seconds: float = DEFAULT_LIMITS.read_timeout_seconds,
    max_wait: float = MAX_WAIT,
    is_given: bool = True,
    claim: Claim | None = None,
) -> Content:
    """Read the whole content of a file, and its version if a server says it.

    A read from a store or server is tried up to four times, with growing waits, as long as the
    failure may pass: a status that says so, a broken connection, too few bytes, too long a wait. A
    server or store that asks to wait is not asked meanwhile, by any thread, and that does not count
    as an attempt.

    Args:
      uri: a path or URI.
      max_bytes: larger files are not read.
      timeout_seconds: time limit of each attempt. Files on this machine have none.
      max_wait: seconds that a server may ask to wait.
      is_given: whether the user, or a list of the user's, names the file; else a server gets only
        those of the user's headers that name it.
      claim: has room for the content. If it turns out to have too little, the file is read again
        as soon as there is room. None if the memory is not bounded.

    Raises:
      ImageError: the file cannot be read; the error has the reason. ``TIMEOUT`` and ``UNAVAILABLE``
        are raised after the last attempt, the others at once.
    """
    try:
        if not is_remote(uri):
            return Content(_read_local(uri, max_bytes, claim))
        attempt = functools.partial(
            _read_remote, uri, max_bytes, timeout_seconds, max_wait, is_given, claim
        )
        while True:
            try:
                return persistently(attempt)
            except NeedsMemoryError as error:
                if claim is not None:
                    claim.renew(error.size)
    except StoreError as error:
        raise ImageError(error.reason, error.message) from error


def open_file(uri: str) -> BinaryIO:
    """Open a file for reading in pieces, without a time limit.

    Args:
      uri: a path or URI, but not of a server.

    Raises:
      StoreError: it cannot be opened. Reading can raise it as well.
    """
    with mapped():
        path = uri if is_remote(uri) else local_path(uri)
        file = FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED)
    return io.BufferedReader(MappedFile(file))


def _read_local(uri: str, max_bytes: int, claim: Claim | None) -> bytes:
    path = local_path(uri)
    if uri.endswith("/"):
        raise StoreError(Reason.FORBIDDEN, redact(f"this folder cannot be opened: {path}"))
    with mapped():
        status = Path(path).stat()
    if not stat.S_ISREG(status.st_mode):  # a pipe would block forever
        raise StoreError(Reason.UNREADABLE, redact(f"not a file with content: {path}"))
    check_size(status.st_size, max_bytes)
    if claim is not None:
        try:
            claim.grow(status.st_size, status.st_size)
        except NeedsMemoryError as error:
            claim.renew(error.size)
    with mapped(), Path(path).open("rb") as file:
        data = file.read(max_bytes + 1)
    check_size(len(data), max_bytes)
    return data


def _read_remote(
    uri: str,
    max_bytes: int,
    seconds: float,
    max_wait: float,
    is_given: bool,
    claim: Claim | None,
) -> Content:
    """Make one attempt."""
    if is_http(uri):
        return read_http(uri, max_bytes, seconds, max_wait, is_given, claim)
    read = _reader(uri, seconds)
    with HOSTS.turn(bucket_of(uri), max_wait=max_wait):
        return Content(within(seconds, _fill, read, Body(max_bytes, seconds, claim)))


def _fill(read: Callable[[Body], None], body: Body) -> bytes:
    read(body)
    return bytes(body.data)


def _reader(uri: str, seconds: float) -> Callable[[Body], None]:
    """Choose what reads this file. Make its client now, since that is not part of any attempt."""
    scheme = uri.partition(":")[0].lower()
    if scheme == "gs":
        return functools.partial(object_stores.read_gcs, object_stores.gcs_client(), uri)
    if scheme == "s3":
        return functools.partial(object_stores.read_s3, object_stores.s3_client(seconds), uri)
    return functools.partial(_read_beam, uri)


def _read_beam(uri: str, body: Body) -> None:
    with mapped(), FileSystems.open(uri, compression_type=CompressionTypes.UNCOMPRESSED) as file:
        body.write(file.read(body.max_bytes + 1))
