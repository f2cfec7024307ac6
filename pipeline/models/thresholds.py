"""The scores that labels need, and the temperature of scores, as files that a run leaves.

Both files name the model and the settings for which they hold.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from pipeline import storage
from pipeline.errors import StoreError, UsageError
from pipeline.models.spec import ModelSpec

# What a class's own probability must reach, where nothing else is said.
_OWN_PROBABILITY = 0.5


class Thresholds(NamedTuple):
    """The score in [0, 1] that a label has at least; infinite for one that is never given.

    ``others``: of the labels that are not in ``classes``.
    """

    others: float
    classes: Mapping[str, float] = {}

    def of(self, label: str) -> float:
        """Return that of a label."""
        return self.classes.get(label, self.others)


def thresholds_of(spec: ModelSpec, given: float | str | None) -> Thresholds:
    """Return the thresholds that a user has given, or those that fit the model.

    Args:
      spec: of the model.
      given: a number in [0, 1], the path or URI of a file, or None.

    Raises:
      UsageError: the file cannot be used.
    """
    if not isinstance(given, str):
        if given is None:
            given = _OWN_PROBABILITY if spec.is_multi_label else 0.0
        return Thresholds(given)
    content = read(given, "threshold")
    try:
        classes = {str(label): _number(one) for label, one in content["classes"].items()}
        return Thresholds(_number(content["threshold"]), classes)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(
            "is not a file of thresholds",
            subject="threshold",
            given=given,
            remedy="give a number, or the thresholds.json of a run with {target_precision}",
        ) from error


def temperature_of(given: str) -> float:
    """Read the temperature in a file of a run.

    Raises:
      UsageError: the file cannot be used.
    """
    temperature = read(given, "calibration").get("temperature")
    if not isinstance(temperature, (int, float)) or not 0 < temperature < math.inf:
        raise UsageError(
            "is not a file of a calibration",
            subject="calibration",
            given=given,
            remedy="give the calibration.json of a run with {target_precision}",
        )
    return float(temperature)


def read(path: str, argument: str) -> dict[str, Any]:
    """Read a file of thresholds or of a calibration.

    Args:
      path: path or URI.
      argument: the name of the argument with which it was given.

    Raises:
      UsageError: it cannot be read, or is neither.
    """
    try:
        with storage.open_file(storage.absolute(path)) as file:
            content = json.loads(file.read())
    except StoreError as error:
        raise UsageError(f"cannot be read: {error}", subject=argument, given=path) from error
    except ValueError as error:
        raise UsageError(f"is not JSON: {error}", subject=argument, given=path) from error
    if not isinstance(content, dict) or not isinstance(content.get("settings"), dict):
        raise UsageError(
            "is not a file that label leaves after it has chosen a threshold",
            subject=argument,
            given=path,
        )
    return content


def as_json(threshold: float) -> float | None:
    """Write a threshold as the file has it: None for a label that is never given."""
    return None if math.isinf(threshold) else threshold


def _number(given: Any) -> float:
    if given is None:
        return math.inf
    if isinstance(given, bool) or not 0 <= given <= 1:
        raise ValueError(given)
    return float(given)
