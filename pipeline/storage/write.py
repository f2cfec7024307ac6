"""Writes, renames and deletes files."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Sequence

from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions

from pipeline.errors import StoreError
from pipeline.storage.errors import mapped


def configure(options: PipelineOptions) -> None:
    """Give Beam's options to the filesystems of this process: credentials, project, endpoint."""
    FileSystems.set_options(options)


def write_file(
    path: str, data: bytes, keep: bool = True, mime_type: str = "application/octet-stream"
) -> None:
    """Write a file that is visible under its name whole or not at all.

    Args:
      path: on any filesystem that Beam knows.
      data: its content.
      keep: False removes it again before it gets its name, to try whether it could be written.
      mime_type: by which a store has a browser show it.

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


def rename(path: str, new: str) -> None:
    """Give a file another name in the same store, and replace what has it.

    Raises:
      StoreError: the file cannot be renamed.
    """
    with mapped():
        FileSystems.rename([path], [new])


def delete(paths: Sequence[str]) -> None:
    """Delete files, and on this machine folders with all that is in them; maybe none.

    Raises:
      StoreError: one of them cannot be deleted.
    """
    if paths:
        with mapped():
            FileSystems.delete(list(paths))


def make_folder(folder: str) -> None:
    """Make a folder and those above it, unless it is there; a store has none.

    Raises:
      StoreError: it cannot be made.
    """
    with mapped():
        if not FileSystems.exists(folder):
            FileSystems.mkdirs(folder)
