"""Brings a model to where the workers of a job elsewhere can read it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pipeline import storage

# The file without which a folder is no SavedModel; it comes last, so that what is there is whole.
_LAST = "saved_model.pb"


def stage(path: Path, fingerprint: str, folder: str) -> str:
    """Copy a model, unless it is there already.

    Args:
      path: the SavedModel's folder on this machine.
      fingerprint: of the model; it names the copy, which therefore never changes.
      folder: URI of the folder for models.

    Returns:
      The URI of the copy.

    Raises:
      StoreError: it cannot be written.
    """
    target = storage.join(folder, fingerprint.replace(":", "-"))
    if storage.exists(storage.join(target, _LAST)):
        return target
    names = [file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()]
    with ThreadPoolExecutor(8) as pool:
        rest = [name for name in names if name != _LAST]
        list(pool.map(lambda name: storage.upload(path / name, storage.join(target, name)), rest))
    storage.upload(path / _LAST, storage.join(target, _LAST))
    return target
