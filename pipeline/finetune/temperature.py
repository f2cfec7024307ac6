"""Fits the temperature of a trained classifier: Guo et al. 2017, arXiv:1706.04599."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

# What logits are divided by at least and at most.
_RANGE = (0.02, 50.0)

# Halves of the range of logarithms, by which it is narrowed down: to a millionth.
_STEPS = 60


class Temperature(NamedTuple):
    """What the logits of the exported model were divided by.

    ``images``: number of validation images that it was fitted on. ``calibration_error_before``: of
    the test images with a temperature of 1; that of the export is in the evaluation.
    """

    temperature: float
    images: int
    calibration_error_before: float

    def to_json(self) -> dict[str, Any]:
        """Convert to a dict of numbers."""
        return self._asdict()


def best_temperature(logits: np.ndarray, classes: np.ndarray) -> float:
    """Find the temperature with which the true classes are the most probable.

    If all answers are right, any lower one would be better. The probabilities are then on average
    at most as high as Laplace's rule of succession has it.

    Args:
      logits: float ``[N, classes]``, of images that have not trained the model.
      classes: int ``[N]``, the true classes.
    """
    logits = logits.astype(np.float64)
    images = np.arange(len(classes))
    is_all_right = bool((logits.argmax(1) == classes).all())
    highest = (len(classes) + 1) / (len(classes) + 2)

    def is_too_low(temperature: float) -> bool:
        probabilities = softmax(logits / temperature)
        if is_all_right:
            return bool(probabilities.max(1).mean() > highest)
        # The derivative of the loss by 1 / temperature, which grows with 1 / temperature.
        expected = (probabilities * logits).sum(1)
        return bool((expected - logits[images, classes]).sum() > 0)

    low, high = map(math.log, _RANGE)
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if is_too_low(math.exp(middle)):
            low = middle
        else:
            high = middle
    return math.exp(high)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Turn logits into probabilities, ``[N, classes]``."""
    return np.exp(log_softmax(logits))


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Turn logits into logarithms of probabilities, float64 ``[N, classes]``."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
