"""Tells whether a file is still the one that was labeled."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

from apache_beam.io.filesystem import FileMetadata
from apache_beam.io.filesystems import FileSystems

from pipeline.errors import StoreError
from pipeline.limits import DEFAULT_LIMITS
from pipeline.storage import object_stores
from pipeline.storage.errors import mapped
from pipeline.storage.http import http_version
from pipeline.storage.read import within
from pipeline.storage.uris import is_remote, local_path


def version(uri: str, timeout_seconds: float = DEFAULT_LIMITS.read_timeout_seconds) -> str:
    """Find out a file's version without reading it; "" if that is impossible.

    The version is the file's size and time, or what its server calls the version, which is asked
    once.
    """
    try:
        if not is_remote(uri):
            path = local_path(uri)
            with mapped():
                status = Path(path).stat()
            return version_of(FileMetadata(path, status.st_size, status.st_mtime))
        return within(timeout_seconds, _remote_version(uri, timeout_seconds))
    except StoreError:
        return ""


def is_unchanged(
    uri: str, seen: str, timeout_seconds: float = DEFAULT_LIMITS.read_timeout_seconds
) -> bool:
    """Tell whether a row's image is this file, and the file has not changed since it was labeled.

    A record in a TFRecord file has whatever name its writer chose, so an unrelated file of that
    name must not be taken for it. The record's version is that of the TFRecord file.

    Args:
      uri: the image's name.
      seen: its version; "" if that was unknown.
      timeout_seconds: for asking a store or server.
    """
    if seen:
        return version(uri, timeout_seconds) == seen
    return is_remote(uri)  # a file on this machine always has a version


def version_of(metadata: FileMetadata) -> str:
    """Make the same version as ``version`` does, from a listing's entry.

    The time is in seconds. For a file on this machine it has all digits. Other times are whole
    numbers, since S3 reports whole seconds for a single object, but fractions in a listing.
    """
    seconds = metadata.last_updated_in_seconds
    if is_remote(metadata.path):
        seconds = int(seconds)
    return f"{metadata.size_in_bytes} {seconds!r}"


def size_in(version: str) -> int | None:
    """Return the size that a version begins with; None if it has none."""
    size = version.partition(" ")[0]
    return int(size) if size.isdecimal() else None


def _remote_version(uri: str, seconds: float) -> Callable[[], str]:
    scheme = uri.partition(":")[0].lower()
    if scheme in ("http", "https"):
        return functools.partial(http_version, uri, seconds)
    if scheme == "gs":
        client = object_stores.gcs_client()
        return lambda: version_of(object_stores.gcs_metadata(client, uri, seconds))
    if scheme == "s3":
        client = object_stores.s3_client(seconds)
        return lambda: version_of(object_stores.s3_metadata(client, uri))
    return lambda: version_of(_metadata(uri))


def _metadata(uri: str) -> FileMetadata:
    with mapped():
        return FileSystems.get_filesystem(uri).metadata(uri)
