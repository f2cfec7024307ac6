"""Matches the names in a table with the names of images, where the two are not spelled alike.

A table is often made elsewhere: on another machine, on Windows, on a Mac, or beside the images, so
that it has only their file names. A row names the image

1. that has the same name, after relative paths were made absolute;
2. else the one whose path has the longest end in common with the row's: ``cats/1.jpg``, or the
   file's name alone. Unicode's forms of a letter are the same then, and so are slashes and
   backslashes. Capital letters count only where they tell two images apart.

Where two images, or two rows with different paths, are equally good, none of them matches.
"""

from __future__ import annotations

import posixpath
import unicodedata
import urllib.parse
from collections.abc import Iterable, Iterator, Sequence
from enum import Enum
from typing import NamedTuple

from pipeline import storage


class How(Enum):
    """How a row and an image go together.

    ``FULL``: their paths are the same. ``END``: the one is the end of the other. ``ELSEWHERE``:
    only the ends are the same, and the folders above them differ. ``SEVERAL``: it fits several.
    ``NONE``: not at all.
    """

    FULL = "full"
    END = "end"
    ELSEWHERE = "elsewhere"
    SEVERAL = "several"
    NONE = "none"


class Match(NamedTuple):
    """The image that a row names. ``image``: its name; None if there is none, or no single one."""

    image: str | None
    how: How


# In the place of an image or a path: there are several.
_SEVERAL = ""


def key_of(name: str) -> str:
    """Return what all names that may match have in common: the file's name."""
    path = _path(name)
    return path[-1].casefold() if path else ""


def match(images: Iterable[str], rows: Sequence[tuple[str, str]]) -> Iterator[Match]:
    """Find the image that each row names.

    Args:
      images: their names.
      rows: of each the name as the table has it, and the same as an absolute path or URI.
    """
    paths = {image: _path(image) for image in images}
    by_end: dict[str, str] = {}
    by_exact_end: dict[str, str] = {}
    for image, path in paths.items():
        for end in _ends(path):
            _note(by_end, end.casefold(), image)
            _note(by_exact_end, end, image)
    row_paths = [paths.get(absolute) or _path(entry) for entry, absolute in rows]
    row_names = ["/".join(path).casefold() for path in row_paths]
    row_by_end: dict[str, str] = {}
    for path, name in zip(row_paths, row_names, strict=True):
        for end in _ends(path):
            _note(row_by_end, end.casefold(), name)
    whole = set(row_names)
    best_rows: dict[str, str] = {}
    for image, path in paths.items():
        for end in map(str.casefold, _ends(path)):
            if end in row_by_end:
                best_rows[image] = end if end in whole else row_by_end[end]
                break
    for (_, absolute), path, name in zip(rows, row_paths, row_names, strict=True):
        if absolute in paths:
            yield Match(absolute, How.FULL)
            continue
        common = next((end for end in _ends(path) if end.casefold() in by_end), None)
        if common is None:
            yield Match(None, How.NONE)
            continue
        named = by_end[common.casefold()] or by_exact_end.get(common, _SEVERAL)
        if named == _SEVERAL or best_rows[named] == _SEVERAL:
            yield Match(None, How.SEVERAL)
        elif best_rows[named] != name:
            yield Match(None, How.NONE)
        else:
            yield Match(named, _how(common.count("/") + 1, len(path), len(paths[named])))


def _how(common: int, row: int, image: int) -> How:
    """Tell how two paths go together by their lengths, and by that of the end they share."""
    if common == row == image:
        return How.FULL
    return How.END if common in (row, image) else How.ELSEWHERE


def _note(by_end: dict[str, str], end: str, name: str) -> None:
    if by_end.setdefault(end, name) != name:
        by_end[end] = _SEVERAL


def _ends(path: tuple[str, ...]) -> Iterator[str]:
    """Yield the ends of a path, the longest first."""
    for start in range(len(path)):
        yield "/".join(path[start:])


def _path(name: str) -> tuple[str, ...]:
    """Split a name into folders and a file, in one form of Unicode; it may be empty."""
    if storage.is_http(name):
        address = name.partition("://")[2].partition("?")[0].partition("#")[0]
        name = urllib.parse.unquote(address)
    name = posixpath.normpath(unicodedata.normalize("NFC", name).replace("\\", "/"))
    return tuple(part for part in name.split("/") if part not in ("", ".", ".."))
