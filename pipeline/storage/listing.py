"""Lists files, and tells whether one exists."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from pathlib import Path

from apache_beam.io.filesystem import FileMetadata
from apache_beam.io.filesystems import FileSystems

from pipeline.limits import DEFAULT_LIMITS
from pipeline.storage import object_stores
from pipeline.storage.errors import mapped
from pipeline.storage.hosts import HOSTS, persistently
from pipeline.storage.ranges import Answer, Ask, Page, Range, in_order, in_ranges
from pipeline.storage.threads import within
from pipeline.storage.uris import bucket_of, is_remote, join

# How often a page is asked for, which takes a minute, since all pages are needed.
_ATTEMPTS = 8

# S3's buckets without an order, and their access points. They refuse StartAfter:
# https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html
_DIRECTORY_BUCKET = re.compile(r"-{2}xa?-s3$")


def exists(uri: str) -> bool:
    """Tell whether a file exists, or, on this machine, a folder.

    Raises:
      StoreError: the store cannot be asked.
    """
    with mapped():
        return bool(FileSystems.exists(uri))


def find(folder: str, *patterns: str) -> list[str]:
    """Find the files that match globs relative to a folder, in order.

    Raises:
      StoreError: the folder cannot be listed.
    """
    if not is_remote(folder):
        # Beam would list everything below the folder, which may have all the photographs.
        with mapped():
            return sorted(str(path) for pattern in patterns for path in Path(folder).glob(pattern))
    globs = [join(folder, pattern) for pattern in patterns]
    with mapped():
        matches = FileSystems.match(globs)
    return sorted(file.path for match in matches for file in match.metadata_list)


def list_files(prefix: str) -> Iterator[FileMetadata]:
    """List the files whose names begin with a prefix, in the store's order, as they arrive.

    Raises:
      StoreError: the store cannot be listed.
    """
    for page in list_pages(prefix):
        if isinstance(page, Page):
            yield from page.files


def list_pages(
    prefix: str, part: Range | None = None, shares: bool = False
) -> Iterator[Page | Range]:
    """Do the same, page by page.

    A bucket's listing takes little memory, however many names there are.

    Args:
      prefix: path or URI.
      part: which names, for those in a bucket, in no order and many pages at a time; None for all
        names in order.
      shares: see ``in_ranges``.

    Raises:
      StoreError: the store cannot be listed.
    """
    ask = _asker(prefix)
    if ask is None:
        yield Page(_list(prefix))
    elif part is None or _DIRECTORY_BUCKET.search(bucket_of(prefix)):
        yield from in_order(ask)
    else:
        yield from in_ranges(ask, part, shares)


def _list(prefix: str) -> Iterator[FileMetadata]:
    # FileSystems.match would first collect the listing in memory.
    with mapped():
        yield from FileSystems.get_filesystem(prefix)._list(prefix)


def _asker(prefix: str) -> Ask | None:
    """Choose what asks for a page; None if Beam lists the names, not this package."""
    seconds = DEFAULT_LIMITS.read_timeout_seconds
    scheme = prefix.partition(":")[0].lower()
    if scheme == "gs":
        ask: Ask = functools.partial(
            object_stores.list_gcs, object_stores.gcs_client(), prefix, seconds
        )
    elif scheme == "s3":
        ask = functools.partial(object_stores.list_s3, object_stores.s3_client(seconds), prefix)
    else:
        return None

    def attempt(part: Range, token: str) -> Answer:
        with HOSTS.turn(bucket_of(prefix)):
            return within(seconds, ask, part, token)

    def persist(part: Range, token: str) -> Answer:
        return persistently(functools.partial(attempt, part, token), _ATTEMPTS)

    return persist


def has_folders(uri: str) -> bool:
    """Tell whether a store lists folders; an object store lists any prefix.

    Raises:
      StoreError: no installed filesystem serves the URI's scheme.
    """
    with mapped():
        return bool(FileSystems.get_filesystem(uri).has_dirs())
