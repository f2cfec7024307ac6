"""Turns errors of stores, servers and their clients into ours, here and nowhere else.

``mapped`` surrounds calls of Beam's filesystems, of Google's and Amazon's clients, and of requests,
and nothing else. So a ``ValueError`` of theirs is a store's failure, and one of ours is a bug.
"""

from __future__ import annotations

import contextlib
import io
import math
import re
import socket
import ssl
from collections.abc import Iterator
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import IO, Any, BinaryIO

import botocore.exceptions as aws
import requests
import urllib3
from apache_beam.io.aws.clients.s3.messages import S3ClientError
from apache_beam.io.filesystem import BeamIOError
from google.api_core.exceptions import GoogleAPIError
from google.auth.exceptions import GoogleAuthError, TransportError
from google.cloud.storage.exceptions import DataCorruption, InvalidResponse

from pipeline.errors import StoreError
from pipeline.records import Reason
from pipeline.redaction import redact

# Schemes of Azure's storage. What Beam has for one of them needs packages that are not installed.
_AZURE = re.compile(r"\b(azure|azfs|az|abfss?|adl|wasbs?)://", re.IGNORECASE)

# With what urllib3 begins the message of a connection that failed, after the class of its own.
_CONNECTION = re.compile(r"^\w+\(host='([^']*)', port=(\d+)\): ")

_INSTEAD_OF_AZURE = (
    "give https URLs with a shared access signature, or mount the container with blobfuse2 and "
    "give its path"
)

# What the calls that ``mapped`` surrounds raise.
_CLIENT_ERRORS = (
    OSError,  # includes all errors of requests
    BeamIOError,
    GoogleAPIError,
    GoogleAuthError,
    DataCorruption,
    InvalidResponse,
    S3ClientError,
    aws.BotoCoreError,
    aws.ClientError,
    urllib3.exceptions.HTTPError,
    ValueError,  # no filesystem serves the scheme, or the one that does cannot parse the URI
    NotImplementedError,  # Beam's, if a filesystem cannot do this
    NameError,  # Beam's filesystem for Azure, without the packages that it needs
    AttributeError,  # Beam's S3 client looks for a status in the answer that a broken connection
    # did not bring
)

# The connection broke, or what arrived is not what was sent.
_BROKEN = (
    ConnectionError,
    requests.ConnectionError,
    requests.exceptions.ChunkedEncodingError,
    urllib3.exceptions.ProtocolError,
    urllib3.exceptions.NewConnectionError,
    socket.gaierror,
    ssl.SSLError,
    aws.HTTPClientError,
    aws.ConnectionError,
    aws.IncompleteReadError,
    aws.FlexibleChecksumError,
    DataCorruption,
    GoogleAuthError,  # except those that mean missing credentials
)

_TIMED_OUT = (
    TimeoutError,
    requests.Timeout,
    urllib3.exceptions.ReadTimeoutError,  # its ConnectTimeoutError includes refused connections
    aws.ReadTimeoutError,
    aws.ConnectTimeoutError,
)


@contextlib.contextmanager
def mapped() -> Iterator[None]:
    """Turn whatever a store's client raises in here into a ``StoreError``.

    Surround only the client's call, never the code that uses its result.

    Raises:
      StoreError: the client raised; the reason says whether another attempt could help.
    """
    try:
        yield
    except _CLIENT_ERRORS as error:
        causes = list(_causes(error))
        wait = next(filter(None, map(_wait, causes)), None)
        raise StoreError(_reason(causes), redact(_one_line(error, causes)), wait) from error


class MappedFile(io.RawIOBase):
    """A client's open file that raises ``StoreError`` when it cannot be read.

    Args:
      file: what the client opened; closed with this one.
    """

    def __init__(self, file: IO[bytes] | BinaryIO):
        super().__init__()
        self._file = file

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """Tell whether the client can read from any position."""
        with mapped():
            return self._file.seekable()

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer, or the beginning of it; 0 at the end of the file."""
        with mapped():
            data = self._file.read(len(buffer)) or b""
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to another position."""
        with mapped():
            self._file.seek(offset, whence)
            return self._file.tell()

    def tell(self) -> int:
        """Tell the position, in bytes from the beginning."""
        with mapped():
            return self._file.tell()

    def close(self) -> None:
        """Close the client's file."""
        if not self.closed:
            super().close()
            with mapped():
                self._file.close()


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield the error and its causes, outermost first.

    Beam wraps one error per path, Google's retries wrap the last error, and requests and urllib3
    wrap that of the layer below.
    """
    pending, seen = [error], set()
    while pending:
        error = pending.pop(0)
        if id(error) in seen:
            continue
        seen.add(id(error))
        yield error
        inner = [*error.args, error.__cause__]
        inner += [getattr(error, name, None) for name in ("reason", "cause")]
        if isinstance(error, BeamIOError):
            inner += (error.exception_details or {}).values()
        pending += [cause for cause in inner if isinstance(cause, BaseException)]


def _reason(causes: list[BaseException]) -> Reason:
    status = next(filter(None, map(status_of, causes)), None)
    if _any_is(causes, FileNotFoundError) or status in (404, 410):
        return Reason.NOT_FOUND
    if any(map(_is_refused, causes)) or status in (401, 403):
        return Reason.FORBIDDEN
    if status in (408, 504):
        return Reason.TIMEOUT
    if status is not None:
        # 501 and 505: the server does not support the request.
        busy = status == 429 or (status >= 500 and status not in (501, 505))
        return Reason.UNAVAILABLE if busy else Reason.UNREADABLE
    if _any_is(causes, _TIMED_OUT):
        return Reason.TIMEOUT
    if any(map(_is_for_good, causes)):
        return Reason.UNREADABLE
    return Reason.UNAVAILABLE if _any_is(causes, _BROKEN) else Reason.UNREADABLE


def _any_is(causes: list[BaseException], types: Any) -> bool:
    return any(isinstance(cause, types) for cause in causes)


def _is_refused(error: BaseException) -> bool:
    """Tell whether permission is denied, or there are no credentials to ask for it."""
    if isinstance(error, GoogleAuthError):
        return not (error.retryable or isinstance(error, TransportError))
    return isinstance(error, (PermissionError, aws.NoCredentialsError, aws.PartialCredentialsError))


def _is_for_good(error: BaseException) -> bool:
    """Tell whether another attempt cannot help: an unknown host, or a bad certificate."""
    if isinstance(error, socket.gaierror):
        return error.errno == socket.EAI_NONAME
    return isinstance(error, ssl.SSLCertVerificationError)


def status_of(error: BaseException | None) -> int | None:
    """Find the HTTP status behind an error of requests, or of Google's or Amazon's clients."""
    response = getattr(error, "response", None)
    if isinstance(error, aws.ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    elif isinstance(response, requests.Response):
        status = response.status_code
    else:
        status = getattr(error, "code", None)
    return status if isinstance(status, int) else None


def _wait(error: BaseException) -> float | None:
    """Find the seconds that a busy store or server asks to wait; None if it does not ask."""
    if status_of(error) not in (429, 503):
        return None
    response = getattr(error, "response", None)
    if isinstance(error, aws.ClientError):
        headers = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
        return wait_in(headers.get("retry-after"), headers.get("date"))
    if isinstance(response, requests.Response):
        return wait_in(response.headers.get("Retry-After"), response.headers.get("Date"))
    return None


def wait_in(retry_after: str | None, date: str | None) -> float | None:
    """Read how many seconds an answer asks to wait; None if it does not, or makes no sense.

    Args:
      retry_after: the header of that name: seconds, or a time.
      date: the header of that name, the time on the server's clock, which may be wrong.
    """
    text = (retry_after or "").strip()
    if text.isascii() and text.isdecimal():
        seconds = float(text) if len(text) < 10 else math.inf
    else:
        then = _time_in(text)
        if then is None:
            return None
        now = _time_in(date or "") or datetime.now(timezone.utc)
        seconds = (then - now).total_seconds()
    return seconds if seconds > 0 else None


def _time_in(text: str) -> datetime | None:
    try:
        time_ = parsedate_to_datetime(text)
    except (ValueError, OverflowError, IndexError, TypeError):
        return None
    return time_ if time_.tzinfo else time_.replace(tzinfo=timezone.utc)


def _one_line(error: BaseException, causes: list[BaseException]) -> str:
    for cause in causes:
        if isinstance(cause, urllib3.exceptions.NewConnectionError):
            # Without its wrapping, which names classes of the client and repeats the URL.
            return _CONNECTION.sub(r"\1:\2: ", " ".join(str(cause).split()))
    message = error.message if isinstance(error, S3ClientError) else error
    words = " ".join(str(message).split()) or type(error).__name__
    if "BlobServiceClient" in words:  # Beam's, without the packages that it needs
        return f"azfs:// is not supported; {_INSTEAD_OF_AZURE}"
    azure = _AZURE.search(words)
    if azure is not None and words.startswith("Unable to get filesystem"):
        return f"{azure[0]} is not supported; {_INSTEAD_OF_AZURE}"
    if "Anonymous caller" in words:
        words += "; there are no Google credentials: run 'gcloud auth application-default login'"
    return words
