"""How far a run is: a bar on a terminal, elsewhere a line now and then."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from pipeline import console

if TYPE_CHECKING:
    from rich.progress import Progress

SECONDS_TO_FIRST_LINE = 10.0
SECONDS_BETWEEN_LINES = 30.0

# The bar is drawn so often; without one, so often is looked how fast it goes.
_SECONDS_BETWEEN_FRAMES = 0.2
_SECONDS_BETWEEN_LOOKS = 1.0

# The rate is that of the last so many seconds: what comes next is like what was last.
_SECONDS_OF_RATE = 60.0

_lock = threading.Lock()


class Counts(NamedTuple):
    """Images.

    ``found`` in the inputs, as often as they are named there; of those, once all are found,
    ``to_do`` and ``set_aside``: named before, or done by earlier attempts or runs. ``done`` by the
    model; ``failed``; ``kept``: in rows that another attempt finds, should this one be killed.
    """

    found: int = 0
    to_do: int = 0
    set_aside: int = 0
    done: int = 0
    failed: int = 0
    kept: int = 0

    @property
    def total(self) -> int | None:
        """How many there are to do; None as long as that is not known.

        Images are set aside once all are found, so that this may become less, but not more.
        """
        if not self.to_do + self.set_aside:
            return None
        return max(self.found - self.set_aside, self.done + self.failed)


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
def shown(
    first: float = SECONDS_TO_FIRST_LINE, between: float = SECONDS_BETWEEN_LINES
) -> Iterator[None]:
    """While in here, show the progress on standard error.

    Args:
      first: seconds until the first line, where standard error is no terminal.
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
    """Take the bar off the terminal at once; for a process that is about to end."""
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
    """Images a second, of late."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def at(self, seconds: float, now: Counts) -> float:
        """The rate at this moment; 0 as long as it is not known.

        The first images are not counted, for the model was loaded with them.
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
    """The counts in words."""
    finished, total = now.done + now.failed, now.total
    if total is not None and finished >= total:
        return f"{now.done:,} done, {now.failed:,} failed, writing the results"
    if not finished and total is None:
        # If nothing is found it is loading; or others do the work, and only the runner knows.
        return f"{now.found:,} found" if now.found else "running"
    words = [f"{now.done:,} done" if total is None else f"{now.done:,} of {total:,} done"]
    words.append(f"{now.failed:,} failed")
    if rate:
        words.append(f"{rate:.1f} images/s")
        if total is not None:
            words.append(f"{in_words((total - finished) / rate)} left")
    return ", ".join(words)


def in_words(seconds: float) -> str:
    """A time as people say it: ``40 s``, ``22 min``, ``3 h 5 min``."""
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
    """A bar on the last line of the terminal, gone at the end."""
    from rich.console import Console  # a tenth of a second; not for --help
    from rich.control import Control
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn
    from rich.segment import ControlType
    from rich.table import Column

    global _shown
    terminal = Console(file=sys.stderr)
    bar = Progress(
        SpinnerColumn(),
        # In a narrow window the words are cut off rather than go on in another line.
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
        redirect_stdout=False,  # results, which may go elsewhere
    )
    task = bar.add_task("0 s: running", total=None)

    def show(_: float, now: Counts, state: str) -> None:
        bar.update(task, description=state, completed=now.done + now.failed, total=now.total)
        with terminal:  # in one go
            bar.refresh()
            # Else the ^C that a terminal writes would break the line, and not go with it.
            terminal.control(Control((ControlType.CARRIAGE_RETURN,)))

    def print_above(line: str) -> None:
        terminal.print(line, markup=False, highlight=False, emoji=False, soft_wrap=True)

    with bar, console.through(print_above):
        _shown = bar
        terminal.show_cursor(True)  # nobody would, after a kill -9
        try:
            yield show
        finally:
            _shown = None
