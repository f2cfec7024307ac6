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
    ├── PredictionError  the model did not return one result for each image
    │   └── OutOfMemoryError  a batch does not fit in the device's memory
    └── ReconciliationError  images came out that did not go in, or the reverse
"""

from __future__ import annotations

from pipeline.records import Reason


class LabelingError(Exception):
    """Base of everything that this package raises on purpose."""


class UsageError(LabelingError):
    """A mistake on the command line or in what it points at; the message names the remedy."""


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


class PredictionError(RunError):
    """The model did not return exactly one usable result for each image of a batch."""


class OutOfMemoryError(PredictionError):
    """A batch does not fit in the memory of the device; a smaller one may."""


class ReconciliationError(RunError):
    """The images that came out are not the images that went in."""
