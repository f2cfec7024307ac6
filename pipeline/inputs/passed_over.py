"""Defines what listings pass over, counts it, and says it."""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple

from pipeline.console import printable
from pipeline.redaction import name_of
from pipeline.tally import CombineTallies

# Bounds of what is kept, however much is passed over: different suffixes, and names per reason.
MOST_SUFFIXES = 100
MOST_EXAMPLES = 3

# How many suffixes the console names.
_SUFFIXES_SAID = 8

# What names are counted under that have no suffix, and all suffixes beyond those.
NO_SUFFIX = "none"
_MORE = "more"

# Longer ones are parts of names, not suffixes.
_LONGEST_SUFFIX = 16


class WhyPassedOver(str, Enum):
    """Why a name that was listed is not taken for an image. A closed set.

    Attributes:
      one: what to call such a name, for people.
      many: what to call several of them.
    """

    _value_: str
    one: str
    many: str

    def __new__(cls, *facts: Any) -> WhyPassedOver:
        """Make the string that goes into a summary, with the words as attributes."""
        reason = str.__new__(cls, facts[0])
        reason._value_, reason.one, reason.many = facts
        return reason

    HIDDEN = "hidden", "hidden file", "hidden files"
    OTHER_SUFFIX = "other_suffix", "with another suffix", "with other suffixes"
    UNSUPPORTED_FORMAT = (
        "unsupported_format",
        "camera raw file to convert to JPEG first",
        "camera raw files to convert to JPEG first",
    )
    OTHER_CASE = (
        "other_case",
        "that the pattern would match in another case",
        "that the pattern would match in another case",
    )
    FOLDER = (
        "folder",
        "folder that the pattern does not enter",
        "folders that the pattern does not enter",
    )
    EMPTY_TABLE = "empty_table", "empty table", "empty tables"
    EXCLUDED = "excluded", "excluded", "excluded"
    OUTPUT = "own_output", "file of the run's own output", "files of the run's own output"
    ALREADY_LISTED = (
        "already_listed",
        "link to a folder that is listed already",
        "links to folders that are listed already",
    )
    NO_CLASS_FOLDER = "no_class_folder", "outside of class folders", "outside of class folders"


_BY_SUFFIX = (
    WhyPassedOver.OTHER_SUFFIX,
    WhyPassedOver.UNSUPPORTED_FORMAT,
    WhyPassedOver.OTHER_CASE,
)


class PassedOver(NamedTuple):
    """Something that an input lists and that is not taken for an image.

    ``name``: its absolute path or URI. ``times``: how many there are, if it stands for several.
    """

    reason: WhyPassedOver
    name: str
    times: int = 1


@dataclass
class PassedOverTally:
    """What was passed over.

    Attributes:
      reasons: counts by reason.
      suffixes: for reasons that are about suffixes, counts by suffix.
      examples: for each reason some names, the first ones in alphabetical order.
    """

    reasons: Counter[str] = field(default_factory=Counter)
    suffixes: dict[str, Counter[str]] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def add(self, one: PassedOver) -> PassedOverTally:
        """Count one more, in place."""
        reason = one.reason.value
        self.reasons[reason] += one.times
        if one.reason in _BY_SUFFIX:
            suffix = suffix_of(one.name)
            if one.reason is not WhyPassedOver.OTHER_CASE:
                suffix = suffix.lower()
            self._count_suffix(reason, suffix, one.times)
        examples = self.examples.setdefault(reason, [])
        if len(examples) < MOST_EXAMPLES or one.name < examples[-1]:
            self._keep(reason, [one.name])
        return self

    def merge(self, other: PassedOverTally) -> PassedOverTally:
        """Add another tally, in place."""
        self.reasons += other.reasons
        for reason, counts in other.suffixes.items():
            for suffix, count in counts.items():
                self._count_suffix(reason, suffix, count)
        for reason, names in other.examples.items():
            self._keep(reason, names)
        return self

    def to_json(self) -> dict[str, Any]:
        """Return the keys of ``summary.json`` that say what was passed over; names as in rows."""
        return {
            "passed_over": _by_count(self.reasons),
            "passed_over_suffixes": {
                reason: _by_count(counts) for reason, counts in sorted(self.suffixes.items())
            },
            "passed_over_examples": {
                reason: [name_of(name) for name in names]
                for reason, names in sorted(self.examples.items())
            },
        }

    def _count_suffix(self, reason: str, suffix: str, count: int) -> None:
        counts = self.suffixes.setdefault(reason, Counter())
        counts[suffix if suffix in counts or len(counts) < MOST_SUFFIXES else _MORE] += count

    def _keep(self, reason: str, names: Iterable[str]) -> None:
        kept = {*self.examples.get(reason, ()), *names}
        self.examples[reason] = sorted(kept)[:MOST_EXAMPLES]


class CountPassedOver(CombineTallies):
    """``PassedOver`` records → one ``PassedOverTally``."""

    def create_accumulator(self) -> PassedOverTally:  # noqa: D102
        return PassedOverTally()

    def add_input(self, tally: PassedOverTally, one: PassedOver) -> PassedOverTally:  # noqa: D102
        return tally.add(one)


def in_words(summary: Mapping[str, Any]) -> str:
    """Say what was passed over in one line, ``12 hidden files, 3 with other suffixes (.xmp 3)``.

    Args:
      summary: what ``PassedOverTally.to_json`` returns, possibly among other keys.

    Returns:
      The line, which is empty if nothing was passed over.
    """
    words = []
    for value, count in summary["passed_over"].items():
        reason = WhyPassedOver(value)
        said = f"{count:,} {reason.one if count == 1 else reason.many}"
        suffixes = summary["passed_over_suffixes"].get(value)
        words.append(f"{said} ({_list_suffixes(suffixes)})" if suffixes else said)
    return printable(", ".join(words))


def _list_suffixes(counts: Mapping[str, int]) -> str:
    named = list(counts.items())[:_SUFFIXES_SAID]
    more = sum(counts.values()) - sum(count for _, count in named)
    said = [f"{suffix} {count:,}" for suffix, count in named]
    return ", ".join([*said, f"{_MORE} {more:,}"] if more else said)


def suffix_of(name: str) -> str:
    """Return the suffix of a file's name, as ``.jpg``; ``none`` if it has none."""
    suffix = posixpath.splitext(name)[1]
    is_one = 1 < len(suffix) <= _LONGEST_SUFFIX and suffix.isprintable() and " " not in suffix
    return suffix if is_one else NO_SUFFIX


def _by_count(counts: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
