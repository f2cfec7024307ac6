"""Label images at scale with TensorFlow Hub classifiers, on Apache Beam.

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

# TensorFlow reads these once, when it is imported. Every module that imports TensorFlow is in this
# package, so setting them here takes effect in time, in the launcher and on every worker.
# oneDNN halves the prediction time on CPUs where TensorFlow leaves it off by default.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
# 2 hides TensorFlow's notes on CPU features and absent GPUs; errors are still shown.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

# On Python 3.10, Google's clients warn in ten lines that they will soon drop it.
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

# The modules that define them; those that import quickly come first.
_MODULES = (
    "pipeline.errors",
    "pipeline.limits",
    "pipeline.records",
    "pipeline.models.devices",
    "pipeline.transforms",
)


def __getattr__(name: str) -> Any:
    """Import a public name on first use: Beam takes seconds, and ``--help`` does not need it."""
    if name in __all__:
        for module in map(importlib.import_module, _MODULES):
            if hasattr(module, name):
                return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
