"""Formats what the page shows: names cut to size, reasons, times, numbers."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pipeline.console import printable
from pipeline.records import TIME, Reason

NAME_CHARACTERS = 120
LABEL_CHARACTERS = 60
MESSAGE_CHARACTERS = 240


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
