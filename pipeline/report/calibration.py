"""Draws the calibration diagram: share of correct answers against predicted probability."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from pipeline.evaluation import CALIBRATION_BINS
from pipeline.html import plots
from pipeline.report.truth import Judged

SIDE = plots.SIDE


class Point(NamedTuple):
    """The images whose scores are in one part of [0, 1].

    ``low``, ``high``: the part. ``confidence``: their average score. ``right``: the share of
    correct answers. ``x``, ``y``: both, in the plot's units. ``size`` grows with their number.
    """

    low: float
    high: float
    images: int
    confidence: float
    right: float
    x: float
    y: float
    size: float


def points(judged: Judged) -> list[Point]:
    """Make a point for each part of [0, 1] that has images."""
    most = max(judged.images)
    found = []
    for n, images in enumerate(judged.images):
        if not images:
            continue
        confidence, right = judged.confidence[n] / images, judged.right[n] / images
        found.append(
            Point(
                low=n / CALIBRATION_BINS,
                high=(n + 1) / CALIBRATION_BINS,
                images=images,
                confidence=confidence,
                right=right,
                x=round(confidence * SIDE, 1),
                y=round((1 - right) * SIDE, 1),
                size=round(6 + 14 * (images / most) ** 0.5, 1),
            )
        )
    return found


def plot(some: Sequence[Point]) -> plots.Plot:
    """Lay out the diagram."""
    ticks = [(0, "0 %"), (50, "50 %"), (100, "100 %")]
    return plots.Plot(
        "Share of correct labels by their probability, in parts of [0, 1]. On the diagonal, the "
        "two are equal. The numbers are in the table below.",
        "Share of correct labels by their probability",
        [plots.Tick(SIDE * at / 100, text) for at, text in ticks],
        [plots.Tick(SIDE * (1 - at / 100), text) for at, text in ticks],
        dots=[plots.Dot(point.x, point.y, point.size) for point in some],
        is_square=True,
    )
