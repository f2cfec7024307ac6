"""A line on the console now and then, so that a long run is seen to move."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

from pipeline import console

SECONDS_BETWEEN_LINES = 10.0

_lock = threading.Lock()
_done = 0
_failed = 0


def add(done: int = 0, failed: int = 0) -> None:
    """Count images of this process that are done. Free of any runner, hence for people only."""
    global _done, _failed
    with _lock:
        _done += done
        _failed += failed


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
    done_before, failed_before = _done, _failed
    while not finished.wait(interval):
        seconds = time.monotonic() - started
        done, failed = _done - done_before, _failed - failed_before
        if done + failed:
            state = f"{done:,} done, {failed:,} failed, {done / seconds:.1f} images/s"
        else:
            # Listing and loading; or other processes do the work, and only the runner knows.
            state = "running"
        console.say(f"{seconds:.0f} s: {state}")
