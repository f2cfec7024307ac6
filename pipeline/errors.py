"""The errors of this package.

LabelingError
├── UsageError           the user's to correct: one line on the console, exit code 2
│   ├── InputError       no image is found where --input says
│   ├── ModelError       --model cannot be fetched, loaded or used as a classifier
│   ├── LabelsError      the label file is absent or does not fit the model
│   ├── DeviceError      there is no GPU, and one is needed
│   └── OutputError      --output cannot be written, or already holds results
├── ImageError           one image cannot be read or decoded: becomes a row in failures
└── RunError             the run itself went wrong: the run fails, exit code 1
    ├── StoreError       a store, server or disk did not do what it was asked; who knows which
    │                    argument named it makes a UsageError of it, or goes on without
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
    """Base of everything that this package raises on purpose."""


class UsageError(LabelingError):
    """A mistake of the user's, in an argument or in what it points at.

    The command line and ``LabelImages`` share these errors, and the same argument is ``--top_k`` on
    the one and ``top_k`` of the other. So errors name arguments, and whoever shows them decides how
    they are spelled: ``str`` as in Python, ``said`` as it is asked to.

    Attributes:
      problem: what is wrong, in one line.
      subject: the argument that is to blame, as it is spelled in Python; "" for none.
      given: what the user gave for it.
      remedy: what to do; a ``{labels_file}`` in it is the argument of that name. Nothing that a
        user wrote may be in it.
    """

    def __init__(self, problem: str, *, subject: str = "", given: object = None, remedy: str = ""):
        self.problem = problem
        self.subject = subject
        self.given = given
        self.remedy = remedy
        # Beam raises a worker's error again as a copy that it makes of the first argument.
        super().__init__(self.said(str))

    def said(self, spell: Callable[[str], str]) -> str:
        """The whole message: subject, what was given, problem, remedy.

        Args:
          spell: how the arguments are spelled where the message is read.
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
    """No image is found where an input says."""


class ModelError(UsageError):
    """The model cannot be fetched, loaded, or used as an image classifier."""


class LabelsError(UsageError):
    """The label file is absent, unreadable, or of another length than the model's output."""


class DeviceError(UsageError):
    """There is no GPU where the model is to run, and one is needed."""


class OutputError(UsageError):
    """The output folder cannot be written, or already holds results."""


class ImageError(LabelingError):
    """One image cannot be read or decoded.

    Attributes:
      reason: the closed-set reason that goes into the failure's row.
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
    """A store, a server or this machine's disk did not do what it was asked to.

    The storage room raises it, whatever the client raised, which is its cause. It is a RunError for
    those who let it pass: the run fails. Where an argument of the user's named the file, it becomes
    a UsageError.

    Attributes:
      reason: as an image's that cannot be read; it tells what may pass from what will not.
      message: one line for people, in the store's own words, without secrets.
    """

    def __init__(self, reason: Reason, message: str):
        super().__init__(reason, message)
        self.reason = reason
        self.message = message

    def __str__(self) -> str:
        return self.message


class PredictionError(RunError):
    """The model did not return exactly one usable result for each image of a batch."""


class OutOfMemoryError(PredictionError):
    """A batch does not fit in the memory of the device; a smaller one may."""


class ReconciliationError(RunError):
    """The images that came out are not the images that went in."""
