"""Lays out the curves of a training."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.html import percent
from pipeline.html.plots import Plot, Series, line_plot

PHASES = {"head": "head", "network": "whole network"}


def curves(
    steps: Sequence[Mapping[str, Any]],
    epochs: Sequence[Mapping[str, Any]],
    best: Mapping[str, Any] | None,
) -> list[Plot]:
    """Plot loss and accuracy over the steps.

    Args:
      steps: all steps of the training, in order, as ``StepRecord`` has them; at least one.
      epochs: all its epochs, in order, as ``EpochRecord`` has them.
      best: the one of them that is exported; None if that is not known.
    """
    marks = [
        ((before["step"] + after["step"]) / 2, PHASES.get(after["phase"], after["phase"]), "")
        for before, after in itertools.pairwise(steps)
        if before["phase"] != after["phase"]
    ]
    if best is not None:
        marks.append((best["step"], f"best: epoch {best['epoch']}", "best"))
    plots = []
    for name, quantity, as_text in (
        ("Loss", "loss", "{:g}".format),
        ("Accuracy", "accuracy", lambda share: percent(share).replace(".0", "")),
    ):
        series = [
            Series("training, each step", "faint", _points(steps, quantity)),
            Series("training, average of the epoch", "", _points(epochs, quantity), True),
            Series("validation", "second", _points(epochs, f"validation_{quantity}"), True),
        ]
        plots.append(
            line_plot(
                f"{name} over the steps of the training: each step, the training average of each "
                "epoch, and the validation part after each epoch. The numbers are in the table "
                "below.",
                f"{name} by step",
                series,
                as_text=as_text,
                marks=marks,
                most=1.0 if quantity == "accuracy" else None,
            )
        )
    return plots


def best_epoch(
    epochs: Sequence[Mapping[str, Any]], exported: str | None
) -> Mapping[str, Any] | None:
    """Find the epoch that is exported: that with the lowest validation loss of its phase.

    Args:
      epochs: as ``curves`` takes them.
      exported: the phase, ``head`` or ``network``; None if there was only one.
    """
    own = [one for one in epochs if exported is None or one["phase"] == exported]
    finite = [one for one in own if math.isfinite(one["validation_loss"])]
    return min(finite, key=lambda one: one["validation_loss"], default=None)


def _points(
    records: Sequence[Mapping[str, Any]], quantity: str
) -> list[tuple[float, float | None]]:
    return [(record["step"], record[quantity]) for record in records]
