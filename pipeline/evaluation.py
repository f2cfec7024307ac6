"""Measures a classifier's answers against the truth."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np

CALIBRATION_BINS = 15

# Rows have probabilities with six digits; 0 stands for less than half of the last one.
_LEAST_PROBABILITY = 2.5e-7

# How often images are shuffled to see what chance alone does, and NumPy's limit on their number.
_SHUFFLES = 200
_MOST_SHUFFLED = 10**9

# Separates the names of several classes in a truth that is not a list.
CLASS_DELIMITER = "|"


class Mistake(NamedTuple):
    """An image whose label is wrong; the fields are the columns of ``mistakes.csv``.

    ``image``: its name. ``truth``: its true class. ``label``: the most probable class. ``score``:
    the latter's probability in [0, 1]. ``truth_score``: that of the true class; None if it is not
    known. If an image has several labels, ``truth`` and ``label`` are lists in JSON, and ``score``
    is that of the best class.
    """

    image: str
    truth: str
    label: str
    score: float
    truth_score: float | None


@dataclass(frozen=True)
class ClassScores:
    """How well the model tells one class from the others.

    Attributes:
      label: its name.
      images: number of images of this class.
      precision: share in [0, 1] of the images predicted as this class that belong to it; None if
        no image is predicted as it.
      recall: share in [0, 1] of this class's images that are predicted as it; None if it has no
        images.
    """

    label: str
    images: int
    precision: float | None
    recall: float | None


@dataclass(frozen=True)
class Evaluation:
    """How good the answers for a set of images are.

    Attributes:
      images: number of images.
      accuracy: share in [0, 1] of the images whose most probable class is the true one.
      interval: the accuracy's 95 % Wilson score interval, in [0, 1].
      calibration_error: difference in [0, 1] between the probability of the most probable class
        and the share of correct answers: the expected calibration error in 15 equal-width bins,
        Guo et al. 2017, arXiv:1706.04599, equation 3.
      classes: in the order of the model's output.
      confusion: numbers of images, ``[C, C]``; row: the truth, column: the prediction.
    """

    images: int
    accuracy: float
    interval: tuple[float, float]
    calibration_error: float
    classes: tuple[ClassScores, ...]
    confusion: tuple[tuple[int, ...], ...]

    def to_json(self) -> dict[str, Any]:
        """Convert to lists, dicts, numbers and None."""
        return {
            "images": self.images,
            "accuracy": self.accuracy,
            "interval": list(self.interval),
            "calibration_error": self.calibration_error,
            "classes": [dataclasses.asdict(scores) for scores in self.classes],
            "confusion": [list(row) for row in self.confusion],
        }


def evaluate(truth: np.ndarray, probabilities: np.ndarray, labels: Sequence[str]) -> Evaluation:
    """Measure a classifier's answers against the truth.

    Args:
      truth: int ``[N]``, indices of the true classes.
      probabilities: float ``[N, C]`` in [0, 1]. If classes are equally probable, the first counts.
      labels: the names of the ``C`` classes.

    Raises:
      ValueError: there are no images, or the three do not fit each other.
    """
    images, classes = probabilities.shape
    if images == 0:
        raise ValueError("there are no images to evaluate on")
    if truth.shape != (images,) or len(labels) != classes:
        raise ValueError(
            f"truth of shape {truth.shape} and {len(labels)} labels do not fit probabilities of "
            f"shape {probabilities.shape}"
        )
    if truth.min() < 0 or truth.max() >= classes:
        raise ValueError(f"truth goes from {truth.min()} to {truth.max()}, classes: {classes}")
    predicted = probabilities.argmax(axis=1)
    confusion = np.zeros((classes, classes), np.int64)
    np.add.at(confusion, (truth, predicted), 1)
    right = confusion.diagonal()
    successes = int(right.sum())
    confidence = probabilities.max(axis=1)
    bins = [calibration_bin(score) for score in confidence.tolist()]
    return Evaluation(
        images=images,
        accuracy=successes / images,
        interval=wilson_interval(successes, images),
        calibration_error=calibration_error(
            np.bincount(bins, predicted == truth, CALIBRATION_BINS).tolist(),
            np.bincount(bins, confidence, CALIBRATION_BINS).tolist(),
            images,
        ),
        classes=tuple(
            class_scores(label, of_it, predicted_as_it, hits)
            for label, of_it, predicted_as_it, hits in zip(
                labels,
                confusion.sum(axis=1).tolist(),
                confusion.sum(axis=0).tolist(),
                right.tolist(),
                strict=True,
            )
        ),
        confusion=tuple(tuple(row) for row in confusion.tolist()),
    )


def wilson_interval(successes: int, total: int) -> tuple[float, float]:
    """Compute the 95 % score interval of a share (Wilson 1927, doi:10.1080/01621459.1927.10502953).

    Unlike the normal approximation, it stays in [0, 1], and has a width if none or all succeed.

    Args:
      successes: 0 to ``total``.
      total: at least 1.
    """
    z = NormalDist().inv_cdf(0.975)
    share = successes / total
    shift = z**2 / (2 * total)
    margin = math.sqrt(share * (1 - share) * z**2 / total + shift**2)
    low, high = share + shift - margin, share + shift + margin
    # Rounding alone can take 1 beyond 1.
    return low / (1 + 2 * shift), min(1.0, high / (1 + 2 * shift))


def chance_of_so_few(wrong: int, total: int, rate: float) -> float:
    """Compute how probable it is that at most so many of some answers are wrong.

    Args:
      wrong: 0 to ``total``.
      total: number of answers, each of which is wrong independently of the others.
      rate: how often an answer is wrong, in (0, 1).

    Returns:
      The binomial distribution's lower tail, in [0, 1].
    """
    counts = np.arange(1, wrong + 1)
    ratios = np.log((total - counts + 1) / counts) + math.log(rate / (1 - rate))
    logs = total * math.log1p(-rate) + np.concatenate([[0.0], np.cumsum(ratios)])
    return min(1.0, float(np.exp(logs).sum()))


def calibrated(
    scores: Sequence[float], classes: int, temperatures: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Divide the logits behind some probabilities by temperatures: Guo et al. 2017.

    Args:
      scores: the probabilities of the best classes, ``[k]``. Classes that are not among them have
        equal parts of the rest.
      classes: the number of all classes, at least k.
      temperatures: ``[T]``, above 0.

    Returns:
      The new probabilities, ``[T, k]``, and that of each class that is not among the k, ``[T]``.
    """
    others = classes - len(scores)
    rest = max(1 - sum(scores), 0.0) / others if others else 0.0
    logits = np.log(np.maximum([*scores, rest], _LEAST_PROBABILITY)) / temperatures[:, None]
    powers = np.exp(logits - logits.max(1, keepdims=True))
    weights = np.array([1.0] * len(scores) + [others])
    probabilities = powers / (powers * weights).sum(1, keepdims=True)
    return probabilities[:, :-1], probabilities[:, -1]


class Drift(NamedTuple):
    """How far two class mixes are from each other.

    ``distance``: their Jensen-Shannon distance in [0, 1]. ``by_chance``: what the distance exceeds
    once in a hundred times if all images are shuffled between the two.
    """

    distance: float
    by_chance: float

    @property
    def stands_out(self) -> bool:
        """Whether chance alone hardly explains it."""
        return self.distance > self.by_chance

    def to_json(self) -> dict[str, Any]:
        """Convert to a dict of numbers, with the measure's name."""
        return {"measure": "Jensen-Shannon distance", **self._asdict()}


def class_drift(now: Mapping[str, int], before: Mapping[str, int]) -> Drift | None:
    """Compare two class mixes; None if one of them has no images.

    Args:
      now: numbers of images by class.
      before: likewise.
    """
    classes = sorted({*now, *before})
    counts = np.array([[mix.get(name, 0) for name in classes] for mix in (now, before)], np.int64)
    images = counts.sum(1)
    if not images.all():
        return None
    both = counts.sum(0)
    distance = jensen_shannon_distance(*counts)
    if images.sum() >= _MOST_SHUFFLED:
        return Drift(distance, 0.0)
    # Small mixes of many classes are always far from each other, whatever they were drawn from.
    rng = np.random.default_rng(0)
    drawn = rng.multivariate_hypergeometric(both, images[0], _SHUFFLES, method="marginals")
    distances = [jensen_shannon_distance(some, both - some) for some in drawn]
    return Drift(distance, float(np.quantile(distances, 0.99)))


def jensen_shannon_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Compute the square root of the Jensen-Shannon divergence, with logarithms to base 2.

    It is 0 if the two mixes are the same, 1 if they have no class in common, and a metric: Lin
    1991, doi:10.1109/18.61115; Endres and Schindelin 2003, doi:10.1109/TIT.2003.813506.

    Args:
      first: numbers of images by class, ``[C]``, with a sum above 0.
      second: likewise.
    """
    shares = np.stack([first / first.sum(), second / second.sum()])
    middle = np.broadcast_to(shares.mean(0), shares.shape)
    there = shares > 0
    bits = (shares[there] * np.log2(shares[there] / middle[there])).sum()
    return math.sqrt(min(max(float(bits) / 2, 0.0), 1.0))  # rounding alone can leave [0, 1]


def calibration_bin(confidence: float) -> int:
    """Find which of ``CALIBRATION_BINS`` equal parts of [0, 1], open below and closed above."""
    return min(max(math.ceil(confidence * CALIBRATION_BINS) - 1, 0), CALIBRATION_BINS - 1)


def calibration_error(right: Sequence[float], confidence: Sequence[float], images: int) -> float:
    """Compute the expected calibration error: Guo et al. 2017, arXiv:1706.04599, equation 3.

    Args:
      right: number of correct answers in each bin, ``[CALIBRATION_BINS]``.
      confidence: sum of the answers' probabilities in each bin, ``[CALIBRATION_BINS]``.
      images: number of images in all bins.
    """
    return sum(abs(r - c) for r, c in zip(right, confidence, strict=True)) / images


def class_scores(label: str, of_it: int, predicted_as_it: int, hits: int) -> ClassScores:
    """Make the scores of a class from the numbers of images of it, predicted as it, and both."""
    return ClassScores(label, of_it, share_of(hits, predicted_as_it), share_of(hits, of_it))


def share_of(part: int, whole: int) -> float | None:
    """Divide a number by that of which it is a part; None if that is 0."""
    return part / whole if whole else None


def classes_in(truth: str) -> list[str]:
    """List the classes that a truth names, each once, in alphabetical order.

    Args:
      truth: a JSON list of names, ``["cat", "dog"]``, which may be empty; or names with ``|``
        between them, ``cat|dog``.
    """
    names = _list_in(truth)
    if names is None:
        names = [name.strip() for name in truth.split(CLASS_DELIMITER)]
    return sorted({name for name in names if name})


def _list_in(truth: str) -> list[str] | None:
    """The names in a JSON list of texts or numbers; None for any other text."""
    if not truth.lstrip().startswith("["):
        return None
    try:
        found = json.loads(truth)
    except (ValueError, RecursionError):
        return None
    if not all(isinstance(name, (str, int)) for name in found):
        return None
    return [str(name) for name in found]
