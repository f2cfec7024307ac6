"""What a process does when it is told to end: Ctrl-C, or a scheduler that wants the machine back.

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
    """The steps of a shutdown, in their order.

    The lock is released last: another run may begin as soon as it is, and must find the rows, and
    no job that still writes.
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
    """Call the hooks in the order of their steps; one that fails keeps no other from its turn."""
    for step in Step:
        hook = _hooks.get(step)
        if hook is None:
            continue
        try:
            hook()
        except (LabelingError, OSError) as error:
            say(f"warning: {error}")
