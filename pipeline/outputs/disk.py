"""Tells whether a disk of this machine is full, and how much room there is on it."""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from pipeline import storage

# What the system says where there is no room, or no room for this user.
_FULL = (errno.ENOSPC, errno.EDQUOT)


# With more bytes than this, a disk is not taken for the full one.
_NEARLY_FULL = 50_000_000


def is_full(error: BaseException) -> bool:
    """Tell whether a full disk is behind an error.

    A runner passes on a worker's error as text, and so does TensorFlow, so the text counts as well.
    """
    causes = list(_causes(error))
    if any(isinstance(cause, OSError) and cause.errno in _FULL for cause in causes):
        return True
    words = "|".join(re.escape(os.strerror(number)) for number in _FULL)
    return any(re.search(words, str(cause)) for cause in causes)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def free(folder: str) -> int | None:
    """Measure the bytes that are free on a folder's disk; None if it is in a store.

    A folder that does not exist would be on the disk of the one above it.
    """
    if storage.is_remote(folder):
        return None
    path = Path(folder)
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


def in_line(error: BaseException, folders: list[str], missing: str = "") -> str:
    """Say which disk is full, among those of some folders and the one for temporary files.

    Args:
      error: what came of it.
      folders: absolute paths or URIs.
      missing: says what is missing, if that is known.
    """
    folder, room = _fullest(folders)
    said = (str(error).strip().splitlines() or [""])[-1]
    return (
        f"{said}; the disk of {folder} has {in_words(room)} free{missing}; make room there, and "
        "the same command goes on"
    )


def _fullest(folders: list[str]) -> tuple[str, int]:
    """Find the folder with the least room, and the bytes that are free there."""
    local = [
        *(folder for folder in folders if not storage.is_remote(folder)),
        tempfile.gettempdir(),
    ]
    rooms = [(free(folder) or 0, -number) for number, folder in enumerate(local)]
    room, number = min(rooms)
    if room > _NEARLY_FULL:  # it was a quota, or a limit of files
        room, number = rooms[0]
    return local[-number], room


def size_of(folder: str) -> int:
    """Add up the bytes of the files in a folder of this machine."""
    with os.scandir(folder) as entries:
        return sum(entry.stat().st_size for entry in entries if entry.is_file())


def in_words(count: float) -> str:
    """Write a number of bytes for people."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"
