"""Compares a run's rows with the truth in one pass, and sums up how good they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from pipeline.evaluation import (
    CALIBRATION_BINS,
    ClassScores,
    calibration_bin,
    calibration_error,
    class_scores,
    share_of,
    wilson_interval,
)
from pipeline.records import Prediction

# The number of classes that are counted separately; all further ones count as one. No model has so
# many, but the column may hold something else.
MOST_CLASSES = 5000
OTHER = "(other classes)"

# What the page shows. With more classes, it shows those with the most mistakes, and no matrix.
CLASSES_IN_TABLE = 30
CLASSES_IN_MATRIX = 20
CONFUSED_PAIRS = 20


@dataclass
class Judged:
    """Counts of the rows whose truth is known.

    Attributes:
      pairs: numbers of images by their true and their most probable class.
      among: number of images whose true class is among the predictions of their row.
      most: the largest number of predictions in a row.
      unknown: number of rows of unknown truth.
      right: number of correct answers by ``calibration_bin`` of the score, ``[CALIBRATION_BINS]``.
      confidence: sum of the scores by the same bins, ``[CALIBRATION_BINS]``.
      images: number of images by the same bins, ``[CALIBRATION_BINS]``.
      trained_on: number of images that the model was trained on, which are in no other count.
      trained_on_right: number of correct answers for those.
      known_labels: the names of the model's classes; if they are not known, those that occur in
        any prediction.
    """

    pairs: Counter[tuple[str, str]] = field(default_factory=Counter)
    among: int = 0
    most: int = 0
    unknown: int = 0
    right: list[int] = field(default_factory=lambda: [0] * CALIBRATION_BINS)
    confidence: list[float] = field(default_factory=lambda: [0.0] * CALIBRATION_BINS)
    images: list[int] = field(default_factory=lambda: [0] * CALIBRATION_BINS)
    trained_on: int = 0
    trained_on_right: int = 0
    known_labels: set[str] = field(default_factory=set)
    _classes: set[str] = field(default_factory=set)

    def add(
        self, truth: str | None, predictions: Sequence[Prediction], trained_on: bool = False
    ) -> None:
        """Count one more image.

        Args:
          truth: its true class; None if that is not known.
          predictions: the best classes, best first.
          trained_on: whether the model was trained on it.
        """
        if truth is None:
            self.unknown += 1
            return
        labels = [prediction.label for prediction in predictions]
        if trained_on:
            self.trained_on += 1
            self.trained_on_right += truth == labels[0]
            return
        score = predictions[0].score
        self.known_labels.update(labels)
        self.pairs[self._counted_as(truth), labels[0]] += 1
        self.among += truth in labels
        self.most = max(self.most, len(labels))
        at = calibration_bin(score)
        self.right[at] += truth == labels[0]
        self.confidence[at] += score
        self.images[at] += 1

    def merge(self, other: Judged) -> None:
        """Add the counts of other images."""
        for (truth, label), count in other.pairs.items():
            self.pairs[self._counted_as(truth), label] += count
        self.among += other.among
        self.most = max(self.most, other.most)
        self.unknown += other.unknown
        self.trained_on += other.trained_on
        self.trained_on_right += other.trained_on_right
        self.known_labels |= other.known_labels
        for name in ("right", "confidence", "images"):
            both = zip(getattr(self, name), getattr(other, name), strict=True)
            setattr(self, name, [one + more for one, more in both])

    def _counted_as(self, truth: str) -> str:
        if truth not in self._classes and len(self._classes) < MOST_CLASSES:
            self._classes.add(truth)
        return truth if truth in self._classes else OTHER

    def evaluation(self) -> Quality | NothingNew | None:
        """Sum up the counts; None if no image has a known truth."""
        found = quality(self)
        if found is None and self.trained_on:
            return NothingNew(self.trained_on, self.trained_on_right / self.trained_on)
        return found


class NothingNew(NamedTuple):
    """What takes the place of a ``Quality`` if the model was trained on all images of known truth.

    ``trained_on``: their number. ``accuracy``: the share in [0, 1] that is labeled correctly.
    """

    trained_on: int
    accuracy: float

    def to_json(self) -> dict[str, Any]:
        """Return the figures as ``summary.json`` has them."""
        return {
            "images": 0,
            "trained_on": self.trained_on,
            "trained_on_accuracy": self.accuracy,
        }


class Confused(NamedTuple):
    """The number of images of one class that the model labels as another."""

    truth: str
    predicted: str
    images: int


class Quality(NamedTuple):
    """How good the labels of a run are, for images of known truth.

    ``images``, ``unknown``: numbers of images with and without a known truth. ``accuracy``: the
    share in [0, 1] whose most probable class is the true one, with its 95 % Wilson ``interval``.
    ``among``: the share whose true class is among the ``most`` predictions of a row.
    ``right``: the number of them. ``calibration_error``: see ``evaluation.calibration_error``.
    ``every_class``: in alphabetical order. ``classes``: those with the most mistakes. ``confused``:
    the most frequent mistakes. ``matrix``: labels, and numbers of images in rows by truth and
    columns by prediction; None for too many classes. ``strange``: number of images whose true class
    is none of ``Judged.known_labels``. ``judged``: the counts.
    ``trained_on``: number of images that the model was trained on, which count nowhere else, and
    ``trained_on_accuracy``, None without them.
    """

    images: int
    unknown: int
    accuracy: float
    interval: tuple[float, float]
    among: float
    most: int
    calibration_error: float
    right: int
    every_class: list[ClassScores]
    classes: list[ClassScores]
    confused: list[Confused]
    matrix: tuple[list[str], list[list[int]]] | None
    strange: int
    judged: Judged
    trained_on: int
    trained_on_accuracy: float | None

    def to_json(self) -> dict[str, Any]:
        """Return the figures as ``summary.json`` has them."""
        return {
            "images": self.images,
            "unknown": self.unknown,
            "strange": self.strange,
            "mistakes": self.images - self.right,
            "accuracy": self.accuracy,
            "interval": list(self.interval),
            "accuracy_without_strange": share_of(self.right, self.images - self.strange),
            "top_k": self.most,
            "top_k_accuracy": self.among,
            "calibration_error": self.calibration_error,
            "trained_on": self.trained_on,
            "trained_on_accuracy": self.trained_on_accuracy,
            "classes": [asdict(scores) for scores in self.every_class],
        }


def quality(judged: Judged) -> Quality | None:
    """Sum up the counts; None if no image has a known truth and is new to the model."""
    images = sum(judged.pairs.values())
    if not images:
        return None
    of_it, predicted, hits = Counter[str](), Counter[str](), Counter[str]()
    for (truth, label), count in judged.pairs.items():
        of_it[truth] += count
        predicted[label] += count
        if truth == label:
            hits[truth] += count
    labels = sorted({*of_it, *predicted})

    def wrong(label: str) -> int:
        return of_it[label] + predicted[label] - 2 * hits[label]

    right = sum(hits.values())
    scores = {x: class_scores(x, of_it[x], predicted[x], hits[x]) for x in labels}
    worst = sorted(labels, key=lambda label: (-wrong(label), label))[:CLASSES_IN_TABLE]
    pairs = (Confused(*pair, count) for pair, count in judged.pairs.items() if pair[0] != pair[1])
    confused = sorted(pairs, key=lambda one: (-one.images, one.truth, one.predicted))
    matrix = None
    if len(labels) <= CLASSES_IN_MATRIX:
        matrix = labels, [[judged.pairs[truth, label] for label in labels] for truth in labels]
    return Quality(
        images=images,
        unknown=judged.unknown,
        accuracy=right / images,
        interval=wilson_interval(right, images),
        among=judged.among / images,
        most=judged.most,
        calibration_error=calibration_error(judged.right, judged.confidence, images),
        right=right,
        every_class=list(scores.values()),
        classes=[scores[label] for label in worst],
        confused=confused[:CONFUSED_PAIRS],
        matrix=matrix,
        strange=sum(count for truth, count in of_it.items() if truth not in judged.known_labels),
        judged=judged,
        trained_on=judged.trained_on,
        trained_on_accuracy=share_of(judged.trained_on_right, judged.trained_on),
    )


def in_words(evaluation: Mapping[str, Any]) -> str:
    """Describe the quality in a line or two for the console.

    Args:
      evaluation: as ``Quality.to_json`` or ``NothingNew.to_json`` returned it.
    """
    seen = evaluation.get("trained_on")
    before = seen and (
        f"{evaluation['trained_on_accuracy']:.3f} on {seen:,} images that the model was trained on"
    )
    if not evaluation["images"]:
        return f"accuracy is not measured: no image is new to the model; {before}"
    low, high = evaluation["interval"]
    words = (
        f"accuracy {evaluation['accuracy']:.3f} on {evaluation['images']:,} images "
        f"{'that it has not seen ' if seen else ''}(95 % interval {low:.3f} to {high:.3f})"
    )
    if evaluation["top_k"] > 1:
        words += f", top-{evaluation['top_k']} {evaluation['top_k_accuracy']:.3f}"
    without = evaluation["accuracy_without_strange"]
    if evaluation["strange"] and without is not None:
        words += (
            f"; {without:.3f} without the {evaluation['strange']:,} of classes that the model does "
            "not know"
        )
    return f"{before}, which are left out of the accuracy\n{words}" if seen else words
