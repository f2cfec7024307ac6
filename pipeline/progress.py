"""Show the progress of a run: a bar on a terminal, elsewhere a line now and then."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from pipeline import console

if TYPE_CHECKING:
    from rich.progress import Progress

SECONDS_TO_FIRST_LINE = 10.0
SECONDS_BETWEEN_LINES = 30.0

# How often the bar is drawn; without a bar, how often the rate is measured.
_SECONDS_BETWEEN_FRAMES = 0.2
_SECONDS_BETWEEN_LOOKS = 1.0

# The rate is measured over the last so many seconds: the next images are like the latest.
_SECONDS_OF_RATE = 60.0

_lock = threading.Lock()


class Counts(NamedTuple):
    """Numbers of images.

    ``found``: in the inputs, as often as they are named there. Once all are found, each is either
    ``to_do`` or ``set_aside``, because it was named before or done by earlier attempts or runs.
    ``done``: by the model. ``failed``. ``kept``: in rows that the next attempt finds if this one is
    killed.
    """

    found: int = 0
    to_do: int = 0
    set_aside: int = 0
    done: int = 0
    failed: int = 0
    kept: int = 0

    @property
    def total(self) -> int | None:
        """How many images there are to do; None while that is unknown.

        Images are set aside once all are found, so this may fall but not rise.
        """
        if not self.to_do + self.set_aside:
            return None
        return max(self.found - self.set_aside, self.done + self.failed)


_counts = Counts()


# The namespace of Beam's counters with the fields of ``Counts``.
NAMESPACE = "progress"


def add(**counts: int) -> None:
    """Add to this process's counts, by fields of ``Counts``; on a worker, also to Beam's counters.

    What a runner does again is counted again, so this is for people only.
    """
    global _counts
    with _lock:
        _counts = Counts(*map(sum, zip(_counts, Counts(**counts), strict=True)))
    if "apache_beam" in sys.modules:  # else this is no worker
        for name, count in counts.items():
            _counter(name).inc(count)


@functools.cache
def _counter(name: str) -> Any:
    from apache_beam.metrics import Metrics  # seconds; not for --help

    return Metrics.counter(NAMESPACE, name)


def tell(counts: Counts) -> None:
    """Set the counts to what is known of workers elsewhere."""
    global _counts
    with _lock:
        _counts = counts


def counts() -> Counts:
    """Return this process's counts so far."""
    return _counts


@contextlib.contextmanager
def shown(
    first: float = SECONDS_TO_FIRST_LINE, between: float = SECONDS_BETWEEN_LINES
) -> Iterator[None]:
    """While in this context, show the progress on standard error.

    Args:
      first: seconds until the first line, if standard error is not a terminal.
      between: seconds from one line to the next.
    """
    with contextlib.ExitStack() as stack:
        if sys.stderr.isatty() and os.environ.get("TERM") not in ("dumb", "unknown"):
            every, show = _SECONDS_BETWEEN_FRAMES, stack.enter_context(_bar())
        else:
            every, show = min(_SECONDS_BETWEEN_LOOKS, first), _lines(first, between)
        finished = threading.Event()
        thread = threading.Thread(target=_show_until, args=(finished, every, show), daemon=True)
        thread.start()
        try:
            yield
        finally:
            finished.set()
            thread.join()


def end() -> None:
    """Remove the bar from the terminal at once, in a process that is about to end."""
    if _shown is not None:
        _shown.stop()


# Seconds, the counts, and both in words.
_Show = Callable[[float, Counts, str], None]


def _show_until(finished: threading.Event, every: float, show: _Show) -> None:
    started = time.monotonic()
    before = _counts
    rate = _Rate()
    while not finished.wait(every):
        seconds = time.monotonic() - started
        now = Counts(*(count - earlier for count, earlier in zip(_counts, before, strict=True)))
        show(seconds, now, f"{in_words(seconds)}: {_state(now, rate.at(seconds, now))}")


class _Rate:
    """The recent rate, in images per second."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def at(self, seconds: float, now: Counts) -> float:
        """Compute the rate at this moment; 0 while it is unknown.

        The first images do not count, because the model was loaded with them.
        """
        count = now.done + now.failed
        if count:
            self._seen.append((seconds, count))
        while self._seen and self._seen[0][0] < seconds - _SECONDS_OF_RATE:
            self._seen.popleft()
        if len(self._seen) < 2:
            return 0.0
        then, before = self._seen[0]
        return (count - before) / (seconds - then)


def _state(now: Counts, rate: float) -> str:
    """Put the counts into words."""
    finished, total = now.done + now.failed, now.total
    if total is not None and finished >= total:
        return f"{now.done:,} done, {now.failed:,} failed, writing the results"
    if not finished and total is None:
        # With nothing found, the run is loading; or others do the work, and only the runner knows.
        return f"{now.found:,} found" if now.found else "running"
    words = [f"{now.done:,} done" if total is None else f"{now.done:,} of {total:,} done"]
    words.append(f"{now.failed:,} failed")
    if rate:
        words.append(f"{rate:.1f} images/s")
        if total is not None:
            words.append(f"{in_words((total - finished) / rate)} left")
    return ", ".join(words)


def in_words(seconds: float) -> str:
    """Write a time for people: ``40 s``, ``22 min``, ``3 h 5 min``."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,} h {minutes} min"


def _lines(first: float, between: float) -> _Show:
    due = first

    def show(seconds: float, _: Counts, state: str) -> None:
        nonlocal due
        if seconds >= due:
            due += between
            console.say(state)

    return show


# The bar that is on the terminal.
_shown: Progress | None = None


@contextlib.contextmanager
def _bar() -> Iterator[_Show]:
    """Show a bar on the terminal's last line; remove it at the end."""
    from rich.console import Console  # a tenth of a second; not for --help
    from rich.control import Control
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn
    from rich.segment import ControlType
    from rich.table import Column

    global _shown
    terminal = Console(file=sys.stderr)
    bar = Progress(
        SpinnerColumn(),
        # In a narrow window the words are cut off, not wrapped.
        TextColumn(
            "{task.description}",
            markup=False,
            table_column=Column(no_wrap=True, overflow="ellipsis"),
        ),
        BarColumn(bar_width=None, table_column=Column(ratio=1, min_width=4)),
        console=terminal,
        expand=True,
        transient=True,
        auto_refresh=False,
        redirect_stdout=False,  # results, which may be redirected
    )
    task = bar.add_task("0 s: running", total=None)

    def show(_: float, now: Counts, state: str) -> None:
        bar.update(task, description=state, completed=now.done + now.failed, total=now.total)
        with terminal:  # in one go
            bar.refresh()
            # Otherwise the ^C that a terminal prints would break the line, and stay.
            terminal.control(Control((ControlType.CARRIAGE_RETURN,)))

    def print_above(line: str) -> None:
        terminal.print(line, markup=False, highlight=False, emoji=False, soft_wrap=True)

    with bar, console.through(print_above):
        _shown = bar
        terminal.show_cursor(True)  # after a kill -9, nobody would
        try:
            yield show
        finally:
            _shown = None
