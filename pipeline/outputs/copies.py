"""Puts images into folders by their labels."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import uuid
from pathlib import Path

import apache_beam as beam

from pipeline import storage
from pipeline.errors import ImageError, RunError, StoreError
from pipeline.images.loading import in_threads
from pipeline.limits import Limits
from pipeline.records import Labeled

# Copied at a time by a worker.
_BATCH = 64

# Of the bytes that most file systems allow in a name.
_LABEL_BYTES = 120
_STEM_BYTES = 160


class CopyByLabel(beam.PTransform):
    """Expects ``Labeled``s, outputs for each that has a label whether its image could be copied.

    An image that has been deleted or changed since it was labeled is not, and neither is one in a
    TFRecord file.

    Args:
      folder: absolute; an image's copy is ``folder/label/name-hash.suffix`` there, and on the same
        disk a hard link.
      limits: for reading.
    """

    def __init__(self, folder: str, limits: Limits):
        super().__init__()
        self._folder = folder
        self._limits = limits

    def expand(self, labeled: beam.PCollection[Labeled]) -> beam.PCollection[bool]:
        """Many at a time."""
        return (
            labeled
            | "WithLabel" >> beam.Filter(lambda row: row.label is not None)
            | beam.BatchElements(max_batch_size=_BATCH)
            | "Copy" >> beam.FlatMap(_copy_all, self._folder, self._limits)
        )


def _copy_all(rows: list[Labeled], folder: str, limits: Limits) -> list[bool]:
    return in_threads(lambda row: copy(row, folder, limits), rows)


def copy(row: Labeled, folder: str, limits: Limits) -> bool:
    """Copy an image to where ``path_of`` says; False if it is not what was labeled.

    Raises:
      RunError: the copy cannot be written.
    """
    if not storage.is_unchanged(row.image, row.version, limits.read_timeout_seconds):
        return False
    target = path_of(row, folder)
    try:
        if storage.is_remote(row.image) or storage.is_remote(target):
            data = storage.read_bytes(
                row.image, limits.max_image_bytes, limits.read_timeout_seconds
            )
            storage.write_file(target, data)
        else:
            _link(Path(row.image), Path(target))
    except ImageError:
        return False
    except (StoreError, OSError) as error:
        if not storage.is_remote(row.image) and not Path(row.image).exists():
            return False  # deleted just now
        raise RunError(f"copy_to: {target} cannot be written: {error}") from error
    return True


def _link(source: Path, target: Path) -> None:
    """A hard link, or a copy where there can be none, in the place of whatever was there."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        if target.samefile(source):
            return
    temporary = target.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        try:
            os.link(source.resolve(), temporary)
        except OSError:  # another disk, or one that knows no links
            shutil.copyfile(source, temporary)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def path_of(row: Labeled, folder: str) -> str:
    """The path of an image's copy. Images of one name get several by a hash of the whole name."""
    name = row.image.rstrip("/").rpartition("/")[2].partition("?")[0]
    stem, dot, suffix = name.rpartition(".")
    hashed = hashlib.sha256(row.image.encode()).hexdigest()[:16]
    stem = _cut(stem if dot else name, _STEM_BYTES)
    ending = f".{_cut(suffix, 20)}" if dot else ""
    return storage.join(folder, folder_of(row.label or ""), f"{stem}-{hashed}{ending}")


def folder_of(label: str) -> str:
    """The name of a label's folder: the label, without what a name must not have anywhere."""
    return (
        _cut(re.sub(r'[\x00-\x1f\x7f/\\:*?"<>|\[\]#]', "_", label).strip(". "), _LABEL_BYTES) or "_"
    )


def _cut(text: str, length: int) -> str:
    return text.encode("utf-8", "replace")[:length].decode("utf-8", "ignore")
