"""Print lines for people on standard error; standard output is for results."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator

from pipeline.redaction import redact

# C0, DEL and C1 except the line feed; marks of writing direction; Unicode's own line ends.
_UNPRINTABLE = [
    *(code for code in range(0x20) if code != 0x0A),
    *range(0x7F, 0xA0),
    *(0x061C, 0x200E, 0x200F),
    *range(0x2028, 0x202F),
    *range(0x2066, 0x206A),
]
_ESCAPES = {code: ascii(chr(code))[1:-1] for code in _UNPRINTABLE}


def say(message: str) -> None:
    """Print one line, without secrets and without what a terminal would act on."""
    _printer(printable(redact(message)))


def _print(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


_printer: Callable[[str], None] = _print


@contextlib.contextmanager
def through(printer: Callable[[str], None]) -> Iterator[None]:
    """While in this context, let something else print the lines: whatever owns the terminal."""
    global _printer
    _printer = printer
    try:
        yield
    finally:
        _printer = _print


def printable(text: str) -> str:
    r"""Escape control characters in a text, as ``\x1b``, except line feeds.

    A file's name may contain any of them, and so color, move, hide or reverse what a person
    reads.
    """
    return text.translate(_ESCAPES)
