"""Lists files, and tells whether one exists."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from apache_beam.io.filesystem import FileMetadata
from apache_beam.io.filesystems import FileSystems

from pipeline.storage.errors import mapped
from pipeline.storage.uris import is_remote, join


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
    """List the files whose names begin with a prefix, as they arrive.

    ``FileSystems.match`` would first collect the listing in memory, which a bucket of 10⁸ objects
    would exceed, so this calls the method behind it.

    Raises:
      StoreError: the store cannot be listed.
    """
    with mapped():
        yield from FileSystems.get_filesystem(prefix)._list(prefix)


def has_folders(uri: str) -> bool:
    """Tell whether a store lists folders; an object store lists any prefix.

    Raises:
      StoreError: no installed filesystem serves the URI's scheme.
    """
    with mapped():
        return bool(FileSystems.get_filesystem(uri).has_dirs())
