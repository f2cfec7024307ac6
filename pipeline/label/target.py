"""Chooses thresholds that keep a precision on new images, and the temperature of the scores.

Method: fixed-sequence testing as in "Learn then Test" (Angelopoulos et al. 2021,
arXiv:2110.01052), with the binomial distribution's exact p-value. Scores are compared with a grid
that is fixed beforehand. From the highest threshold with enough images downwards, each is tested
against "the precision is below the target", until one cannot be refuted. The lowest that was
refuted is taken. A wrong one is taken only if the first of the wrong ones is refuted by chance, so
the probability of that is at most 1 - ``CONFIDENCE``, however many are tested. Where to begin
depends on the numbers of images alone, not on which are right; so this holds as long as precision
does not fall with higher scores.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from pipeline.evaluation import (
    CALIBRATION_BINS,
    calibrated,
    calibration_bin,
    calibration_error,
    chance_of_so_few,
    share_of,
)
from pipeline.models import trained_on
from pipeline.models.thresholds import Thresholds, as_json
from pipeline.records import Labeled
from pipeline.tally import CombineTallies

CONFIDENCE = 0.95

# A label with so many images of known truth gets a threshold of its own.
ENOUGH = 300

# The first threshold that is tested has at least this share of the images above it. With few
# images, one that is wrong would end the sequence at its beginning.
_FIRST_SHARE = 0.25

# The labels that are counted separately; no model has so many.
_MOST_LABELS = 5000

# In steps of 0.001, and of 0.0001 down to 0.000001 where the scores of good models are.
GRID = np.unique(
    np.round(
        np.concatenate(
            [np.arange(0, 1000) / 1000]
            + [1 - 10.0**-digits * np.arange(0, 10) for digits in (4, 5, 6)]
        ),
        6,
    )
)

TEMPERATURES = np.round(np.geomspace(0.1, 10, 161), 4)


@dataclass
class Scores:
    """Numbers of images by their best score; a tally.

    Attributes:
      all: numbers of all images by the place in ``GRID`` and the label of the best class.
      total: numbers of those whose truth is known, and which the model was not trained on.
      right: numbers of those of them whose best class is the true one.
    """

    all: dict[str, np.ndarray] = field(default_factory=dict)
    total: dict[str, np.ndarray] = field(default_factory=dict)
    right: dict[str, np.ndarray] = field(default_factory=dict)

    def add(self, row: Labeled) -> None:
        """Count one more image."""
        best = row.predictions[0]
        place = int(np.searchsorted(GRID, row.score, side="right")) - 1
        self._of(self.all, best.label)[place] += 1
        if row.truth is not None and not trained_on.said_in(row.carried):
            self._of(self.total, best.label)[place] += 1
            self._of(self.right, best.label)[place] += row.truth == best.label

    def merge(self, other: Scores) -> None:
        """Add the counts of other images."""
        for name in ("all", "total", "right"):
            for label, counts in getattr(other, name).items():
                self._of(getattr(self, name), label)[:] += counts

    def _of(self, counts: dict[str, np.ndarray], label: str) -> np.ndarray:
        if label not in counts and len(counts) >= _MOST_LABELS:
            label = ""
        return counts.setdefault(label, np.zeros(len(GRID), np.int64))


@dataclass
class Calibration:
    """How probable the truth is at each of ``TEMPERATURES``; a tally.

    Attributes:
      classes: number of the model's classes.
      images: number of images.
      right: number of correct answers.
      loss: sum of the negative logarithms of the true classes' probabilities, ``[T]``.
      confidence: sums of the best scores by ``calibration_bin``, ``[T, CALIBRATION_BINS]``.
      correct: numbers of correct answers by the same, ``[T, CALIBRATION_BINS]``.
    """

    classes: int
    images: int = 0
    right: int = 0
    loss: np.ndarray = field(default_factory=lambda: np.zeros(len(TEMPERATURES)))
    confidence: np.ndarray = field(
        default_factory=lambda: np.zeros((len(TEMPERATURES), CALIBRATION_BINS))
    )
    correct: np.ndarray = field(
        default_factory=lambda: np.zeros((len(TEMPERATURES), CALIBRATION_BINS))
    )

    def add(self, row: Labeled) -> None:
        """Count one more image, if its truth is known and the model was not trained on it."""
        if row.truth is None or trained_on.said_in(row.carried):
            return
        scores, rest = calibrated(
            [one.score for one in row.predictions], self.classes, TEMPERATURES
        )
        labels = [one.label for one in row.predictions]
        true = scores[:, labels.index(row.truth)] if row.truth in labels else rest
        is_right = row.truth == labels[0]
        self.images += 1
        self.right += is_right
        self.loss -= np.log(np.maximum(true, 1e-300))
        places = [calibration_bin(score) for score in scores[:, 0].tolist()]
        at = np.arange(len(TEMPERATURES)), places
        self.confidence[at] += scores[:, 0]
        self.correct[at] += is_right

    def merge(self, other: Calibration) -> None:
        """Add the counts of other images."""
        self.images += other.images
        self.right += other.right
        self.loss += other.loss
        self.confidence += other.confidence
        self.correct += other.correct

    def to_json(self) -> dict[str, Any] | None:
        """Return the best temperature, and the calibration errors; None without images.

        If all answers are right, any lower temperature would be better. The scores are then on
        average at most as high as Laplace's rule of succession has it.
        """
        if not self.images:
            return None
        allowed = np.ones(len(TEMPERATURES), bool)
        if self.right == self.images:
            highest = (self.images + 1) / (self.images + 2)
            allowed = self.confidence.sum(1) / self.images <= highest
        losses = np.where(allowed, self.loss, math.inf)
        best = int(losses.argmin()) if allowed.any() else self._place(1.0)
        return {
            "temperature": float(TEMPERATURES[best]),
            "images": self.images,
            "calibration_error": self._error(self._place(1.0)),
            "calibration_error_after": self._error(best),
        }

    def _place(self, temperature: float) -> int:
        return int(np.abs(TEMPERATURES - temperature).argmin())

    def _error(self, place: int) -> float:
        return calibration_error(
            self.correct[place].tolist(), self.confidence[place].tolist(), self.images
        )


class CountScores(CombineTallies):
    """``Labeled``s with one label each → one ``Scores``."""

    def create_accumulator(self) -> Scores:  # noqa: D102
        return Scores()

    def add_input(self, scores: Scores, row: Labeled) -> Scores:  # noqa: D102
        scores.add(row)
        return scores


class Calibrate(CombineTallies):
    """``Labeled``s with one label each → one ``Calibration``.

    Args:
      classes: number of the model's classes.
    """

    def __init__(self, classes: int):
        super().__init__()
        self._classes = classes

    def create_accumulator(self) -> Calibration:  # noqa: D102
        return Calibration(self._classes)

    def add_input(self, calibration: Calibration, row: Labeled) -> Calibration:  # noqa: D102
        calibration.add(row)
        return calibration


class Choice(NamedTuple):
    """Thresholds that keep a precision, and what they gave on the images of known truth.

    ``target``: the precision, in (0, 1). ``images``: number of images of known truth. ``accepted``:
    of these, how many reach their threshold. ``right``: how many of those are right. ``rows``,
    ``rows_accepted``: the same of all images.
    """

    target: float
    thresholds: Thresholds
    images: int
    accepted: int
    right: int
    rows: int
    rows_accepted: int

    @property
    def is_reached(self) -> bool:
        """Whether there is a label that may be given."""
        return not all(map(math.isinf, (self.thresholds.others, *self.thresholds.classes.values())))

    def to_json(self) -> dict[str, Any]:
        """Return the figures as ``summary.json`` has them."""
        return {
            "target": self.target,
            "confidence": CONFIDENCE,
            "method": "Learn then Test: fixed-sequence testing, exact binomial p-values",
            "reached": self.is_reached,
            **self.thresholds_json(),
            "images": self.images,
            "accepted": self.accepted,
            "precision": share_of(self.right, self.accepted),
            "share": share_of(self.accepted, self.images),
            "share_of_all_rows": share_of(self.rows_accepted, self.rows),
        }

    def thresholds_json(self) -> dict[str, Any]:
        """Return the thresholds as their file has them."""
        classes = sorted(self.thresholds.classes.items())
        return {
            "threshold": as_json(self.thresholds.others),
            "classes": {label: as_json(threshold) for label, threshold in classes},
        }


def choose(scores: Scores, target: float) -> Choice:
    """Choose the lowest thresholds that keep a precision with ``CONFIDENCE``.

    Each label with ``ENOUGH`` images has its own, all others have one together. The chance of an
    error is divided among them, so that the promise holds for all at once.

    Args:
      scores: numbers of images by their scores.
      target: the precision, in (0, 1).
    """
    own = [label for label, counts in scores.total.items() if label and counts.sum() >= ENOUGH]
    others = [label for label in scores.total if label not in own]
    groups = [*([label] for label in own), *([others] if others else [])]
    places = [
        _lowest(_sum(scores.total, some), _sum(scores.right, some), target, 1 / len(groups))
        for some in groups
    ]
    found = [math.inf if place is None else float(GRID[place]) for place in places]
    thresholds = Thresholds(
        found[len(own)] if others else math.inf, dict(zip(own, found, strict=False))
    )

    def above(counts: Mapping[str, np.ndarray]) -> int:
        return sum(int(one[thresholds.of(label) <= GRID].sum()) for label, one in counts.items())

    return Choice(
        target=target,
        thresholds=thresholds,
        images=sum(int(one.sum()) for one in scores.total.values()),
        accepted=above(scores.total),
        right=above(scores.right),
        rows=sum(int(one.sum()) for one in scores.all.values()),
        rows_accepted=above(scores.all),
    )


def least_images(target: float, share: float = 1.0) -> int:
    """Compute how many images, all of them right, prove a precision.

    Args:
      target: the precision, in (0, 1).
      share: the part of the chance of an error that may be spent, in (0, 1].
    """
    return math.ceil(math.log((1 - CONFIDENCE) * share) / math.log(target))


def _sum(counts: Mapping[str, np.ndarray], labels: Sequence[str]) -> np.ndarray:
    return np.sum([counts[label] for label in labels], axis=0)


def _lowest(total: np.ndarray, right: np.ndarray, target: float, share: float) -> int | None:
    """The place in the grid of the lowest threshold that keeps the target; None if none does."""
    images, hits = (counts[::-1].cumsum()[::-1] for counts in (total, right))
    first = max(least_images(target, share), math.ceil(_FIRST_SHARE * images[0]))
    found, last = None, -1
    for place in reversed(range(len(GRID))):
        if images[place] < first:
            continue
        if images[place] == last:
            continue  # nobody has seen the scores in between
        last = int(images[place])
        if chance_of_so_few(last - int(hits[place]), last, 1 - target) > (1 - CONFIDENCE) * share:
            break
        found = place
    return found
