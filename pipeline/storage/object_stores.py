"""Reads and lists objects in Google's and Amazon's stores: one client per process, no retries.

Beam's own filesystems write. For reading, they make a client for every file, ask for its metadata
before its content, and repeat failures for up to ten minutes, which the time limit of
``read_bytes`` cannot stop. For listing, they keep a set of all names, and cannot begin in the
middle. This module uses the same options and credentials.
"""

from __future__ import annotations

import contextlib
import functools
import gzip
import io
import logging
import threading
import time
import zlib
from typing import Any

import requests
from apache_beam.io.aws.clients.s3 import boto3_client
from apache_beam.io.aws.s3io import S3IO, parse_s3_path
from apache_beam.io.filesystem import FileMetadata
from apache_beam.io.gcp import gcsio
from apache_beam.io.gcp.gcsio import GcsIO, create_storage_client, parse_gcs_path
from apache_beam.options.pipeline_options import PipelineOptions, S3Options
from apache_beam.utils import retry
from boto3.session import Session
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import BotoCoreError
from botocore.handlers import disable_signing

from pipeline.errors import StoreError
from pipeline.records import Reason
from pipeline.storage.client_options import is_anonymous, options
from pipeline.storage.errors import mapped
from pipeline.storage.memory import Claim
from pipeline.storage.ranges import Answer, Range

# Seconds.
CONNECT_TIMEOUT = 10

# Connections that a client keeps open: one per reading thread, and some for threads that were given
# up and still hold theirs.
MAX_CONNECTIONS = 128

# Names that are asked for at a time, the most that both stores send.
PAGE = 1000

_lock = threading.Lock()


class Body:
    """A file that takes what is read, up to a size and a time limit.

    Args:
      max_bytes: the size limit.
      seconds: the time limit, from now on.
      claim: has room for what is read; None if that is not bounded.
    """

    def __init__(self, max_bytes: int, seconds: float, claim: Claim | None = None):
        self.max_bytes = max_bytes
        self._claim = claim
        self.seconds = seconds
        self.data = bytearray()
        self._deadline = time.monotonic() + seconds

    def write(self, data: bytes) -> int:
        """Append data.

        Raises:
          StoreError: the size or the time limit is exceeded.
          NeedsMemoryError: there is no room for it.
        """
        size = len(self.data) + len(data)
        check_size(size, self.max_bytes)
        if self._claim is not None:
            self._claim.grow(size, self.max_bytes)
        self.data += data
        if time.monotonic() > self._deadline:
            raise StoreError(Reason.TIMEOUT, f"no complete answer within {self.seconds:g} s")
        return len(data)

    def expect(self, size: int) -> None:
        """Prepare for so many bytes, if a store or server announces them.

        Raises:
          StoreError: they are more than the size limit.
          NeedsMemoryError: there is no room for them.
        """
        check_size(size, self.max_bytes)
        if self._claim is not None:
            self._claim.grow(size, size)


def check_size(size: int, max_bytes: int) -> None:
    """Check that a size in bytes, read or announced, is within the limit.

    Raises:
      StoreError: it is not.
    """
    if size > max_bytes:
        raise StoreError(Reason.TOO_LARGE, f"more than {max_bytes:,} bytes")


def read_gcs(client: Any, uri: str, body: Body) -> None:
    """Read a gs:// object into ``body``, verify its checksum, and unpack it; see ``unpack``.

    Raises:
      StoreError: one request was made, and it failed; or the object is too large.
    """
    with mapped():
        bucket, name = parse_gcs_path(uri)
        blob = client.bucket(bucket).blob(name)
        blob.download_to_file(
            body,
            raw_download=True,  # as stored, which the checksum is of
            timeout=(CONNECT_TIMEOUT, body.seconds),
            retry=None,
        )
    unpack(body, blob.content_encoding)


def read_s3(client: Any, uri: str, body: Body) -> None:
    """Read an s3:// object into ``body``, and unpack it; see ``unpack``.

    Raises:
      StoreError: one request was made, and it failed; or the object is too large.
    """
    with mapped():
        bucket, key = parse_s3_path(uri)
        answer = client.get_object(Bucket=bucket, Key=key)
    # Not in its own context, which yields the raw stream, without checks of length and checksum.
    with mapped(), contextlib.closing(answer["Body"]) as stream:
        body.expect(answer["ContentLength"])
        for chunk in stream.iter_chunks(2**16):
            body.write(chunk)
    unpack(body, answer.get("ContentEncoding"))


def unpack(body: Body, encoding: str | None) -> None:
    """Unpack an object that is stored with gzip, if it says so; servers do that by themselves.

    An object that says so, but does not begin as gzip does, stays as it is.

    Args:
      body: the object, which is replaced.
      encoding: its ``Content-Encoding``.

    Raises:
      StoreError: it is damaged, or larger than ``body`` takes.
    """
    encodings = [part.strip().lower() for part in (encoding or "").split(",")]
    if not {"gzip", "x-gzip"}.intersection(encodings) or not body.data.startswith(b"\x1f\x8b"):
        return
    packed, body.data = bytes(body.data), bytearray()
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(packed)) as file:
            while chunk := file.read(2**20):
                body.write(chunk)
    except (OSError, EOFError, zlib.error) as error:
        raise StoreError(
            Reason.UNREADABLE, f"its Content-Encoding is gzip, and that is damaged: {error}"
        ) from error


def gcs_metadata(client: Any, uri: str, seconds: float) -> FileMetadata:
    """Ask for the size and time of a gs:// object, as in Beam's listing.

    Raises:
      StoreError: one request was made, and it failed; or the object is not there.
    """
    timeout = (CONNECT_TIMEOUT, seconds)
    with mapped():
        bucket, name = parse_gcs_path(uri)
        blob = client.bucket(bucket).get_blob(name, retry=None, timeout=timeout)
    if blob is None:
        raise StoreError(Reason.NOT_FOUND, uri)
    return FileMetadata(uri, blob.size, GcsIO._updated_to_seconds(blob.updated))


def s3_metadata(client: Any, uri: str) -> FileMetadata:
    """Ask for the size and time of an s3:// object, as in Beam's listing.

    Raises:
      StoreError: one request was made, and it failed.
    """
    with mapped():
        bucket, key = parse_s3_path(uri)
        answer = client.head_object(Bucket=bucket, Key=key)
    seconds = S3IO._updated_to_seconds(answer["LastModified"])
    return FileMetadata(uri, answer["ContentLength"], seconds)


def list_gcs(client: Any, uri: str, seconds: float, range_: Range, token: str) -> Answer:
    """Ask for the names that begin as a gs:// URI, in a range, one page of them.

    Raises:
      StoreError: one request was made, and it failed.
    """
    with mapped():
        bucket, prefix = parse_gcs_path(uri, object_optional=True)
        listing = client.list_blobs(
            bucket,
            prefix=prefix or None,
            # With the former name itself in the answer, and without the latter, unlike a range.
            start_offset=range_.after or None,
            end_offset=None if range_.upto is None else f"{range_.upto} ",
            page_size=PAGE,
            page_token=token or None,
            fields="items(name,size,updated),nextPageToken",
            timeout=(CONNECT_TIMEOUT, seconds),
            retry=None,
        )
        blobs = list(next(listing.pages, ()))
        files = [
            FileMetadata(
                f"gs://{bucket}/{blob.name}", blob.size, GcsIO._updated_to_seconds(blob.updated)
            )
            for blob in blobs
        ]
    return Answer([blob.name for blob in blobs], files, listing.next_page_token or "")


def list_s3(client: Any, uri: str, range_: Range, token: str) -> Answer:
    """Do the same for an s3:// URI; names beyond the range's end are in the answer.

    Raises:
      StoreError: one request was made, and it failed.
    """
    with mapped():
        bucket, prefix = parse_s3_path(uri, object_optional=True)
        asked = {"Bucket": bucket, "Prefix": prefix, "MaxKeys": PAGE}
        asked |= {"StartAfter": range_.after} if range_.after else {}
        answer = client.list_objects_v2(**asked, **({"ContinuationToken": token} if token else {}))
        found = answer.get("Contents", ())
        files = [
            FileMetadata(
                f"s3://{bucket}/{one['Key']}",
                one["Size"],
                S3IO._updated_to_seconds(one["LastModified"]),
            )
            for one in found
        ]
    return Answer([one["Key"] for one in found], files, answer.get("NextContinuationToken") or "")


def gcs_client() -> Any:
    """Make a ``google.cloud.storage.Client`` with Beam's options, or reuse the one there is.

    Raises:
      StoreError: there are no usable credentials.
    """
    with mapped(), _lock:
        return _gcs_client(options(), is_anonymous())


def s3_client(seconds: float) -> Any:
    """Make a boto3 client with Beam's options, or reuse the one there is.

    Args:
      seconds: how long it waits for data.

    Raises:
      StoreError: boto3 rejects the options, the environment or the configuration files.
    """
    with mapped(), _lock:
        return _s3_client(options(), seconds, is_anonymous())


def check_access(uri: str) -> None:
    """Check at once whether there are credentials, which takes Beam minutes.

    Raises:
      StoreError: it is an s3:// URI, and there are no credentials; the message says where to put
        them. Beam's own listing would try for six minutes.
    """
    if (
        not uri.lower().startswith("s3://")
        or options().view_as(S3Options).s3_access_key_id
        or is_anonymous()
    ):
        return
    try:
        with _lock:
            found = Session().get_credentials() is not None
    except BotoCoreError as error:
        raise StoreError(
            Reason.FORBIDDEN, f"the AWS credentials cannot be used: {error}"
        ) from error
    if not found:
        raise StoreError(
            Reason.FORBIDDEN,
            "there are no AWS credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, run "
            "'aws configure', or give Beam's options s3_access_key_id and s3_secret_access_key; "
            "for a public bucket, give anonymous",
        )


class _S3Client(boto3_client.Client):
    """Beam's client, but one that signs nothing where the user wants that."""

    def __init__(self, options: PipelineOptions):
        super().__init__(options)
        if is_anonymous():
            self.client.meta.events.register("choose-signer.s3", disable_signing)


def _create_storage_client(pipeline_options: PipelineOptions, use_credentials: bool = True) -> Any:
    return create_storage_client(pipeline_options, use_credentials and not is_anonymous())


def _in_one_line(record: logging.LogRecord) -> bool:
    """Shorten a record of Beam's ``retry.with_exponential_backoff``, which ends in a traceback."""
    words, is_there, _ = record.getMessage().partition("Traceback for above exception")
    if is_there:
        record.msg, record.args = " ".join(words.split()), ()
    return True


logging.getLogger(retry.__name__).addFilter(_in_one_line)

# Beam's filesystems call these, and have no option to do without credentials.
boto3_client.Client = _S3Client  # type: ignore[misc]
gcsio.create_storage_client = _create_storage_client


# Keep few, since each holds connections. Options are compared by identity.
@functools.lru_cache(maxsize=2)
def _gcs_client(options: PipelineOptions, anonymous: bool) -> Any:
    client = create_storage_client(options, use_credentials=not anonymous)
    # requests keeps 10 connections; the library's authors advise this way to keep more.
    client._http.mount("https://", requests.adapters.HTTPAdapter(pool_maxsize=MAX_CONNECTIONS))
    return client


@functools.lru_cache(maxsize=4)
def _s3_client(options: PipelineOptions, seconds: float, anonymous: bool) -> Any:
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
            signature_version=UNSIGNED if anonymous else None,
        ),
    )
