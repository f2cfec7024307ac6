"""Objects of Google's and Amazon's stores: one client a process, one request an object.

Beam's own filesystems list and write. To read, they make a client for every file, ask for its
metadata before its content, and repeat what fails for up to ten minutes, out of reach of
``storage``'s time limit. Their options and credentials are used here, too.
"""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from typing import Any

import requests
from apache_beam.io.aws.s3io import S3IO, parse_s3_path
from apache_beam.io.filesystem import FileMetadata
from apache_beam.io.filesystems import FileSystems
from apache_beam.io.gcp.gcsio import GcsIO, create_storage_client, parse_gcs_path
from apache_beam.options.pipeline_options import PipelineOptions, S3Options
from boto3.session import Session
from botocore.config import Config

from pipeline.errors import ImageError
from pipeline.records import Reason

# Seconds.
CONNECT_TIMEOUT = 10

# Connections that a client keeps open: one for each thread that reads, and some for those that have
# been given up and still hold theirs.
MAX_CONNECTIONS = 128

_lock = threading.Lock()


class Body:
    """A file that takes what is read, up to a size and up to a time.

    Args:
      max_bytes: how much it takes.
      seconds: for how long it takes it, beginning now.
    """

    def __init__(self, max_bytes: int, seconds: float):
        self.max_bytes = max_bytes
        self.seconds = seconds
        self.data = bytearray()
        self._deadline = time.monotonic() + seconds

    def write(self, data: bytes) -> int:
        """Append.

        Raises:
          ImageError: it is more than ``max_bytes`` now.
          TimeoutError: the time is over.
        """
        self.data += data
        check_size(len(self.data), self.max_bytes)
        if time.monotonic() > self._deadline:
            raise TimeoutError(f"no complete answer within {self.seconds:g} s")
        return len(data)


def check_size(size: int, max_bytes: int) -> None:
    """Compare a size in bytes, of what was read or is announced, with the greatest allowed.

    Raises:
      ImageError: it is more.
    """
    if size > max_bytes:
        raise ImageError(Reason.TOO_LARGE, f"more than {max_bytes:,} bytes")


def read_gcs(client: Any, uri: str, body: Body) -> None:
    """Read a gs:// object into ``body``; its checksum is compared.

    Raises:
      ImageError: it is too large.
      GoogleAPIError, GoogleAuthError, DataCorruption, OSError or urllib3's HTTPError: one request
        was made, and it failed.
    """
    bucket, name = parse_gcs_path(uri)
    client.bucket(bucket).blob(name).download_to_file(
        body,
        raw_download=True,  # as it is stored, as Beam does
        timeout=(CONNECT_TIMEOUT, body.seconds),
        retry=None,
    )


def read_s3(client: Any, uri: str, body: Body) -> None:
    """Read an s3:// object into ``body``.

    Raises:
      ImageError: it is too large.
      BotoCoreError or ClientError: one request was made, and it failed.
    """
    bucket, key = parse_s3_path(uri)
    answer = client.get_object(Bucket=bucket, Key=key)
    # Not as its own context, which is what lies below and compares neither length nor checksum.
    with contextlib.closing(answer["Body"]) as stream:
        check_size(answer["ContentLength"], body.max_bytes)
        for chunk in stream.iter_chunks(2**16):
            body.write(chunk)


def gcs_metadata(client: Any, uri: str, seconds: float) -> FileMetadata:
    """Size and time of a gs:// object as Beam's listing has them; errors as ``read_gcs``.

    Raises:
      FileNotFoundError: it is not there.
    """
    bucket, name = parse_gcs_path(uri)
    timeout = (CONNECT_TIMEOUT, seconds)
    blob = client.bucket(bucket).get_blob(name, retry=None, timeout=timeout)
    if blob is None:
        raise FileNotFoundError(uri)
    return FileMetadata(uri, blob.size, GcsIO._updated_to_seconds(blob.updated))


def s3_metadata(client: Any, uri: str) -> FileMetadata:
    """Size and time of an s3:// object as Beam's listing has them; errors as ``read_s3``."""
    bucket, key = parse_s3_path(uri)
    answer = client.head_object(Bucket=bucket, Key=key)
    seconds = S3IO._updated_to_seconds(answer["LastModified"])
    return FileMetadata(uri, answer["ContentLength"], seconds)


def gcs_client() -> Any:
    """A ``google.cloud.storage.Client`` with the options that Beam was given."""
    with _lock:
        return _gcs_client(_options())


def s3_client(seconds: float) -> Any:
    """A boto3 client with the options that Beam was given; it waits so many seconds for data."""
    with _lock:
        return _s3_client(_options(), seconds)


def has_s3_credentials() -> bool:
    """Whether flags, environment, files or the machine itself have a key for Amazon's stores.

    Raises:
      BotoCoreError: they have, but cannot be used.
    """
    options = _options().view_as(S3Options)
    if options.s3_access_key_id:
        return True
    with _lock:
        return Session().get_credentials() is not None


def _options() -> PipelineOptions:
    """What ``FileSystems.set_options`` was given, by the launcher, or by Beam on a worker."""
    return FileSystems._pipeline_options or _NO_OPTIONS


_NO_OPTIONS = PipelineOptions([])


# Few are kept: each holds connections. The options are compared by identity.
@functools.lru_cache(maxsize=2)
def _gcs_client(options: PipelineOptions) -> Any:
    client = create_storage_client(options)
    # requests keeps 10 connections; this is how the library's authors advise to keep more.
    client._http.mount("https://", requests.adapters.HTTPAdapter(pool_maxsize=MAX_CONNECTIONS))
    return client


@functools.lru_cache(maxsize=4)
def _s3_client(options: PipelineOptions, seconds: float) -> Any:
    s3 = options.view_as(S3Options)
    return Session().client(
        "s3",
        region_name=s3.s3_region_name,
        api_version=s3.s3_api_version,
        use_ssl=not s3.s3_disable_ssl,
        verify=s3.s3_verify,
        endpoint_url=s3.s3_endpoint_url,
        aws_access_key_id=s3.s3_access_key_id,
        aws_secret_access_key=s3.s3_secret_access_key,
        aws_session_token=s3.s3_session_token,
        config=Config(
            connect_timeout=CONNECT_TIMEOUT,
            read_timeout=seconds,
            max_pool_connections=MAX_CONNECTIONS,
            retries={"total_max_attempts": 1},
        ),
    )
