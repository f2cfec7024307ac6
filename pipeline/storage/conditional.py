"""Writes a file on condition that nobody else has written it meanwhile, where stores promise that.

Google's store has generations for it, Amazon's has ETags:
https://cloud.google.com/storage/docs/request-preconditions
https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
Some stores that speak Amazon's language take no notice of the conditions, and other stores and file
systems have none; ``honors_conditions`` tells.
"""

from __future__ import annotations

import contextlib
from typing import Any, NamedTuple

import tenacity
from apache_beam.io.aws.s3io import parse_s3_path
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems
from apache_beam.io.gcp.gcsio import parse_gcs_path
from botocore.exceptions import ClientError
from google.api_core.exceptions import NotFound, PreconditionFailed

from pipeline.errors import StoreError
from pipeline.storage.errors import mapped, status_of
from pipeline.storage.object_stores import CONNECT_TIMEOUT, gcs_client, s3_client
from pipeline.storage.write import delete, write_file

# Seconds that a store has for an answer.
_TIMEOUT = 30.0

# Amazon's answers to a condition that does not hold: the object is not there, another request for
# it is under way, or it is another version.
_REFUSED = ("NoSuchKey", "ConditionalRequestConflict", "PreconditionFailed")

# How often a store that is busy is asked, and the seconds before the second time; they double.
_ATTEMPTS = 4
_FIRST_WAIT = 1.0


class Versioned(NamedTuple):
    """A file's content. ``version``: to write or delete it only if it is still this one."""

    data: bytes
    version: str


def read_versioned(path: str) -> Versioned | None:
    """Read a small file; None if it is not there.

    Raises:
      StoreError: it cannot be read.
    """
    if _scheme(path) == "gs":
        return _read_gcs(path)
    if _scheme(path) == "s3":
        return _read_s3(path)
    with mapped():
        if not FileSystems.exists(path):
            return None
        with FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED) as file:
            return Versioned(file.read(), "")


def write_if(path: str, data: bytes, version: str | None) -> bool:
    """Write a small file if it still is of a version; where there are no conditions, in any case.

    Args:
      path: path or URI on any filesystem that Beam knows.
      data: its content.
      version: what ``read_versioned`` has told; None if there must not be such a file.

    Returns:
      Whether it was written. After False it may still have been, if an answer was lost and the
      request was repeated.

    Raises:
      StoreError: it cannot be written.
    """
    if _scheme(path) == "gs":
        with mapped():
            generation = 0 if version is None else int(version)
            try:
                _blob(path).upload_from_string(
                    data, if_generation_match=generation, timeout=(CONNECT_TIMEOUT, _TIMEOUT)
                )
            except PreconditionFailed:
                return False
        return True
    if _scheme(path) == "s3":
        condition = {"IfNoneMatch": "*"} if version is None else {"IfMatch": version}
        return _ask_s3("put_object", path, Body=data, **condition) is not None
    write_file(path, data)
    return True


def delete_if(path: str, version: str) -> None:
    """Delete a file if it still is of a version; where there are no conditions, in any case.

    Raises:
      StoreError: it cannot be deleted.
    """
    if _scheme(path) == "gs":
        with mapped(), contextlib.suppress(NotFound, PreconditionFailed):
            _blob(path).delete(
                if_generation_match=int(version), timeout=(CONNECT_TIMEOUT, _TIMEOUT)
            )
    elif _scheme(path) == "s3":
        _ask_s3("delete_object", path, IfMatch=version)
    else:
        delete([path])


def honors_conditions(path: str, data: bytes) -> bool:
    """Tell whether the store of a file that is there refuses to make it once more.

    Args:
      path: of the file.
      data: its content, which is written again if the store has no conditions.

    Raises:
      StoreError: the store cannot be asked.
    """
    if _scheme(path) == "s3":
        return not write_if(path, data, None)
    return _scheme(path) == "gs"


def _scheme(path: str) -> str:
    return path.partition("://")[0].lower()


def _blob(uri: str) -> Any:
    bucket, name = parse_gcs_path(uri)
    return gcs_client().bucket(bucket).blob(name)


def _read_gcs(uri: str) -> Versioned | None:
    bucket, name = parse_gcs_path(uri)
    timeout = (CONNECT_TIMEOUT, _TIMEOUT)
    while True:
        with mapped():
            blob = gcs_client().bucket(bucket).get_blob(name, timeout=timeout)
            if blob is None:
                return None
            generation = blob.generation
            try:
                data = blob.download_as_bytes(if_generation_match=generation, timeout=timeout)
            except (NotFound, PreconditionFailed):  # replaced or deleted meanwhile
                continue
            return Versioned(data, str(generation))


def _read_s3(uri: str) -> Versioned | None:
    answer = _ask_s3("get_object", uri)
    if answer is None:
        return None
    with mapped():
        return Versioned(answer["Body"].read(), answer["ETag"])


@tenacity.retry(
    stop=tenacity.stop_after_attempt(_ATTEMPTS),
    wait=tenacity.wait_exponential(_FIRST_WAIT),
    retry=tenacity.retry_if_exception(
        lambda error: isinstance(error, StoreError) and error.reason.is_transient
    ),
    reraise=True,
)
def _ask_s3(operation: str, uri: str, **arguments: Any) -> dict[str, Any] | None:
    """Make a request; None if its condition does not hold."""
    client = s3_client(_TIMEOUT)
    with mapped():
        bucket, key = parse_s3_path(uri)
        try:
            answer: dict[str, Any] = getattr(client, operation)(Bucket=bucket, Key=key, **arguments)
            return answer
        except ClientError as error:
            if error.response["Error"]["Code"] in _REFUSED:
                return None
            if status_of(error) != 501:
                raise
        # The store says that it has no conditions.
        rest = {name: value for name, value in arguments.items() if name == "Body"}
        answer = getattr(client, operation)(Bucket=bucket, Key=key, **rest)
        return answer
