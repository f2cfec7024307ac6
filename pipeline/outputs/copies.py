"""Copies images into folders by their labels."""

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

# Images that a worker copies at a time.
_BATCH = 64

# The bytes of a label that are kept, of those that most file systems allow in a name.
_LABEL_BYTES = 120
_STEM_BYTES = 160


class CopyByLabel(beam.PTransform):
    """Expects ``Labeled``s, outputs for each with a label whether its image could be copied.

    An image that has been deleted or changed since it was labeled is not copied, nor is one in a
    TFRecord file.

    Args:
      folder: absolute; an image's copy is ``folder/label/name-hash.suffix``, a hard link if it is
        on the same disk.
      limits: for reading.
    """

    def __init__(self, folder: str, limits: Limits):
        super().__init__()
        self._folder = folder
        self._limits = limits

    def expand(self, labeled: beam.PCollection[Labeled]) -> beam.PCollection[bool]:
        """Copy many images at a time."""
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
            _link(Path(storage.local_path(row.image)), Path(target))
    except ImageError:
        return False
    except (StoreError, OSError) as error:
        if not storage.is_remote(row.image) and not Path(storage.local_path(row.image)).exists():
            return False  # deleted just now
        raise RunError(f"copy_to: {target} cannot be written: {error}") from error
    return True


def _link(source: Path, target: Path) -> None:
    """Make a hard link, or a copy if that is impossible, and replace whatever was there."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        if target.samefile(source):
            return
    temporary = target.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        try:
            os.link(source.resolve(), temporary)
        except OSError:  # another disk, or one without links
            shutil.copyfile(source, temporary)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def path_of(row: Labeled, folder: str) -> str:
    """Return the path of an image's copy; a hash tells images of the same name apart."""
    path = re.split("[?#]", row.image)[0] if storage.is_http(row.image) else row.image
    name = path.rstrip("/").rpartition("/")[2]
    stem, dot, suffix = name.rpartition(".")
    hashed = hashlib.sha256(row.image.encode()).hexdigest()[:16]
    stem = _cut(stem if dot else name, _STEM_BYTES)
    ending = f".{_cut(suffix, 20)}" if dot else ""
    return storage.join(folder, folder_of(row.label or ""), f"{stem}-{hashed}{ending}")


def folder_of(label: str) -> str:
    """Return a label's folder name: the label without characters that some system forbids."""
    return (
        _cut(re.sub(r'[\x00-\x1f\x7f/\\:*?"<>|\[\]#]', "_", label).strip(". "), _LABEL_BYTES) or "_"
    )


def _cut(text: str, length: int) -> str:
    return text.encode("utf-8", "replace")[:length].decode("utf-8", "ignore")
