"""A line on the console now and then, so that a long run is seen to move."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import NamedTuple

from pipeline import console

SECONDS_BETWEEN_LINES = 10.0

_lock = threading.Lock()


class Counts(NamedTuple):
    """Images.

    ``found`` in the inputs; ``done`` by the model; ``failed``; ``kept``: in rows that another
    attempt finds, should this one be killed.
    """

    found: int = 0
    done: int = 0
    failed: int = 0
    kept: int = 0


_counts = Counts()


def add(**counts: int) -> None:
    """Count images of this process, by fields of ``Counts``.

    Free of any runner, hence for people only.
    """
    global _counts
    with _lock:
        _counts = Counts(*map(sum, zip(_counts, Counts(**counts), strict=True)))


def counts() -> Counts:
    """Of this process, so far."""
    return _counts


@contextlib.contextmanager
def shown(seconds_between_lines: float = SECONDS_BETWEEN_LINES) -> Iterator[None]:
    """While in here, print the progress to standard error at intervals."""
    finished = threading.Event()
    thread = threading.Thread(
        target=_print_until, args=(finished, seconds_between_lines), daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        finished.set()
        thread.join()


def _print_until(finished: threading.Event, interval: float) -> None:
    started = time.monotonic()
    before = _counts
    while not finished.wait(interval):
        seconds = time.monotonic() - started
        now = Counts(*(count - earlier for count, earlier in zip(_counts, before, strict=True)))
        if now.done + now.failed:
            state = f"{now.done:,} done, {now.failed:,} failed, {now.done / seconds:.1f} images/s"
        elif now.found:
            state = f"{now.found:,} found"
        else:
            # Loading; or other processes do the work, and only the runner knows.
            state = "running"
        console.say(f"{seconds:.0f} s: {state}")
