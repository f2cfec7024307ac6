"""What files there are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from apache_beam.io.filesystem import FileMetadata
from apache_beam.io.filesystems import FileSystems

from pipeline.storage.errors import mapped
from pipeline.storage.uris import is_remote, join


def exists(uri: str) -> bool:
    """Tell whether there is a file, or on this machine a folder.

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
        # Beam would list all that is below the folder, which may be where the photographs are.
        with mapped():
            return sorted(str(path) for pattern in patterns for path in Path(folder).glob(pattern))
    globs = [join(folder, pattern) for pattern in patterns]
    with mapped():
        matches = FileSystems.match(globs)
    return sorted(file.path for match in matches for file in match.metadata_list)


def list_files(prefix: str) -> Iterator[FileMetadata]:
    """List the files whose names begin with a prefix, as they come.

    ``FileSystems.match`` would collect the listing first, which a bucket of 10⁸ objects does not
    survive, hence the method behind it.

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


def regex_of(glob: str) -> str:
    """Translate a glob in Beam's notation into the regular expression that its store takes it for.

    Raises:
      StoreError: no installed filesystem serves the glob's scheme.
    """
    with mapped():
        return str(FileSystems.get_filesystem(glob).translate_pattern(glob))
