"""Draws the histogram of the scores: turns numbers of images into bars, in the drawing's units."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from pipeline.html import plots

# The number of equal parts of [0, 1] in which scores are counted.
SCORE_BINS = 1000
BARS = 20
WIDTH = HEIGHT = plots.SIDE

_GAP = 7
# So that one image among many is seen.
_LEAST = 7.0


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
        height = round(max(HEIGHT * images / most, _LEAST if images else 0.0), 1)
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


def plot(some: Sequence[Bar]) -> plots.Plot:
    """Lay out the histogram."""
    most = max(bar.images for bar in some)
    heights = [(most, 0.0), (0, float(HEIGHT))]
    if most % 2 == 0:
        heights.append((most // 2, HEIGHT / 2))
    return plots.Plot(
        f"Histogram: images by the probability of their label, in {BARS} equal parts from 0 to "
        "100 %. The numbers are in the table below.",
        "Images by the probability of their label",
        [plots.Tick(WIDTH * tick / 100, f"{tick} %") for tick in (0, 25, 50, 75, 100)],
        [plots.Tick(at, f"{images:,}") for images, at in heights],
        bars=[plots.Bar(bar.x, bar.y, bar.width, bar.height) for bar in some if bar.images],
    )


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
