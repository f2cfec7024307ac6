"""Reads the values of flags from text, and refuses invalid ones.

Each function takes what the user wrote, and returns the value or raises ``ArgumentTypeError``.
"""

from __future__ import annotations

import math
import os
import re
from argparse import ArgumentTypeError
from collections.abc import Callable
from pathlib import Path

from pipeline.formats.registry import FORMATS, is_taken
from pipeline.inputs.globs import Exclusions

# 4096 images of 224 × 224 take 600 MB, before the model uses any memory.
MAX_BATCH_SIZE = 4096
MOST_REVIEWED = 10_000  # which every worker may hold in memory


def not_empty(text: str) -> str:
    """Refuse an empty text, as of an unset shell variable; it would mean the current folder."""
    if not text:
        raise ArgumentTypeError("it is empty")
    return text


def uri(text: str) -> str:
    """Turn a path that is not UTF-8 into its URI, which every file that a run writes can have."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return Path(os.path.abspath(text)).as_uri()
    return not_empty(text)


def utf8(text: str) -> str:
    """Refuse what cannot be written as UTF-8, or is empty."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ArgumentTypeError(f"{text!r} is not UTF-8") from error
    return not_empty(text)


def glob(text: str) -> str:
    """Refuse what is not a glob for names or paths."""
    try:
        Exclusions("", [text])
    except re.error as error:
        raise ArgumentTypeError(f"{text!r} is not a valid glob: {error}") from error
    return utf8(text)


def header(text: str) -> str:
    """Refuse what cannot be a header of HTTP: control characters, other characters than ASCII's."""
    if not text.isascii() or not text.isprintable():
        raise ArgumentTypeError(f"{text!r} has characters that no header may have")
    return not_empty(text.strip())


def fingerprint(text: str) -> str:
    """Read the fingerprint of a model."""
    if not re.fullmatch("sha256:[0-9a-f]{64}", text.lower()):
        raise ArgumentTypeError(f"{text!r} is not sha256: and 64 hexadecimal digits")
    return text.lower()


def one_of(*choices: str) -> Callable[[str], str]:
    """Return a function that refuses all values but these."""

    def choice(text: str) -> str:
        if text not in choices:
            names = ", ".join(map(repr, choices))
            raise ArgumentTypeError(f"invalid choice: {text!r} (choose from {names})")
        return text

    return choice


def carried(text: str) -> tuple[str, ...]:
    """Read the names of columns to carry, separated by commas."""
    names = tuple(name.strip() for name in text.split(","))
    for number, name in enumerate(names):
        if not name:
            raise ArgumentTypeError(f"{text!r} has an empty name")
        if name in names[:number]:
            raise ArgumentTypeError(f"{name} is named twice")
        if is_taken(name):
            raise ArgumentTypeError(f"the rows have a column {name} of their own")
    return names


def parameters(text: str) -> tuple[str, ...]:
    """Read the names of parameters of queries, separated by commas."""
    names = tuple(name.strip() for name in text.split(","))
    if not all(names):
        raise ArgumentTypeError(f"{text!r} has an empty name")
    return tuple(dict.fromkeys(names))


def formats(text: str) -> tuple[str, ...]:
    """Read the names of row formats, separated by commas."""
    names = dict.fromkeys(name.strip() for name in text.split(","))
    for name in names:
        if name not in FORMATS:
            raise ArgumentTypeError(f"{name!r} is not a format; choose from {', '.join(FORMATS)}")
    return tuple(names)


def positive(text: str) -> int:
    """Read a whole number that is 1 or more."""
    try:
        value = int(text)
    except ValueError:
        raise ArgumentTypeError(f"{text} is not a whole number") from None
    if value < 1:
        raise ArgumentTypeError(f"{text} is not a positive number")
    return value


def batch_size(text: str) -> int:
    """Read a number of images in [1, ``MAX_BATCH_SIZE``]."""
    value = positive(text)
    if value > MAX_BATCH_SIZE:
        raise ArgumentTypeError(f"{text} is more than {MAX_BATCH_SIZE}")
    return value


def review(text: str) -> int:
    """Read a number of images in [1, ``MOST_REVIEWED``]."""
    value = positive(text)
    if value > MOST_REVIEWED:
        raise ArgumentTypeError(f"{text} is more than {MOST_REVIEWED}")
    return value


def price(text: str) -> float:
    """Read a price, which is 0 or more."""
    value = _number(text)
    if not 0 <= value < math.inf:
        raise ArgumentTypeError(f"{text} is not a price")
    return value


def seconds(text: str) -> float:
    """Read a positive number of seconds."""
    value = _number(text)
    if not 0 < value < math.inf:
        raise ArgumentTypeError(f"{text} is not a positive number of seconds")
    return value


def rate(text: str) -> float:
    """Read a number between 0 and 1, both excluded."""
    value = _number(text)
    if not 0 < value < 1:
        raise ArgumentTypeError(f"{text} is not between 0 and 1")
    return value


def ratio(text: str) -> float:
    """Read a number between 0 and 1, both included."""
    value = _number(text)
    if not 0 <= value <= 1:
        raise ArgumentTypeError(f"{text} is not between 0 and 1")
    return value


def threshold(text: str) -> float | str:
    """Read a number between 0 and 1, both included, or the path of a file of thresholds."""
    try:
        float(text)
    except ValueError:
        return not_empty(text)
    return ratio(text)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ArgumentTypeError(f"{text} is not a number") from None
