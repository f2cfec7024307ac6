"""Finds the class that somebody means who does not spell its name as the model does.

    tench, Tinca tinca       the model's own name
    Tench,_tinca-tinca       the same, but for capital letters, spaces, underscores and hyphens
    tench                    its first synonym, or another one
    n01440764                its WordNet id, for the 1000 classes of ImageNet
    1                        its index in the model's output, where all names are such numbers

Each counts only if it is that of one class alone.
"""

from __future__ import annotations

import difflib
import functools
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

# A number as tables have it; those with gaps are read as floats.
_NUMBER = re.compile(r"(\d{1,9})(\.0*)?")

# Names of ImageNet's classes, in their usual order, by which that is recognized.
_OF_IMAGENET = {
    0: "tench",
    207: "golden retriever",
    340: "zebra",
    609: "jeep",
    999: "toilet tissue",
}
_IMAGENET_CLASSES = 1000


class ClassLookup:
    """The classes of a model, by all that may name them.

    Args:
      labels: the names, in the order of the model's output.
    """

    def __init__(self, labels: Sequence[str]):
        self._labels = tuple(labels)
        self._exact = frozenset(labels)
        self._by_spelling = [
            _unique((fold(name), name) for name in labels),
            _unique((fold(name.split(",")[0]), name) for name in labels),
            _unique((fold(one), name) for name in labels for one in name.split(",")),
        ]
        self._by_wordnet_id = dict(_wordnet_ids(labels))
        self.has_numbers = any(_NUMBER.fullmatch(name) for name in labels)

    def find(self, name: str) -> str | None:
        """Return the model's own name of a class; None if there is none, or no single one."""
        if name in self._exact:
            return name
        for known in self._by_spelling:
            found = known.get(fold(name))
            if found is not None:
                return found
        number = _NUMBER.fullmatch(name)
        if number and number[1] in self._exact:
            return number[1]
        return self._by_wordnet_id.get(fold(name))

    def index(self, number: str) -> int | None:
        """Read the index of a class; None if a text is not one."""
        match = _NUMBER.fullmatch(number.strip())
        index = int(match[1]) if match else len(self._labels)
        return index if index < len(self._labels) else None

    def at(self, number: str) -> str | None:
        """Return the name of the class with this index; None if it is not one."""
        index = self.index(number)
        return None if index is None else self._labels[index]

    def nearest(self, name: str) -> str | None:
        """Return the model's name that looks most like another one; None if none does."""
        folded = fold(name)
        by_spelling = {fold(one): label for label in self._labels for one in label.split(",")}
        if folded in by_spelling:  # that of several classes
            return by_spelling[folded]
        close = difflib.get_close_matches(folded, by_spelling, n=1, cutoff=0.75)
        return by_spelling[close[0]] if close else None


@functools.lru_cache(maxsize=4)
def lookup_of(labels: tuple[str, ...]) -> ClassLookup:
    """Make the ``ClassLookup`` of a model once in each process."""
    return ClassLookup(labels)


def fold(name: str) -> str:
    """Remove what does not tell two classes apart: capital letters, and how words are divided."""
    return " ".join(re.sub(r"[\s_-]+", " ", unicodedata.normalize("NFKC", name)).casefold().split())


def _unique(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Make a dict of keys and values, without the keys that have several values."""
    found: dict[str, str | None] = {}
    for key, value in pairs:
        if key and found.setdefault(key, value) != value:
            found[key] = None
    return {key: value for key, value in found.items() if value is not None}


def _wordnet_ids(labels: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield the WordNet ids and names of ImageNet's classes, if these are a model's last ones."""
    names = labels[-_IMAGENET_CLASSES:]
    if len(names) == _IMAGENET_CLASSES and all(
        fold(names[n].split(",")[0]) == name for n, name in _OF_IMAGENET.items()
    ):
        file = Path(__file__).with_name("imagenet_wordnet_ids.txt")
        yield from zip(file.read_text().split(), names, strict=True)
