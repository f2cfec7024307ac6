"""Imports TensorFlow silently and without Keras: ``from … import tf``.

Before its log is set up, TensorFlow 2.21 prints notes on absent GPUs and CPU features past
``TF_CPP_MIN_LOG_LEVEL``, nine lines in front of every run. They go straight to the process's
standard error, so that is where they are filtered; everything else gets through.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
from collections.abc import Iterator

# Informational lines of the C++ log, what announces them, and the consequence of having no driver.
_NOTE = re.compile(
    rb"I\d{4} |WARNING: All log messages before|To enable the following|E\d{4} .*cuInit"
)


@contextlib.contextmanager
def _without_notes() -> Iterator[None]:
    sys.stderr.flush()
    standard_error = os.dup(2)
    with tempfile.TemporaryFile() as captured:
        os.dup2(captured.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(standard_error, 2)
            os.close(standard_error)
            captured.seek(0)
            for line in captured:
                if not _NOTE.match(line):
                    os.write(2, line)


@contextlib.contextmanager
def _without_keras() -> Iterator[None]:
    """Keep TensorFlow from importing Keras at once.

    TensorFlow imports Keras to register its optimizers for SavedModels that contain one, which load
    anyway. That takes another second; if it fails, TensorFlow silently goes on. ``tf.keras`` is
    still imported on first use.
    """
    if "tensorflow" in sys.modules or "keras.src.optimizers" in sys.modules:
        yield
        return
    sys.modules["keras.src.optimizers"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        sys.modules.pop("keras.src.optimizers", None)


with _without_notes(), _without_keras():
    import tensorflow as tf
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    tf.config.list_physical_devices()  # sets up the devices, with the last of the notes

# By default, TensorFlow takes a GPU's whole memory, and a second process gets none.
for _gpu in tf.config.list_physical_devices("GPU"):
    tf.config.experimental.set_memory_growth(_gpu, True)

__all__ = ["MODEL_ERRORS", "DecodeError", "SavedModel", "tf", "what_failed"]

# What TensorFlow raises for a model that it cannot load or run; LookupError where the variables'
# file is too short.
MODEL_ERRORS = (
    tf.errors.OpError,
    OSError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
)


def what_failed(error: Exception) -> str:
    """Pick the line of an error's message that says what went wrong; TensorFlow's are pages long.

    A graph's error is told after where in the graph it was, and before the node's name in ``[[``.
    """
    lines = [line.strip() for line in str(error).partition("[[")[0].splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    return lines[-1] if lines[0] == "Graph execution error:" else lines[0]
