"""Lays out plots: turns numbers into lines, bars and ticks on a square of 1000 by 1000 units."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

SIDE = 1000

# More points than this in one line would not be seen; it is then drawn through averages.
MOST_POINTS = 200


class Tick(NamedTuple):
    """A number beside an axis. ``at``: its place on it, from the left or from the top."""

    at: float
    text: str


class Mark(NamedTuple):
    """A vertical line with a word. ``tone``: ``best``, or empty."""

    at: float
    text: str
    tone: str = ""


class Bar(NamedTuple):
    """A rectangle."""

    x: float
    y: float
    width: float
    height: float


class Dot(NamedTuple):
    """A dot. ``size``: its diameter in pixels of the screen. ``tone``: as in ``Line``."""

    x: float
    y: float
    size: float
    tone: str = ""


class Line(NamedTuple):
    """A line. ``tone``: ``second``, ``faint``, or empty. ``path``: as SVG writes it."""

    name: str
    tone: str
    path: str


class Plot(NamedTuple):
    """A plot. ``title``: says to those who cannot see it what it shows. ``caption``: its axes."""

    title: str
    caption: str
    x_ticks: Sequence[Tick]
    y_ticks: Sequence[Tick]
    lines: Sequence[Line] = ()
    bars: Sequence[Bar] = ()
    dots: Sequence[Dot] = ()
    marks: Sequence[Mark] = ()
    is_square: bool = False


class Series(NamedTuple):
    """What becomes a line. ``points``: by x; where y is not a finite number, the line has a gap."""

    name: str
    tone: str
    points: Sequence[tuple[float, float | None]]
    has_dots: bool = False


def line_plot(
    title: str,
    caption: str,
    series: Sequence[Series],
    *,
    as_text: Callable[[float], str] = "{:g}".format,
    x_ticks: Sequence[tuple[float, str]] | None = None,
    marks: Sequence[tuple[float, str, str]] = (),
    most: float | None = None,
) -> Plot:
    """Draw lines over a common axis; the other one begins at 0.

    Args:
      title: see ``Plot``.
      caption: likewise.
      series: at least one; all its points together at least one.
      as_text: writes the numbers of the y axis.
      x_ticks: places and texts on the x axis; by default, whole numbers.
      marks: places on the x axis, words and tones of vertical lines.
      most: the greatest y that is shown; by default, that of the points.
    """
    xs = [x for one in series for x, _ in one.points]
    ys = [y for one in series for _, y in one.points if _is_finite(y)]
    low, high = min(xs), max(xs)
    steps = nice_steps(max([0.0, *(y for y in ys if y is not None)]) if most is None else most)
    top = steps[-1]

    def across(x: float) -> float:
        return round(SIDE * (x - low) / (high - low), 1) if high > low else SIDE / 2

    def down(y: float) -> float:
        return round(SIDE * (1 - min(y, top) / top), 1)

    if x_ticks is None:
        whole = nice_steps(high, whole=True)
        x_ticks = [(x, f"{x:,.0f}") for x in whole if low <= x <= high]
    return Plot(
        title,
        caption,
        [Tick(across(x), text) for x, text in x_ticks],
        [Tick(down(y), as_text(y)) for y in steps],
        [Line(one.name, one.tone, _path(thinned(one.points), across, down)) for one in series],
        dots=[
            Dot(across(x), down(y), 6, one.tone)
            for one in series
            if one.has_dots and len(one.points) <= MOST_POINTS // 4
            for x, y in one.points
            if y is not None and _is_finite(y)
        ],
        marks=[Mark(across(x), text, tone) for x, text, tone in marks],
    )


def nice_steps(most: float, whole: bool = False) -> list[float]:
    """Return round numbers at equal distances from 0 to a number that is not less, three to six.

    Args:
      most: not negative.
      whole: whether only whole numbers will do.
    """
    if not math.isfinite(most) or most <= 0:
        most = 1.0
    size = 10.0 ** math.floor(math.log10(most))
    step = next(
        s for s in (0.2 * size, 0.5 * size, size, 2 * size, 5 * size) if most / s <= 5 + 1e-9
    )
    if whole:
        step = max(step, 1.0)
    return [round(n * step, 10) for n in range(math.ceil(most / step - 1e-9) + 1)]


def thinned(
    points: Sequence[tuple[float, float | None]],
) -> Sequence[tuple[float, float | None]]:
    """Average neighbors until at most ``MOST_POINTS`` are left."""
    each = math.ceil(len(points) / MOST_POINTS)
    if each <= 1:
        return points
    averaged: list[tuple[float, float | None]] = []
    for at in range(0, len(points), each):
        some = points[at : at + each]
        ys = [y for _, y in some if y is not None and math.isfinite(y)]
        x = sum(x for x, _ in some) / len(some)
        averaged.append((x, sum(ys) / len(ys) if ys else None))
    return averaged


def _path(
    points: Sequence[tuple[float, float | None]],
    across: Callable[[float], float],
    down: Callable[[float], float],
) -> str:
    path, draws = [], False
    for x, y in points:
        if y is None or not math.isfinite(y):
            draws = False
            continue
        path.append(f"{'L' if draws else 'M'}{across(x):g} {down(y):g}")
        draws = True
    return "".join(path)


def _is_finite(y: float | None) -> bool:
    return y is not None and math.isfinite(y)
