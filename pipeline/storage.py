"""Reads whole files from wherever they are: any filesystem that Beam knows, or http(s)."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import stat
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import requests
import urllib3
from apache_beam.io.aws.clients.s3.messages import S3ClientError
from apache_beam.io.filesystem import BeamIOError, CompressionTypes
from apache_beam.io.filesystems import FileSystems
from google.api_core.exceptions import GoogleAPIError, RetryError
from google.auth.exceptions import GoogleAuthError

from pipeline.errors import ImageError
from pipeline.records import Reason

# Far above any photograph; what is larger is something else under an image's name.
MAX_BYTES = 256 * 2**20

# Seconds: to connect, and between two packets.
_HTTP_TIMEOUT = (10, 30)

# What a failing store raises through Beam's filesystems. ValueError: no filesystem serves the
# scheme, or the URI makes no sense to the one that does; NotImplementedError: a gzipped object on
# GCS that is marked as compressed twice.
STORE_ERRORS = (
    OSError,
    BeamIOError,
    GoogleAPIError,
    GoogleAuthError,
    S3ClientError,
    ValueError,
    NotImplementedError,
)


def is_http(uri: str) -> bool:
    """Whether an http(s) server is to be asked, which no filesystem of Beam's does."""
    return uri.lower().startswith(("http://", "https://"))


def is_remote(uri: str) -> bool:
    """Whether the URI has a scheme, other than ``file``."""
    return re.match(r"(?!file:)[a-z][a-z0-9+.-]*://", uri, re.IGNORECASE) is not None


def local_path(uri: str) -> str:
    """An absolute path for a path or ``file://`` URI on this machine.

    In a URI, and only there, bytes may be written as ``%20``, as ``Path.as_uri`` does.
    """
    as_uri = re.match(r"file:(?://(?:localhost)?)?(/.*)", uri, re.IGNORECASE | re.DOTALL)
    if as_uri:
        return os.path.abspath(urllib.parse.unquote(as_uri[1], errors="surrogateescape"))
    return os.path.abspath(os.path.expanduser(uri))


def read_bytes(uri: str) -> bytes:
    """The whole content of a file.

    Raises:
      ImageError: with the reason why it cannot be read.
    """
    try:
        if is_http(uri):
            return _read_http(uri)
        path = uri
        if not is_remote(uri):
            path = local_path(uri)
            if uri.endswith("/"):
                raise PermissionError(f"this folder cannot be opened: {path}")
            if not stat.S_ISREG(Path(path).stat().st_mode):  # a pipe would block for ever
                raise ImageError(Reason.UNREADABLE, f"not a file with content: {path}")
        with FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED) as file:
            data = file.read(MAX_BYTES + 1)
    except (*STORE_ERRORS, requests.RequestException, urllib3.exceptions.HTTPError) as error:
        raise _read_error(error) from error
    if len(data) > MAX_BYTES:
        raise _too_large()
    return data


def _read_http(url: str) -> bytes:
    data = bytearray()
    with _http_session().get(url, timeout=_HTTP_TIMEOUT, stream=True) as response:
        response.raise_for_status()
        for chunk in response.iter_content(2**18):
            data += chunk
            if len(data) > MAX_BYTES:
                raise _too_large()
    return bytes(data)


@contextlib.contextmanager
def open_http(url: str, query: dict[str, str]) -> Iterator[IO[bytes]]:
    """The body of a server's answer as it comes over the wire, to be read in pieces.

    Raises:
      OSError or urllib3's HTTPError: the request failed; reading can raise them, too.
    """
    headers = {"Accept-Encoding": "identity"}
    with _http_session().get(
        url, params=query, headers=headers, timeout=_HTTP_TIMEOUT, stream=True
    ) as response:
        response.raise_for_status()
        body: Any = response.raw
        body.auto_close = False  # io's readers take a file that closes itself for an error
        yield body


@functools.lru_cache(maxsize=1)
def _http_session() -> requests.Session:
    """One session a process: connections are kept open and shared between the reading threads."""
    session = requests.Session()
    session.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=64))
    session.mount("https://", requests.adapters.HTTPAdapter(pool_maxsize=64))
    return session


def _too_large() -> ImageError:
    return ImageError(Reason.TOO_LARGE, f"more than {MAX_BYTES:,} bytes")


def _read_error(error: Exception) -> ImageError:
    """The named reason for what a store raised."""
    if isinstance(error, BeamIOError) and error.exception_details:
        # Beam wraps one error a path; a single path was asked for.
        inner = next(iter(error.exception_details.values()))
        if isinstance(inner, Exception):
            return _read_error(inner)
    if isinstance(error, RetryError) and isinstance(error.cause, Exception):
        return _read_error(error.cause)
    status = _status(error)
    if isinstance(error, FileNotFoundError) or status in (404, 410):
        reason = Reason.NOT_FOUND
    elif isinstance(error, PermissionError) or status in (401, 403):
        reason = Reason.FORBIDDEN
    elif isinstance(error, (TimeoutError, requests.Timeout)) or status in (408, 504):
        reason = Reason.TIMEOUT
    elif error.args and isinstance(error.args[0], urllib3.exceptions.ReadTimeoutError):
        # What requests makes of a server that falls silent in the middle of the file.
        reason = Reason.TIMEOUT
    else:
        reason = Reason.UNREADABLE
    return ImageError(reason, _one_line(error))


def _status(error: Exception) -> int | None:
    """The HTTP status behind an error of requests, Google's clients or Beam's S3 client."""
    if isinstance(error, requests.RequestException):
        return None if error.response is None else error.response.status_code
    return getattr(error, "code", None)


def _one_line(error: Exception) -> str:
    message = error.message if isinstance(error, S3ClientError) else error
    return " ".join(str(message).split()) or type(error).__name__
