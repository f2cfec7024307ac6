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
from pipeline.storage.hosts import HOSTS, MAX_WAIT, obeying
from pipeline.storage.http import http_version
from pipeline.storage.listing import find
from pipeline.storage.threads import within
from pipeline.storage.uris import bucket_of, is_http, is_remote, join, local_path


def version(
    uri: str,
    timeout_seconds: float = DEFAULT_LIMITS.read_timeout_seconds,
    max_wait: float = MAX_WAIT,
) -> str:
    """Find out a file's version without reading it; "" if that is impossible.

    The version is the file's size and time, or what its server calls the version, which is asked
    once, unless it asks to wait.

    Args:
      uri: a path or URI.
      timeout_seconds: for asking a store or server.
      max_wait: seconds that it may ask to wait.
    """
    try:
        if not is_remote(uri):
            path = local_path(uri)
            with mapped():
                status = Path(path).stat()
            return version_of(FileMetadata(path, status.st_size, status.st_mtime))
        return obeying(functools.partial(_remote_version, uri, timeout_seconds, max_wait))
    except StoreError:
        return ""


def find_versions(folder: str, *patterns: str) -> dict[str, str]:
    """Find the files that match globs relative to a folder, in order, with their versions.

    Raises:
      StoreError: the folder cannot be listed.
    """
    if not is_remote(folder):
        return {path: version(path) for path in find(folder, *patterns)}
    with mapped():
        matches = FileSystems.match([join(folder, pattern) for pattern in patterns])
    files = [file for match in matches for file in match.metadata_list]
    return {file.path: version_of(file) for file in sorted(files, key=lambda file: file.path)}


def is_unchanged(
    uri: str,
    seen: str,
    timeout_seconds: float = DEFAULT_LIMITS.read_timeout_seconds,
    max_wait: float = MAX_WAIT,
) -> bool:
    """Tell whether a row's image is this file, and the file has not changed since it was labeled.

    A record in a TFRecord file has whatever name its writer chose, so an unrelated file of that
    name must not be taken for it. The record's version is that of the TFRecord file.

    Args:
      uri: the image's name.
      seen: its version; "" if that was unknown.
      timeout_seconds: for asking a store or server.
      max_wait: seconds that it may ask to wait.
    """
    if seen:
        return version(uri, timeout_seconds, max_wait) == seen
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


def _remote_version(uri: str, seconds: float, max_wait: float) -> str:
    if is_http(uri):
        return http_version(uri, seconds, max_wait)
    ask = _question(uri, seconds)
    with HOSTS.turn(bucket_of(uri), max_wait=max_wait):
        return version_of(within(seconds, ask))


def _question(uri: str, seconds: float) -> Callable[[], FileMetadata]:
    """Choose what asks a store. Make its client now, since that is not part of the time."""
    scheme = uri.partition(":")[0].lower()
    if scheme == "gs":
        return functools.partial(
            object_stores.gcs_metadata, object_stores.gcs_client(), uri, seconds
        )
    if scheme == "s3":
        return functools.partial(object_stores.s3_metadata, object_stores.s3_client(seconds), uri)
    return functools.partial(_metadata, uri)


def _metadata(uri: str) -> FileMetadata:
    with mapped():
        return FileSystems.get_filesystem(uri).metadata(uri)
