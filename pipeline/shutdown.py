"""Runs what must happen before a process ends on Ctrl-C or a scheduler's signal.

Modules register what they have to do, and ``__main__`` runs it. A module that has not been imported
has nothing to do.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import TypeVar

from pipeline.console import say
from pipeline.errors import LabelingError

Hook = TypeVar("Hook", bound=Callable[[], None])


class Step(IntEnum):
    """The steps of a shutdown, in order.

    The lock is released last: another run may begin at that moment, and must find the rows, and no
    job that is still writing.
    """

    KEEP_ROWS = 1
    CANCEL_JOB = 2
    RELEASE_LOCK = 3


_hooks: dict[Step, Callable[[], None]] = {}


def at(step: Step) -> Callable[[Hook], Hook]:
    """Register the decorated function for a step of the shutdown."""

    def register(hook: Hook) -> Hook:
        _hooks[step] = hook
        return hook

    return register


def run() -> None:
    """Call the hooks in the order of their steps; if one fails, the others still run."""
    for step in Step:
        hook = _hooks.get(step)
        if hook is None:
            continue
        try:
            hook()
        except (LabelingError, OSError) as error:
            say(f"warning: {error}")
