"""``assets/trained_on.bin``: the images that an export of ``finetune`` has been trained on.

The file has the first eight bytes of the SHA-256 of each image's file, those that validated
included, in ascending order. So 100 million other images would be taken for one of a million with a
probability of 0.001 % in all.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.models import files
from pipeline.records import TRAINED_ON

NAME = "trained_on.bin"

_NUMBER = np.dtype(">u8")
_DIGITS = 2 * _NUMBER.itemsize


def exists(model_dir: Path) -> bool:
    """Tell whether a SavedModel's folder has the file."""
    return _path(model_dir).is_file()


def write(model_dir: Path, contents: Iterable[str], base_dir: Path) -> None:
    """Add the file to a SavedModel's folder.

    Args:
      model_dir: the folder.
      contents: of each image the SHA-256 of its file, in hexadecimal.
      base_dir: the folder of the model that was trained further; what it was trained on counts.
    """
    numbers = np.array([int(content[:_DIGITS], 16) for content in contents], _NUMBER)
    before = _read(base_dir) if exists(base_dir) else numbers[:0]
    path = _path(model_dir)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.union1d(numbers, before).astype(_NUMBER).tofile(path)


def has_seen(handle: str, fingerprint: str, content: str) -> bool:
    """Tell whether a model that has the file was trained on an image.

    Args:
      handle: see ``files.resolve``.
      fingerprint: of the model.
      content: the SHA-256 of the image's file, in hexadecimal.

    Raises:
      ModelError: the model cannot be fetched.
    """
    numbers = _of_model(handle, fingerprint)
    number = np.uint64(int(content[:_DIGITS], 16))
    at = int(np.searchsorted(numbers, number))
    return at < len(numbers) and bool(numbers[at] == number)


@functools.lru_cache(maxsize=1)
def _of_model(handle: str, fingerprint: str) -> np.ndarray:
    del fingerprint  # tells it from another model that was there before
    return _read(files.resolve(handle)).astype(np.uint64)


def _read(model_dir: Path) -> np.ndarray:
    return np.fromfile(_path(model_dir), _NUMBER)


def _path(model_dir: Path) -> Path:
    return model_dir / "assets" / NAME


def said_in(row: Mapping[str, Any]) -> bool:
    """Tell whether a row, or what is carried with it, says that the model was trained on it.

    Args:
      row: as any format has it; in some, the value is text.
    """
    return row.get(TRAINED_ON) in (True, "true")


def kept_of(carried: Mapping[str, Any]) -> dict[str, bool]:
    """Return the column as a new row has it, from what is carried with an earlier one."""
    return {TRAINED_ON: said_in(carried)} if TRAINED_ON in carried else {}
