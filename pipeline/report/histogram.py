"""Draws the histogram of the scores: turns numbers of images into bars, in the drawing's units."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

# The number of equal parts of [0, 1] in which scores are counted.
SCORE_BINS = 1000
BARS = 20
WIDTH, HEIGHT = 460, 150

_GAP = 3


class Bar(NamedTuple):
    """A bar. ``low``, ``high``: the range of its scores. ``x`` to ``height``: its rectangle."""

    low: float
    high: float
    images: int
    x: float
    y: float
    width: float
    height: float


def bars(scores: Counter[int]) -> list[Bar]:
    """Draw bars of equal parts of [0, 1]; a bar that is not empty is high enough to be visible."""
    counts = [0] * BARS
    for score, images in scores.items():
        counts[score * BARS // SCORE_BINS] += images
    most = max(counts) or 1
    step = WIDTH / BARS
    drawn = []
    for n, images in enumerate(counts):
        height = round(max(HEIGHT * images / most, 1.0 if images else 0.0), 1)
        drawn.append(
            Bar(
                low=n / BARS,
                high=(n + 1) / BARS,
                images=images,
                x=round(n * step + _GAP / 2, 1),
                y=round(HEIGHT - height, 1),
                width=round(step - _GAP, 1),
                height=height,
            )
        )
    return drawn


def median(scores: Counter[int]) -> float | None:
    """Find the median score, to a thousandth; None without images."""
    images, seen = sum(scores.values()), 0
    for score in sorted(scores):
        seen += scores[score]
        if 2 * seen >= images:
            return score / SCORE_BINS
    return None


def share_below(scores: Counter[int], score: float) -> float | None:
    """Compute the share of the images below a score, in [0, 1]; None without images."""
    images = sum(scores.values())
    below = sum(count for bin_, count in scores.items() if bin_ < round(score * SCORE_BINS))
    return below / images if images else None
