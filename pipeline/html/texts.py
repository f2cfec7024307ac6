"""Formats what pages show: names cut to size, reasons, times, numbers."""

from __future__ import annotations

import bisect
import itertools
import unicodedata
from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from typing import Any, NamedTuple

from pipeline.console import printable
from pipeline.records import TIME, Reason

NAME_CHARACTERS = 120
LABEL_CHARACTERS = 60
MESSAGE_CHARACTERS = 240

# What fits under a thumbnail, in columns as a terminal counts them.
FILE_NAME_COLUMNS = 16

# Separates the synonyms of ImageNet's classes.
_SYNONYMS = ", "


class Name(NamedTuple):
    """A label's name: what shows, and all of it if that is more."""

    short: str
    full: str

    @property
    def rest(self) -> bool:
        """Whether there is more than what shows."""
        return self.short != self.full


class Names:
    """Short names of a page's labels: the first synonym, where no other label begins like that.

    ImageNet has two classes ``crane``, and ``cardigan`` is a dog as well.

    Args:
      labels: all that the page names.
    """

    def __init__(self, labels: Iterable[str]):
        firsts = Counter(_first(given) for given in set(labels))
        self._ambiguous = {first for first, count in firsts.items() if count > 1}

    def __getitem__(self, given: str | None) -> Name:
        """Return the name of a label; None is "no label"."""
        full = label(given)
        if given is None or _first(given) in self._ambiguous:
            return Name(full, full)
        return Name(label(_first(given)), text(given) or full)


def _first(given: str) -> str:
    return given.partition(_SYNONYMS)[0].strip() or given


def meaning(reason: str) -> str:
    """Explain a failure's reason; "" for one that this version does not know."""
    try:
        return Reason(reason).sentence
    except ValueError:
        return ""


def text(value: Any, characters: int = NAME_CHARACTERS) -> str:
    """Turn any value into text that can be shown, cut at its end."""
    shown = _clean(str(value), 2 * characters)
    return shown if len(shown) <= characters else shown[: characters - 1].rstrip() + "…"


def name(image: str) -> str:
    """Show an image's name; a long one is cut at its beginning, as the end tells images apart."""
    shown = _clean(image[-2 * NAME_CHARACTERS :], 2 * NAME_CHARACTERS)
    return shown if len(shown) <= NAME_CHARACTERS else "…" + shown[1 - NAME_CHARACTERS :]


def base_name(image: str) -> str:
    """Show the last part of an image's name."""
    return name(image.rstrip("/").rpartition("/")[2] or image)


def file_name(image: str) -> str:
    """Show the last part of an image's name; a long one is cut in its middle."""
    shown = base_name(image)
    if sum(map(_columns, shown)) <= FILE_NAME_COLUMNS:
        return shown
    # The end of a name tells more than its beginning.
    end = 3 * FILE_NAME_COLUMNS // 5
    begin = _fitting(shown, FILE_NAME_COLUMNS - 1 - end)
    return f"{begin}…{_fitting(shown[::-1], end)[::-1]}"


def _columns(character: str) -> int:
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _fitting(shown: str, columns: int) -> str:
    """The beginning of a text that takes at most so many columns."""
    taken = list(itertools.accumulate(map(_columns, shown)))
    return shown[: bisect.bisect_right(taken, columns)]


def label(given: str | None) -> str:
    """Show a label, cut to size; None is "no label"."""
    if given is None:
        return "no label"
    return text(given, LABEL_CHARACTERS) or "(no name)"


def time(given: Any) -> str:
    """Write a summary's time for people: 24 November 2026, 18:28 UTC."""
    try:
        moment = datetime.strptime(str(given), TIME)
    except ValueError:
        return text(given)
    return f"{moment.day} {moment:%B %Y, %H:%M} UTC"


def day(given: Any) -> str:
    """Write the day of a summary's time in a few characters: 4 Nov 2026; "" for anything else."""
    return _moment(given, "%d %b %Y")


def minute(given: Any) -> str:
    """Write a summary's time in a few characters: 4 Nov 2026 18:28; "" for anything else."""
    return _moment(given, "%d %b %Y %H:%M")


def _moment(given: Any, form: str) -> str:
    try:
        return f"{datetime.strptime(str(given), TIME):{form}}".lstrip("0")
    except ValueError:
        return ""


def number(value: Any, digits: int = 0) -> str:
    """Write a number with separated thousands; a dash for anything else."""
    return f"{value:,.{digits}f}" if isinstance(value, (int, float)) else "–"


def points(change: float | None) -> str:
    """Write a change of a share in percentage points."""
    if change is None:
        return "–"
    size = f"{100 * abs(change):.1f}"
    return size if size == "0.0" else ("+" if change > 0 else "\N{MINUS SIGN}") + size


def _clean(given: str, characters: int) -> str:
    # Surrogates cannot be written; they stand for bytes in a file's name that are not UTF-8.
    shown = given[:characters].encode("utf-8", "backslashreplace").decode()
    return printable(shown)
