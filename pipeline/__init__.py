"""Label images at scale: Apache Beam, RunInference and TensorFlow Hub classifiers.

    from pipeline import LabelImages

    labeled, failures = uris | LabelImages(model="sample")

The command line, ``python -m pipeline label``, uses the same transform.
"""

from __future__ import annotations

import importlib
import os
import warnings
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = [
    "DeviceError",
    "Execution",
    "Failure",
    "ImageError",
    "ImageRef",
    "InputError",
    "LabelImages",
    "Labeled",
    "LabeledImages",
    "LabelingError",
    "LabelsError",
    "Limits",
    "ModelError",
    "OutOfMemoryError",
    "OutputError",
    "Prediction",
    "PredictionError",
    "Reason",
    "ReconciliationError",
    "RunError",
    "StoreError",
    "UsageError",
]

# TensorFlow reads these once, while it is imported. Every module that imports TensorFlow lives in
# this package, so setting them here reaches the launcher and every worker in time.
# oneDNN halves the prediction time on CPUs where TensorFlow leaves it off by default.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
# 2 hides TensorFlow's notes on CPU features and absent GPUs; errors are still shown.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

# On Python 3.10, Google's clients say in ten lines that they will not follow it for long.
warnings.filterwarnings(
    "ignore", message="You are using a (non-supported )?Python version", category=FutureWarning
)

if TYPE_CHECKING:
    from pipeline.errors import (
        DeviceError,
        ImageError,
        InputError,
        LabelingError,
        LabelsError,
        ModelError,
        OutOfMemoryError,
        OutputError,
        PredictionError,
        ReconciliationError,
        RunError,
        StoreError,
        UsageError,
    )
    from pipeline.limits import Limits
    from pipeline.models.devices import Execution
    from pipeline.records import Failure, ImageRef, Labeled, Prediction, Reason
    from pipeline.transforms import LabeledImages, LabelImages

# The modules that define them, those that are imported quickly first.
_MODULES = (
    "pipeline.errors",
    "pipeline.limits",
    "pipeline.records",
    "pipeline.models.devices",
    "pipeline.transforms",
)


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: Beam takes seconds, and ``--help`` needs none."""
    if name in __all__:
        for module in map(importlib.import_module, _MODULES):
            if hasattr(module, name):
                return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
