"""Define the errors of this package.

LabelingError
├── UsageError           for the user to fix: one line on the console, exit code 2
│   ├── InputError       an input names no image
│   ├── ModelError       the model cannot be fetched, loaded or used as a classifier
│   ├── LabelsError      the label file is missing or does not fit the model
│   ├── DeviceError      a GPU is needed, and there is none
│   └── OutputError      the output cannot be written, or already has results
├── ImageError           one image cannot be read or decoded; it becomes a row in failures
└── RunError             the run itself went wrong: the run fails, exit code 1
    ├── StoreError       a store, server or disk failed; a caller that knows which argument named
    │                    it raises a UsageError instead, or goes on without it
    ├── PredictionError  the model did not return one result for each image
    │   └── OutOfMemoryError  a batch does not fit in the device's memory
    └── ReconciliationError  images came out that did not go in, or the reverse
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.records import Reason


class LabelingError(Exception):
    """Base of all errors that this package raises on purpose."""


class UsageError(LabelingError):
    """A mistake by the user, in an argument or in what it points at.

    The command line and ``LabelImages`` share these errors; the former spells an argument
    ``--top_k``, the latter ``top_k``. So errors name arguments, and whoever shows an error decides
    on the spelling: ``str`` spells them as in Python, ``said`` as its caller wants.

    Attributes:
      problem: what is wrong, in one line.
      subject: the argument at fault, as Python spells it; "" for none.
      given: the value that the user gave it.
      remedy: what to do; ``{labels_file}`` in it stands for the argument of that name. It must not
        contain anything that a user wrote.
    """

    def __init__(self, problem: str, *, subject: str = "", given: object = None, remedy: str = ""):
        self.problem = problem
        self.subject = subject
        self.given = given
        self.remedy = remedy
        # Beam re-raises a worker's error as a copy made from the first argument.
        super().__init__(self.said(str))

    def said(self, spell: Callable[[str], str]) -> str:
        """Build the whole message: subject, given value, problem, remedy.

        Args:
          spell: turns an argument's name into the spelling that the reader knows.
        """
        parts = []
        if self.subject:
            parts.append(spell(self.subject))
            if self.given is not None:
                parts.append(str(self.given))
        where = " ".join(parts)
        remedy = re.sub(r"\{(\w+)\}", lambda name: spell(name[1]), self.remedy)
        return f"{where}{': ' if where else ''}{self.problem}{'; ' if remedy else ''}{remedy}"

    def __str__(self) -> str:
        return self.said(str)


class InputError(UsageError):
    """An input names no image."""


class ModelError(UsageError):
    """The model cannot be fetched, loaded, or used as an image classifier."""


class LabelsError(UsageError):
    """The label file is missing, unreadable, or does not fit the model's output."""


class DeviceError(UsageError):
    """A GPU is needed, and there is none where the model would run."""


class OutputError(UsageError):
    """The output folder cannot be written, or already has results."""


class ImageError(LabelingError):
    """One image cannot be read or decoded.

    Attributes:
      reason: goes into the failure's row.
      message: one line for people.
    """

    def __init__(self, reason: Reason, message: str):
        super().__init__(reason, message)
        self.reason = reason
        self.message = message

    def __str__(self) -> str:
        return f"{self.reason.value}: {self.message}"


class RunError(LabelingError):
    """The run itself went wrong."""


class StoreError(RunError):
    """A store, a server or this machine's disk failed.

    The storage room raises it for whatever a client raised, which is its cause. As a RunError it
    fails the run, if no caller handles it. If an argument from the user named the file, the caller
    raises a UsageError instead.

    Attributes:
      reason: as for an image that cannot be read; it says whether another attempt could help.
      message: one line for people, in the store's own words, without secrets.
      wait: seconds that the store asks to wait before the next request; None if it does not ask,
        infinite if it asks for more than a run waits, so that there is no next request.
    """

    def __init__(self, reason: Reason, message: str, wait: float | None = None):
        super().__init__(reason, message, wait)
        self.reason = reason
        self.message = message
        self.wait = wait

    def __str__(self) -> str:
        return self.message


class PredictionError(RunError):
    """The model did not return exactly one usable result for each image of a batch."""


class OutOfMemoryError(PredictionError):
    """A batch does not fit in the memory of the device; a smaller one may."""


class ReconciliationError(RunError):
    """The images that came out are not the images that went in."""
