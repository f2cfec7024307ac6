"""Measures the labels of images that have several, in memory that does not grow with the images."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.evaluation import classes_in, share_of
from pipeline.records import Prediction

# Scores are told apart in so many steps of [0, 1] as rows have digits for.
_STEPS = 10**6

# So many different scores are kept, of all classes together; then they are told apart less finely.
_MOST_SCORES = 2**21


def average_precision(
    scores: np.ndarray, positives: np.ndarray, negatives: np.ndarray
) -> float | None:
    """Compute the average precision of one class, without interpolation.

    It is the sum of ``(R[n] - R[n - 1]) * P[n]`` over the different scores, the highest first, with
    the recall ``R`` and the precision ``P`` of all images whose score is not lower. This is how
    scikit-learn defines ``average_precision_score``; equal scores are one step.

    Args:
      scores: ``[N]``, in any order.
      positives: numbers of images of the class with each of the scores, ``[N]``.
      negatives: numbers of other images with each of the scores, ``[N]``.

    Returns:
      A number in [0, 1]; None if there is no image of the class.
    """
    images_of_it = positives.sum()
    if not images_of_it:
        return None
    steps, at = np.unique(-scores, return_inverse=True)
    hits = np.bincount(at, positives, len(steps))
    found = np.cumsum(hits)
    chosen = np.cumsum(np.bincount(at, positives + negatives, len(steps)))
    # A step may have no images at all; it has no hits then.
    return float((hits * found / np.maximum(chosen, 1)).sum() / images_of_it)


@dataclass(frozen=True)
class LabelScores:
    """How well one class is found, where images have several.

    Attributes:
      label: its name.
      images: number of images of this class.
      average_precision: see ``average_precision``; None if it is not known.
      precision: share in [0, 1] that are of this class, among the images that have its label; None
        if none has.
      recall: share in [0, 1] that have its label, among the images of this class; None if there are
        none.
      f1: harmonic mean of the two: twice the number of images that are of this class and have its
        label, over the sum of both numbers; None if both are 0.
    """

    label: str
    images: int
    average_precision: float | None
    precision: float | None
    recall: float | None
    f1: float | None


@dataclass(frozen=True)
class MultiLabelEvaluation:
    """How good the labels of a set of images are, where images have several.

    Attributes:
      images: number of images whose classes are known.
      unknown: number of other images.
      cut: number of images of which not all classes' scores are known.
      strange: number of images with a class that the model does not know.
      mistakes: number of images whose labels are not just their classes.
      threshold: the score in [0, 1] that a label has at least.
      mean_average_precision: the mean of the classes' average precisions, each counting the same;
        None if not all classes' scores are known.
      averaged: number of classes in that mean: those with images. The others have none.
      precision: share in [0, 1] that are right, among all labels of all images.
      recall: share in [0, 1] that are found, among all true classes of all images.
      f1: harmonic mean of the two.
      classes: all that have images or labels, in the order of the model's output.
    """

    images: int
    unknown: int
    cut: int
    strange: int
    mistakes: int
    threshold: float
    mean_average_precision: float | None
    averaged: int
    precision: float | None
    recall: float | None
    f1: float | None
    classes: tuple[LabelScores, ...]

    def to_json(self) -> dict[str, Any]:
        """Convert to lists, dicts, numbers and None."""
        return dataclasses.asdict(self) | {"classes": [dataclasses.asdict(x) for x in self.classes]}


class MultiLabelCounts:
    """Counts of images that have several classes, or sums of such counts.

    Memory depends on the number of classes, not on that of images: beyond two million different
    scores, scores are rounded.

    Args:
      labels: the names of the model's classes, in the order of its output.
      threshold: the score in [0, 1] that a label has at least.
      top_k: how many labels an image has at most.
    """

    def __init__(self, labels: Sequence[str], threshold: float, top_k: int):
        self._labels = labels
        self._known = set(labels)
        self._threshold = threshold
        self._top_k = top_k
        self._unknown = self._images = self._cut = self._strange = self._mistakes = 0
        self._misses = 0  # true classes that the model does not know
        self._of_it, self._predicted, self._hits = np.zeros((3, len(labels)), np.int64)
        # A number for each class, score and whether it is right; and how often it occurs.
        self._steps = _STEPS
        self._keys, self._counts = np.zeros((2, 0), np.int64)
        self._pending: list[np.ndarray] = []
        self._waiting = 0

    def add(self, truth: str | None, predictions: Sequence[Prediction]) -> None:
        """Count one more image.

        Args:
          truth: as ``classes_in`` takes it; None if it is not known.
          predictions: of all classes, best first; if some are left out, the image counts as cut.
        """
        if truth is None:
            self._unknown += 1
            return
        true = set(classes_in(truth))
        self._images += 1
        self._strange += not true <= self._known
        self._misses += len(true - self._known)
        class_ids = [n for n, label in enumerate(self._labels) if label in true]
        self._of_it[class_ids] += 1
        labels = [one for one in predictions[: self._top_k] if one.score >= self._threshold]
        for one in labels:
            self._predicted[one.class_id] += 1
            self._hits[one.class_id] += one.label in true
        self._mistakes += {one.label for one in labels} != true
        if len(predictions) < len(self._labels):
            self._cut += 1
            return
        ids, scores = (
            np.array([getattr(one, name) for one in predictions]) for name in ("class_id", "score")
        )
        right = np.isin(ids, class_ids)
        steps = np.rint(scores * self._steps).astype(np.int64)
        self._wait((ids * (_STEPS + 1) + steps) * 2 + right)

    def merge(self, other: MultiLabelCounts) -> None:
        """Add the counts of other images, of the same model and threshold."""
        for name in ("_images", "_unknown", "_cut", "_strange", "_mistakes", "_misses"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in ("_of_it", "_predicted", "_hits"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        other._settle()
        self._settle()
        coarser = min(self._steps, other._steps)
        keys = [_rounded(x._keys, x._steps, coarser) for x in (self, other)]
        self._steps = coarser
        self._compact(np.concatenate(keys), np.concatenate([self._counts, other._counts]))

    def _wait(self, keys: np.ndarray) -> None:
        self._pending.append(keys)
        self._waiting += len(keys)
        if self._waiting > _MOST_SCORES:
            self._settle()

    def _settle(self) -> None:
        """Count what waits for it, which is faster for many at a time."""
        if self._pending:
            keys = np.concatenate([self._keys, *self._pending])
            counts = np.concatenate([self._counts, np.ones(self._waiting, np.int64)])
            self._pending, self._waiting = [], 0
            self._compact(keys, counts)

    def _compact(self, keys: np.ndarray, counts: np.ndarray) -> None:
        while True:
            self._keys, at = np.unique(keys, return_inverse=True)
            self._counts = np.bincount(at, counts, len(self._keys)).astype(np.int64)
            if len(self._keys) <= _MOST_SCORES or self._steps == 1:
                return
            keys, counts = _rounded(self._keys, self._steps, self._steps // 10), self._counts
            self._steps //= 10

    def evaluation(self) -> MultiLabelEvaluation | None:
        """Sum up the counts; None if no image's classes are known."""
        if not self._images:
            return None
        self._settle()
        precisions: list[float | None] = [None] * len(self._labels)
        if not self._cut:
            class_ids, steps, right = _parts(self._keys)
            ends = np.searchsorted(class_ids, np.arange(len(self._labels) + 1))
            for n in range(len(self._labels)):
                of_class = slice(ends[n], ends[n + 1])
                counts, is_right = self._counts[of_class], right[of_class]
                precisions[n] = average_precision(
                    steps[of_class], counts * is_right, counts * (1 - is_right)
                )
        known = [value for value in precisions if value is not None]
        of_it, predicted, hits = (x.tolist() for x in (self._of_it, self._predicted, self._hits))
        of_all = sum(of_it) + self._misses
        return MultiLabelEvaluation(
            images=self._images,
            unknown=self._unknown,
            cut=self._cut,
            strange=self._strange,
            mistakes=self._mistakes,
            threshold=self._threshold,
            mean_average_precision=sum(known) / len(known) if known else None,
            averaged=len(known),
            precision=share_of(sum(hits), sum(predicted)),
            recall=share_of(sum(hits), of_all),
            f1=share_of(2 * sum(hits), sum(predicted) + of_all),
            classes=tuple(
                LabelScores(
                    label=self._labels[n],
                    images=of_it[n],
                    average_precision=precisions[n],
                    precision=share_of(hits[n], predicted[n]),
                    recall=share_of(hits[n], of_it[n]),
                    f1=share_of(2 * hits[n], predicted[n] + of_it[n]),
                )
                for n in range(len(self._labels))
                if of_it[n] or predicted[n]
            ),
        )


def in_words(evaluation: Mapping[str, Any]) -> str:
    """Describe how good the labels are in one line for the console.

    Args:
      evaluation: as ``MultiLabelEvaluation.to_json`` returned it.
    """
    mean = evaluation["mean_average_precision"]
    if evaluation["cut"]:
        words = "mean average precision not known (not all scores were kept)"
    elif mean is None:
        words = "mean average precision not known (no image has a class of the model)"
    else:
        words = f"mean average precision {mean:.3f} over {evaluation['averaged']:,} classes"
    shares = (
        f"{name} {'–' if share is None else f'{share:.3f}'}"
        for name, share in (
            ("precision", evaluation["precision"]),
            ("recall", evaluation["recall"]),
            ("F1", evaluation["f1"]),
        )
    )
    return (
        f"{words} on {evaluation['images']:,} images; at threshold {evaluation['threshold']:g}: "
        f"{', '.join(shares)}"
    )


def worst_classes(evaluation: Mapping[str, Any], most: int) -> list[Mapping[str, Any]]:
    """Choose the classes with the lowest average precision; the lowest F1 if that is not known.

    Args:
      evaluation: as ``MultiLabelEvaluation.to_json`` returned it.
      most: how many to choose at most.
    """
    known = evaluation["mean_average_precision"] is not None

    def quality(scores: Mapping[str, Any]) -> tuple[bool, float, str]:
        value = scores["average_precision" if known else "f1"]
        return value is None, value or 0.0, scores["label"]

    return sorted(evaluation["classes"], key=quality)[:most]


def _parts(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Class, step of the score, and whether it is right, of each key."""
    class_ids, steps = np.divmod(keys // 2, _STEPS + 1)
    return class_ids, steps, keys % 2


def _rounded(keys: np.ndarray, steps: int, coarser: int) -> np.ndarray:
    """The keys for scores that are told apart in fewer steps."""
    class_ids, at, right = _parts(keys)
    at = np.rint(at * (coarser / steps)).astype(np.int64)
    return (class_ids * (_STEPS + 1) + at) * 2 + right
