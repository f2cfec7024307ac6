"""Lines for people, on standard error; standard output is for results."""

from __future__ import annotations

import sys

from pipeline.redaction import redact

# C0, DEL and C1 but the line feed; what turns the direction of writing; Unicode's own line ends.
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
    print(printable(redact(message)), file=sys.stderr, flush=True)


def printable(text: str) -> str:
    r"""The text with control characters as escapes, ``\x1b``, but for line feeds.

    A file's name may hold any of them, and with them color, move, hide or reverse what a person
    reads.
    """
    return text.translate(_ESCAPES)
