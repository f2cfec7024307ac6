"""Class names: from a label file, from the model's own assets, or ImageNet's public list."""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path

from pipeline.errors import ImageError, LabelsError
from pipeline.storage import cache
from pipeline.storage import read as storage

# Where TensorFlow's tutorials have the 1001 names of the Hub's ImageNet classifiers.
IMAGENET_LABELS_URL = (
    "https://storage.googleapis.com/download.tensorflow.org/data/ImageNetLabels.txt"
)
IMAGENET_CLASSES = 1001


def find_labels(labels_file: str | None, model_dir: Path, classes: int) -> tuple[str, ...]:
    """The names of a model's classes, in the order of its output.

    Args:
      labels_file: path or URI of a text file with one name a line, or None.
      model_dir: the model's folder; its ``assets/labels.txt`` is the next choice.
      classes: the length of the model's output.

    Raises:
      LabelsError: there is no label file, it cannot be read, or it has another number of names.
    """
    source, labels = _read_labels(labels_file, model_dir, classes)
    if len(labels) == classes:
        return labels
    hint = ""
    if (len(labels), classes) == (IMAGENET_CLASSES - 1, IMAGENET_CLASSES):
        hint = " (Hub classifiers have the class 'background' before ImageNet's 1000)"
    raise LabelsError(
        f"{source} has {len(labels)} labels, but the model returns {classes} numbers for each "
        f"image{hint}; give this model's own label file with --labels_file"
    )


def _read_labels(
    labels_file: str | None, model_dir: Path, classes: int
) -> tuple[str, tuple[str, ...]]:
    """Where the labels are from, for messages, and the labels."""
    if labels_file is not None:
        source = f"--labels_file {labels_file}"
        return source, _parse(source, _fetch(source, labels_file))
    own = model_dir / "assets" / "labels.txt"
    if own.is_file():
        return str(own), _parse(str(own), _fetch(str(own), str(own)))
    if classes == IMAGENET_CLASSES:
        return IMAGENET_LABELS_URL, _parse(IMAGENET_LABELS_URL, _fetch_imagenet_labels())
    raise LabelsError(
        f"the model has {classes} classes and no assets/labels.txt; "
        "give a file with one label a line with --labels_file"
    )


def _fetch(source: str, uri: str) -> bytes:
    try:
        return storage.read_bytes(uri)
    except ImageError as error:
        raise LabelsError(f"{source}: cannot be read: {error}") from error


def _fetch_imagenet_labels() -> bytes:
    name = hashlib.sha256(IMAGENET_LABELS_URL.encode()).hexdigest()[:16]
    cached = cache.folder("labels") / f"{name}.txt"
    if cached.is_file():
        return _fetch(str(cached), str(cached))
    try:
        data = storage.read_bytes(IMAGENET_LABELS_URL)
    except ImageError as error:
        raise LabelsError(
            f"the model has {IMAGENET_CLASSES} classes and no labels of its own, and ImageNet's "
            f"cannot be fetched ({error}); give a label file with --labels_file"
        ) from error
    if len(_parse(IMAGENET_LABELS_URL, data)) == IMAGENET_CLASSES:  # not some proxy's login page
        with contextlib.suppress(OSError):  # a full disk, say; the labels are there all the same
            cache.write_file(cached, data)
    return data


def _parse(source: str, data: bytes) -> tuple[str, ...]:
    try:
        lines = data.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise LabelsError(f"{source} is not a UTF-8 text file: {error}") from error
    while lines and not lines[-1].strip():
        lines.pop()
    return tuple(line.strip() for line in lines)
