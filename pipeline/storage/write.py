"""Writes, renames and deletes files."""

from __future__ import annotations

import contextlib
import shutil
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions

from pipeline.errors import StoreError
from pipeline.storage.client_options import client, read_headers
from pipeline.storage.errors import mapped


def configure(options: PipelineOptions) -> None:
    """Give Beam's options to the filesystems of this process: credentials, project, endpoint.

    Raises:
      UsageError: the file of headers cannot be used.
    """
    FileSystems.set_options(options)
    headers_file = client().headers_file
    if headers_file:
        read_headers(headers_file)


def write_file(
    path: str, data: bytes, keep: bool = True, mime_type: str = "application/octet-stream"
) -> None:
    """Write a file so that it is visible under its name as a whole or not at all.

    Args:
      path: path or URI on any filesystem that Beam knows.
      data: its content.
      keep: False removes it again before it gets its name, to test whether it can be written.
      mime_type: tells a browser how to show the file from a store.

    Raises:
      StoreError: it cannot be written.
    """
    temporary = f"{path}.{uuid.uuid4().hex}.tmp"
    try:
        with mapped(), FileSystems.create(temporary, mime_type) as file:
            file.write(data)
        if keep:
            rename(temporary, path)
    except StoreError:
        with contextlib.suppress(StoreError):
            delete([temporary])
        raise
    if not keep:
        delete([temporary])


def upload(file: Path, path: str) -> None:
    """Copy a file of this machine, piece by piece; see ``write_file``.

    Raises:
      StoreError: it cannot be written.
    """
    temporary = f"{path}.{uuid.uuid4().hex}.tmp"
    try:
        with mapped(), file.open("rb") as source, FileSystems.create(temporary) as copy:
            shutil.copyfileobj(source, copy, 2**20)
        rename(temporary, path)
    except StoreError:
        with contextlib.suppress(StoreError):
            delete([temporary])
        raise


def create(path: str) -> BinaryIO:
    """Open a file for writing; whatever has this name is replaced.

    Raises:
      StoreError: it cannot be written.
    """
    with mapped():
        return FileSystems.create(path, compression_type=CompressionTypes.UNCOMPRESSED)


def rename(path: str, new: str) -> None:
    """Rename a file within its store, and replace any file of the new name.

    Raises:
      StoreError: the file cannot be renamed.
    """
    rename_all([(path, new)])


def rename_all(names: Sequence[tuple[str, str]]) -> None:
    """Rename files within their store, each to the second name, with few requests if possible.

    Raises:
      StoreError: one of the files cannot be renamed; others may have been.
    """
    with mapped():
        FileSystems.rename([path for path, _ in names], [new for _, new in names])


def delete(paths: Sequence[str]) -> None:
    """Delete files, and, on this machine, folders with their content; there may be none.

    Raises:
      StoreError: one of them cannot be deleted.
    """
    if paths:
        with mapped():
            FileSystems.delete(list(paths))


def make_folder(folder: str) -> None:
    """Make a folder and those above it, if they do not exist; a store has no folders.

    Raises:
      StoreError: it cannot be made.
    """
    with mapped():
        if not FileSystems.exists(folder):
            FileSystems.mkdirs(folder)
