"""Stand-ins for what tests cannot have: a bucket, and a user who may not do everything."""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from apache_beam.io.filesystem import BeamIOError, FileMetadata, FileSystem

# The objects of the store: URI → content.
OBJECTS: dict[str, bytes] = {}
# URIs whose opening fails, and with what.
ERRORS: dict[str, Exception] = {}
# URIs that were opened for reading, in order.
OPENED: list[str] = []


class MemoryFileSystem(FileSystem):
    """An object store in this process, for URIs like ``mem://bucket/folder/file``.

    Beam finds it by its scheme. Like Google's and Amazon's stores it has no folders.
    """

    @classmethod
    def scheme(cls):
        return "mem"

    def has_dirs(self):
        return False

    def join(self, basepath, *paths):
        return "/".join([basepath.rstrip("/"), *paths])

    def split(self, path):
        return tuple(path.rsplit("/", 1))

    def mkdirs(self, path):
        pass

    def _list(self, dir_or_prefix):
        if dir_or_prefix in ERRORS:
            raise BeamIOError("List operation failed", {dir_or_prefix: ERRORS[dir_or_prefix]})
        for path in sorted(OBJECTS):
            if path.startswith(dir_or_prefix):
                yield FileMetadata(path, len(OBJECTS[path]), 0.0)

    def create(self, path, mime_type="", compression_type=None):
        class Upload(io.BytesIO):
            def close(self):
                OBJECTS[path] = self.getvalue()
                super().close()

        return Upload()

    def open(self, path, mime_type="", compression_type=None):
        OPENED.append(path)
        if path in ERRORS:
            raise ERRORS[path]
        if path not in OBJECTS:
            raise FileNotFoundError(path)
        return io.BytesIO(OBJECTS[path])

    def rename(self, sources, destinations):
        for source, destination in zip(sources, destinations, strict=True):
            OBJECTS[destination] = OBJECTS.pop(source)

    def delete(self, paths):
        for path in paths:
            if path not in OBJECTS:
                raise BeamIOError("Delete operation failed", {path: FileNotFoundError(path)})
            del OBJECTS[path]

    def exists(self, path):
        return path in OBJECTS

    def metadata(self, path):
        if path not in OBJECTS:
            raise BeamIOError("Metadata operation failed", {path: FileNotFoundError(path)})
        return FileMetadata(path, len(OBJECTS[path]), 0.0)

    copy = size = last_updated = checksum = None


@contextlib.contextmanager
def memory_store(objects: dict[str, bytes]) -> Iterator[dict[str, bytes]]:
    """The in-memory store with these objects in it, and nothing else."""
    for container in (OBJECTS, ERRORS, OPENED):
        container.clear()
    OBJECTS.update(objects)
    yield OBJECTS
    for container in (OBJECTS, ERRORS, OPENED):
        container.clear()


@contextlib.contextmanager
def unprivileged(folder: Path) -> Iterator[None]:
    """Run as a user for whom permissions count; ``folder`` has to be reachable for that user."""
    if os.geteuid() != 0:
        yield
        return
    try:
        os.seteuid(65534)
    except OSError as error:
        pytest.skip(f"root, and cannot become another user: {error}")
    try:
        if not os.access(folder, os.X_OK, effective_ids=True):
            pytest.skip(f"root, and another user cannot reach {folder}")
        yield
    finally:
        os.seteuid(0)


@contextlib.contextmanager
def public_folder() -> Iterator[Path]:
    """A temporary folder that any user can enter, which pytest's are not."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)
