"""Finds class names: in a label file, in the model's own assets, or in ImageNet's public list."""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path
from typing import NamedTuple

from pipeline import storage
from pipeline.errors import ImageError, LabelsError, StoreError
from pipeline.models.label_files import parse_labels
from pipeline.storage import cache

# Where TensorFlow's tutorials have the 1001 names of the Hub's ImageNet classifiers.
IMAGENET_LABELS_URL = (
    "https://storage.googleapis.com/download.tensorflow.org/data/ImageNetLabels.txt"
)
IMAGENET_CLASSES = 1001

# In a model's folder.
_OWN = "assets/labels.txt"


def find_labels(labels_file: str | None, model_dir: Path, classes: int) -> tuple[str, ...]:
    """Find the names of a model's classes, in the order of its output.

    Args:
      labels_file: path or URI of a file in one of the formats of ``label_files``, or None.
      model_dir: the model's folder; its ``assets/labels.txt`` is the next choice.
      classes: the length of the model's output.

    Raises:
      LabelsError: there is no label file, it cannot be read, or it is in no known format, or it has
        another number of names.
    """
    source, data = _find(labels_file, model_dir, classes)
    labels = _parse(source, data)
    if len(labels) == classes:
        return labels
    if (len(labels), classes) == (1, 2):
        raise source.error(
            "has 1 label, but the model has two classes; where it returns one number, that is the "
            "score of the second",
            remedy="give a file with both names with {labels_file}, that of low scores first",
        )
    hint = ""
    if (len(labels), classes) == (IMAGENET_CLASSES - 1, IMAGENET_CLASSES):
        hint = " (Hub classifiers have the class 'background' before ImageNet's 1000)"
    raise source.error(
        f"has {len(labels)} labels, but the model returns {classes} numbers for each image{hint}",
        remedy="give this model's own label file with {labels_file}",
    )


def has_labels(model_dir: Path) -> bool:
    """Tell whether a model has class names of its own."""
    return (model_dir / _OWN).is_file()


class _Source(NamedTuple):
    """Where labels are from: a path or URI, and whether the user has given it."""

    uri: str
    is_given: bool = False

    def error(self, problem: str, remedy: str = "") -> LabelsError:
        if self.is_given:
            return LabelsError(problem, subject="labels_file", given=self.uri, remedy=remedy)
        return LabelsError(f"{self.uri}: {problem}", remedy=remedy)


def _find(labels_file: str | None, model_dir: Path, classes: int) -> tuple[_Source, bytes]:
    """Find the label file, and read it."""
    if labels_file is not None:
        given = _Source(labels_file, is_given=True)
        return given, _fetch(given)
    if has_labels(model_dir):
        own = _Source(str(model_dir / _OWN))
        return own, _fetch(own)
    if classes == IMAGENET_CLASSES:
        return _Source(IMAGENET_LABELS_URL), _fetch_imagenet_labels()
    raise LabelsError(
        f"the model has {classes} classes and no assets/labels.txt",
        remedy="give a file with one label per line with {labels_file}",
    )


def _fetch(source: _Source) -> bytes:
    try:
        return storage.read_bytes(source.uri)
    except ImageError as error:
        raise source.error(f"cannot be read: {error}") from error


def _fetch_imagenet_labels() -> bytes:
    name = hashlib.sha256(IMAGENET_LABELS_URL.encode()).hexdigest()[:16]
    cached = cache.folder("labels") / f"{name}.txt"
    if cached.is_file():
        return _fetch(_Source(str(cached)))
    try:
        data = storage.read_bytes(IMAGENET_LABELS_URL, is_given=False)
    except ImageError as error:
        raise LabelsError(
            f"the model has {IMAGENET_CLASSES} classes and no labels of its own, and ImageNet's "
            f"cannot be fetched ({error})",
            remedy="give a label file with {labels_file}",
        ) from error
    source = _Source(IMAGENET_LABELS_URL)
    if len(_parse(source, data)) == IMAGENET_CLASSES:  # not some proxy's login page
        with contextlib.suppress(StoreError):  # a full disk, say; the labels are there all the same
            storage.write_file(str(cached), data)
    return data


def _parse(source: _Source, data: bytes) -> tuple[str, ...]:
    try:
        return parse_labels(data)
    except ValueError as error:
        raise source.error(
            str(error), remedy="give {labels_file} a text file with one name per line"
        ) from error
