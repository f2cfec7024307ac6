"""Reads whole files from wherever they are: any filesystem that Beam knows, or http(s)."""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import os
import re
import socket
import ssl
import stat
import urllib.parse
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any, TypeVar

import botocore.exceptions as aws
import requests
import tenacity
import urllib3
from apache_beam.io.aws.clients.s3.messages import S3ClientError
from apache_beam.io.filesystem import BeamIOError, CompressionTypes, FileMetadata
from apache_beam.io.filesystems import FileSystems
from google.api_core.exceptions import GoogleAPIError
from google.auth.exceptions import GoogleAuthError, TransportError
from google.cloud.storage.exceptions import DataCorruption, InvalidResponse

from pipeline.errors import ImageError
from pipeline.limits import DEFAULT_LIMITS
from pipeline.records import Reason
from pipeline.redaction import redact
from pipeline.storage import object_stores
from pipeline.storage.object_stores import CONNECT_TIMEOUT, MAX_CONNECTIONS, Body, check_size

# How often a read is tried whose failure may pass, and the seconds before the second attempt. Each
# further wait is twice as long. Up to so many seconds of jitter are added, so that threads which
# failed together do not come back together.
_ATTEMPTS = 4
_FIRST_WAIT = 0.5
_JITTER = 0.25

# Seconds: to connect, and between two packets.
_HTTP_TIMEOUT = (CONNECT_TIMEOUT, 30)

# What reading from a failing store raises. ValueError: no filesystem serves the scheme, or the URI
# makes no sense to the one that does; NotImplementedError: Beam's, of what a filesystem cannot do.
_READ_ERRORS = (
    OSError,  # with it all of requests' errors
    BeamIOError,
    GoogleAPIError,
    GoogleAuthError,
    DataCorruption,
    InvalidResponse,
    S3ClientError,
    aws.BotoCoreError,
    aws.ClientError,
    urllib3.exceptions.HTTPError,
    ValueError,
    NotImplementedError,
)

# And what anything else that is done with it through Beam raises. AttributeError: what Beam's S3
# client makes of a connection that breaks; it looks for a status in the answer that did not come.
STORE_ERRORS = (*_READ_ERRORS, AttributeError)

# The connection broke, or what came over it is not what was sent.
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
    GoogleAuthError,  # those that are not of no credentials
)

_TIMED_OUT = (
    TimeoutError,
    requests.Timeout,
    urllib3.exceptions.ReadTimeoutError,  # its ConnectTimeoutError is a refused connection, too
    aws.ReadTimeoutError,
    aws.ConnectTimeoutError,
)

# A thread that waits for a store cannot be stopped. One that takes too long is left to itself until
# its socket gives up, and another one goes on; hence many more than there are readers. Idle threads
# are used again, and none is started before there is need.
_THREADS = ThreadPoolExecutor(1024, thread_name_prefix="store")

T = TypeVar("T")


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


def read_bytes(
    uri: str,
    max_bytes: int = DEFAULT_LIMITS.max_image_bytes,
    timeout_seconds: float = DEFAULT_LIMITS.read_timeout_seconds,
) -> bytes:
    """The whole content of a file.

    From a store or server it is read up to four times, with growing waits, while the failure is one
    that may pass: a status that says so, a broken connection, too few bytes, too long a wait.

    Args:
      uri: a path or URI.
      max_bytes: what is larger is not read.
      timeout_seconds: for each attempt as a whole. Files on this machine are not timed.

    Raises:
      ImageError: with the reason why it cannot be read. ``TIMEOUT`` and ``UNAVAILABLE`` are what
        the last attempt met; the other reasons come at once.
    """
    if not is_remote(uri):
        return _read_local(uri, max_bytes)
    attempts = tenacity.Retrying(
        stop=tenacity.stop_after_attempt(_ATTEMPTS),
        wait=tenacity.wait_exponential_jitter(_FIRST_WAIT, jitter=_JITTER),
        retry=tenacity.retry_if_exception(_may_pass),
        reraise=True,
    )
    return attempts(_read_remote, uri, max_bytes, timeout_seconds)


def _may_pass(error: BaseException) -> bool:
    return isinstance(error, ImageError) and error.reason.is_transient


def _read_local(uri: str, max_bytes: int) -> bytes:
    path = local_path(uri)
    try:
        if uri.endswith("/"):
            raise PermissionError(f"this folder cannot be opened: {path}")
        if not stat.S_ISREG(Path(path).stat().st_mode):  # a pipe would block for ever
            raise ImageError(Reason.UNREADABLE, redact(f"not a file with content: {path}"))
        with Path(path).open("rb") as file:
            data = file.read(max_bytes + 1)
    except (OSError, ValueError) as error:
        raise _read_error(error) from error
    check_size(len(data), max_bytes)
    return data


def _read_remote(uri: str, max_bytes: int, seconds: float) -> bytes:
    """One attempt."""
    try:
        read = _reader(uri, seconds)
        return _within(seconds, _fill, read, Body(max_bytes, seconds))
    except _READ_ERRORS as error:
        raise _read_error(error) from error


def _fill(read: Callable[[Body], None], body: Body) -> bytes:
    read(body)
    return bytes(body.data)


def _reader(uri: str, seconds: float) -> Callable[[Body], None]:
    """What reads this file. Clients are made here, as that is not a part of any one attempt."""
    scheme = uri.partition(":")[0].lower()
    if scheme in ("http", "https"):
        return functools.partial(_read_http, uri)
    if scheme == "gs":
        return functools.partial(object_stores.read_gcs, object_stores.gcs_client(), uri)
    if scheme == "s3":
        return functools.partial(object_stores.read_s3, object_stores.s3_client(seconds), uri)
    return functools.partial(_read_beam, uri)


def _read_beam(uri: str, body: Body) -> None:
    with FileSystems.open(uri, compression_type=CompressionTypes.UNCOMPRESSED) as file:
        body.write(file.read(body.max_bytes + 1))


def _read_http(url: str, body: Body) -> None:
    timeout = (CONNECT_TIMEOUT, body.seconds)
    with _http_session().get(url, timeout=timeout, stream=True) as response:
        response.raise_for_status()
        # Whatever there is, and not, as iter_content does, so many bytes: the time is to be looked
        # at even if they come one by one.
        while chunk := response.raw.read1(2**18, decode_content=True):
            body.write(chunk)


def _within(seconds: float, function: Callable[..., T], *args: Any) -> T:
    """The result of a call to a store or server.

    Raises:
      TimeoutError: it is not there in time. The call goes on, unheard.
    """
    future = _THREADS.submit(function, *args)
    concurrent.futures.wait([future], seconds)
    if not future.done():
        future.cancel()  # should it still wait for a thread
        raise TimeoutError(f"no complete answer within {seconds:g} s")
    return future.result()


def version(uri: str, timeout_seconds: float = DEFAULT_LIMITS.read_timeout_seconds) -> str:
    """What changes when the file does, found out without reading it; "" if that cannot be done.

    Size and time; of a server, what it calls the version. It is asked once.
    """
    try:
        if not is_remote(uri):
            path = local_path(uri)
            status = Path(path).stat()
            return version_of(FileMetadata(path, status.st_size, status.st_mtime))
        return _within(timeout_seconds, _remote_version(uri, timeout_seconds))
    except STORE_ERRORS:
        return ""


def is_unchanged(
    uri: str, seen: str, timeout_seconds: float = DEFAULT_LIMITS.read_timeout_seconds
) -> bool:
    """Whether a row's image is that of a file, and the file is as it was labeled.

    The name of a TFRecord file's record is whatever its writer wanted: a file that has nothing to
    do with the run must not be taken for it. The record's version is that of the TFRecord file.

    Args:
      uri: the image's name.
      seen: its version, "" if that was not to be found out.
      timeout_seconds: for asking a store or server.
    """
    if seen:
        return version(uri, timeout_seconds) == seen
    return is_remote(uri)  # what is on this machine always has a version


def version_of(metadata: FileMetadata) -> str:
    """What ``version`` says of this file, from what a listing says of it.

    The time is in seconds: of a file on this machine with all its digits, else a whole number, as
    S3 tells it so of a single object and with fractions in a listing.
    """
    seconds = metadata.last_updated_in_seconds
    if is_remote(metadata.path):
        seconds = int(seconds)
    return f"{metadata.size_in_bytes} {seconds!r}"


def size_in(version: str) -> int | None:
    """The size that a version of ``version_of`` begins with; None if there is none."""
    size = version.partition(" ")[0]
    return int(size) if size.isdecimal() else None


def _remote_version(uri: str, seconds: float) -> Callable[[], str]:
    scheme = uri.partition(":")[0].lower()
    if scheme in ("http", "https"):
        return functools.partial(_http_version, uri, seconds)
    if scheme == "gs":
        client = object_stores.gcs_client()
        return lambda: version_of(object_stores.gcs_metadata(client, uri, seconds))
    if scheme == "s3":
        client = object_stores.s3_client(seconds)
        return lambda: version_of(object_stores.s3_metadata(client, uri))
    return lambda: version_of(FileSystems.get_filesystem(uri).metadata(uri))


def _http_version(url: str, seconds: float) -> str:
    # Without an encoding, whose length is none of the file's.
    headers = {"Accept-Encoding": "identity"}
    timeout = (CONNECT_TIMEOUT, seconds)
    with _http_session().head(
        url, headers=headers, timeout=timeout, allow_redirects=True
    ) as response:
        response.raise_for_status()
        tag = response.headers.get("ETag", "")
        modified = response.headers.get("Last-Modified", "")
        length = response.headers.get("Content-Length", "")
    return tag or (f"{length} {modified}" if modified and length else "")


def check_access(uri: str) -> None:
    """Find out at once what Beam takes minutes to find out.

    Raises:
      PermissionError: it is an s3:// URI, and there are no credentials; the message says where
        they can be put. Beam's own listing would try for six minutes.
    """
    if not uri.lower().startswith("s3://"):
        return
    try:
        if object_stores.has_s3_credentials():
            return
    except aws.BotoCoreError as error:
        raise PermissionError(f"the AWS credentials cannot be used: {error}") from error
    raise PermissionError(
        "there are no AWS credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, run "
        "'aws configure', or give --s3_access_key_id and --s3_secret_access_key"
    )


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
    session.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=MAX_CONNECTIONS))
    session.mount("https://", requests.adapters.HTTPAdapter(pool_maxsize=MAX_CONNECTIONS))
    return session


def _read_error(error: BaseException) -> ImageError:
    """The named reason for what a store raised."""
    return ImageError(_reason(list(_causes(error))), redact(_one_line(error)))


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and those that it was made of, outermost first.

    Beam wraps one error a path, Google's retries the last one, requests and urllib3 the one of the
    layer below.
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
    status = next(filter(None, map(_status, causes)), None)
    if _any_is(causes, FileNotFoundError) or status in (404, 410):
        return Reason.NOT_FOUND
    if any(map(_is_refused, causes)) or status in (401, 403):
        return Reason.FORBIDDEN
    if status in (408, 504):
        return Reason.TIMEOUT
    if status is not None:
        # 501 and 505: there is something that the server cannot do.
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
    """Whether there is no permission, or no credentials to ask for it."""
    if isinstance(error, GoogleAuthError):
        return not (error.retryable or isinstance(error, TransportError))
    return isinstance(error, (PermissionError, aws.NoCredentialsError, aws.PartialCredentialsError))


def _is_for_good(error: BaseException) -> bool:
    """Whether the connection will not be better another time: no such host, a bad certificate."""
    if isinstance(error, socket.gaierror):
        return error.errno == socket.EAI_NONAME
    return isinstance(error, ssl.SSLCertVerificationError)


def _status(error: BaseException) -> int | None:
    """The HTTP status behind an error of requests, or of Google's or Amazon's clients."""
    response = getattr(error, "response", None)
    if isinstance(error, aws.ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    elif isinstance(response, requests.Response):
        status = response.status_code
    else:
        status = getattr(error, "code", None)
    return status if isinstance(status, int) else None


def _one_line(error: BaseException) -> str:
    message = error.message if isinstance(error, S3ClientError) else error
    return " ".join(str(message).split()) or type(error).__name__
