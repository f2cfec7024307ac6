"""Reads and writes the files of thresholds and of the calibration, with their settings."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from pipeline import storage
from pipeline.config.label_options import LabelConfig
from pipeline.errors import ModelError, UsageError
from pipeline.label import notes
from pipeline.label.runs import Run
from pipeline.label.target import CONFIDENCE, Calibration, Scores, choose, least_images
from pipeline.models import thresholds
from pipeline.models.spec import ModelSpec
from pipeline.outputs import layout

_TEMPERATURE = "temperature"


def prepare(config: LabelConfig, spec: ModelSpec) -> ModelSpec:
    """Check the files that were given, and what is to be chosen, against the model.

    Args:
      config: the command line.
      spec: of the model, as it was probed.

    Returns:
      The model with the temperature that was asked for.

    Raises:
      UsageError: a file is of another model or of other settings, or the model gives an image
        several labels.
    """
    given = {
        "target_precision": config.target_precision,
        "calibration": config.calibration,
        "threshold": config.threshold if isinstance(config.threshold, str) else None,
    }
    asked = next((name for name, value in given.items() if value is not None), None)
    if asked is not None and spec.is_multi_label:
        raise ModelError(
            "gives an image several labels",
            subject="model",
            given=config.model,
            remedy=f"leave {{{asked}}} out, which is for models that give one",
        )
    if config.calibration is not None:
        _require_same("calibration", config.calibration, config, spec)
        spec = dataclasses.replace(spec, temperature=thresholds.temperature_of(config.calibration))
    if isinstance(config.threshold, str):
        _require_same("threshold", config.threshold, config, spec)
        thresholds.thresholds_of(spec, config.threshold)
    return spec


def _require_same(argument: str, path: str, config: LabelConfig, spec: ModelSpec) -> None:
    before = thresholds.read(path, argument)["settings"]
    now = {name: value for name, value in _settings(config, spec).items() if name in before}
    if before.get("model") != spec.fingerprint:
        raise UsageError("is of another model", subject=argument, given=path)
    changed = notes.changed(before, now)
    if changed:
        raise UsageError(
            f"is of a run with other settings, and so of other scores ({changed})",
            subject=argument,
            given=path,
            remedy="choose it anew with these",
        )


def _settings(config: LabelConfig, spec: ModelSpec) -> dict[str, Any]:
    """Everything on which the scores in rows depend, with JSON's types."""
    found = notes.settings(config, (), spec)
    return {name: found[name] for name in (*notes.MAKE_OTHER_ROWS, _TEMPERATURE) if name in found}


def decide(run: Run, scores: Scores, calibration: Calibration) -> dict[str, Any]:
    """Choose the thresholds and the temperature, and write their files.

    Args:
      run: with a target.
      scores: numbers of its images by their scores.
      calibration: of the same images.

    Returns:
      What the summary has of it. If no threshold reaches the target, there is no file of
      thresholds, and an earlier one is deleted.
    """
    assert run.config.target_precision is not None
    choice = choose(scores, run.config.target_precision)
    temperature = calibration.to_json()
    settings = _settings(run.config, run.spec)
    files = {}
    if choice.is_reached:
        files[layout.THRESHOLDS] = {**choice.to_json(), "settings": settings}
    # A temperature on top of another one is not that of the model.
    if temperature is not None and run.spec.temperature == 1:
        rest = {name: value for name, value in settings.items() if name != _TEMPERATURE}
        files[layout.CALIBRATION] = {**temperature, "settings": rest}
    layout.remove(
        run.folder, [name for name in (layout.THRESHOLDS, layout.CALIBRATION) if name not in files]
    )
    for name, content in files.items():
        data = json.dumps(content, indent=2).encode() + b"\n"
        storage.write_file(storage.join(run.folder, name), data)
    return {**choice.to_json(), "calibration": temperature}


def in_words(summary: Mapping[str, Any], folder: str) -> list[str]:
    """Say in a line or two what a target has led to; nothing without one, or if it is missed.

    Args:
      summary: the content of ``summary.json``.
      folder: the run's.
    """
    found = summary.get("target_precision")
    if not found:
        return []
    lines = []
    if found["reached"]:
        lines.append(
            f"precision {found['target']:g}: with {storage.join(folder, layout.THRESHOLDS)}, "
            f"{100 * found['share_of_all_rows']:.1f} % of the images get a label; of those of "
            f"known truth {found['accepted']:,} of {found['images']:,}, of which "
            f"{found['precision']:.3f} are right; on new images like these it will be "
            f"{found['target']:g} or more, with a confidence of {100 * found['confidence']:g} %"
        )
    calibration = found["calibration"]
    if calibration:
        lines.append(
            f"calibration: temperature {calibration['temperature']:g} takes the calibration error "
            f"from {calibration['calibration_error']:.3f} to "
            f"{calibration['calibration_error_after']:.3f} on the same images"
        )
    return lines


def missed(summary: Mapping[str, Any]) -> str | None:
    """Return a line that says so if no threshold reaches the target, else None."""
    found = summary.get("target_precision")
    if not found or found["reached"]:
        return None
    return (
        f"no threshold reaches a precision of {found['target']:g} with a confidence of "
        f"{100 * CONFIDENCE:g} % on the {found['images']:,} images of known truth, so no "
        f"thresholds are written; that takes at least {least_images(found['target']):,} such "
        "images above the threshold, all of them right, or more; the results are kept"
    )
