"""Draws the calibration diagram: share of correct answers against predicted probability."""

from __future__ import annotations

from typing import NamedTuple

from pipeline.evaluation import CALIBRATION_BINS
from pipeline.report.truth import Judged

SIDE = 240


class Point(NamedTuple):
    """The images whose scores are in one part of [0, 1].

    ``low``, ``high``: the part. ``confidence``: their average score. ``right``: the share of
    correct answers. ``x``, ``y``: both, in the drawing's units. ``radius`` grows with their number.
    """

    low: float
    high: float
    images: int
    confidence: float
    right: float
    x: float
    y: float
    radius: float


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
                radius=round(3 + 7 * (images / most) ** 0.5, 1),
            )
        )
    return found
