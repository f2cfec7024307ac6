"""Lines for people, on standard error; standard output is for results."""

from __future__ import annotations

import sys


def say(message: str) -> None:
    """Print one line."""
    print(message, file=sys.stderr, flush=True)
