"""Recognizes a split that comes with the images: folders named like its parts, or a column.

A part's name is ``train``, ``val``, ``test`` or another that is usual, alone (``Training``) or with
words that all parts' names share (``seg_train`` and ``seg_test``, ``train2017`` and ``val2017``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable

TRAIN, VALIDATION, TEST = PARTS = ("train", "validation", "test")

# The column of a table that says which part an image belongs to, and how else it may be written.
COLUMN = "split"
COLUMNS = (COLUMN, "Split", "SPLIT")

_PART_OF = {
    **dict.fromkeys(("train", "training", "trn", "trainval"), TRAIN),
    **dict.fromkeys(("val", "valid", "validation", "validate", "dev"), VALIDATION),
    **dict.fromkeys(("test", "testing", "tst", "eval", "evaluation"), TEST),
}

_WORD = re.compile(r"[^\W\d_]+")


def part_named(name: str) -> tuple[str, tuple[str, ...]] | None:
    """Find which part a name stands for.

    Returns:
      The part, and the other words of the name; None if it stands for no part.
    """
    words = _WORD.findall(name.lower())
    parts = [_PART_OF[word] for word in words if word in _PART_OF]
    if len(parts) != 1 and parts != [TRAIN, VALIDATION]:  # "train_val" is what does not test
        return None
    return parts[0], tuple(word for word in words if word not in _PART_OF)


def plain_parts(names: Iterable[str]) -> dict[str, str]:
    """Find those of some names that are a part's name without other words: parts by name."""
    found = {name: part_named(name) for name in names}
    return {name: part[0] for name, part in found.items() if part is not None and not part[1]}


def part_in(path: str) -> str:
    """Return the last of a path's folders that is named like a part, else the last of all."""
    folders = path.rstrip("/").split("/")
    return next((name for name in reversed(folders) if plain_parts([name])), folders[-1])


def parts_of(names: Iterable[str]) -> dict[str, str]:
    """Find the part that each of some names stands for.

    Returns:
      Parts by name; empty unless every name stands for a part, and all share their other words.
    """
    found = {name: part_named(name) for name in names}
    known = {name: part for name, part in found.items() if part is not None}
    if len(known) < len(found) or len({others for _, others in known.values()}) > 1:
        return {}
    return {name: part for name, (part, _) in known.items()}
