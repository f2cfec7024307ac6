"""Finds images whose given class is improbable, with confident learning.

The method is that of Northcutt, Jiang and Chuang 2021, "Confident Learning: Estimating Uncertainty
in Dataset Labels", Journal of Artificial Intelligence Research 70, doi:10.1613/jair.1.12125. How
many images of a class are of another is estimated by the confident joint. Which ones is decided by
its rule C+NR: those that both prune by class and prune by noise rate would take.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from pipeline.finetune.discriminant import FOLDS, cross_validated, folds_of
from pipeline.finetune.temperature import log_softmax

# Of a class with fewer pictures, some fold would have none.
LEAST_PICTURES = FOLDS

# How far the mean accuracy of the classes must be above chance, as a share of what is possible. If
# features tell nothing, nearly all images of a small class would seem to be of a large one.
_LEAST_LEARNED = 0.25

# Above that, the probabilities would take more memory than the training.
_MOST_PROBABILITIES = 100_000_000


class Suspects(NamedTuple):
    """Images whose given class is improbable, the worst first.

    ``images``: int ``[n]``, which of those that were given. ``given`` and ``suggested``: int
    ``[n]``, their classes, and the most probable ones. ``probabilities`` and
    ``given_probabilities``: float ``[n]``, those of the suggested and of the given class, in
    [0, 1]. ``checked``: number of images that were looked at. ``passed_over``: number of those that
    were not. ``why``: why, in words; empty if all were.
    """

    images: np.ndarray
    given: np.ndarray
    suggested: np.ndarray
    probabilities: np.ndarray
    given_probabilities: np.ndarray
    checked: int
    passed_over: int = 0
    why: str = ""

    def in_words(self, file: str) -> str:
        """Say in a line how many there are, and what was not looked at.

        Args:
          file: the name of the file that lists them.
        """
        if not self.checked:
            return f"wrong classes are not looked for: {self.why}"
        said = f"{len(self.images):,} of {self.checked:,} images may have a wrong class: {file}"
        if self.passed_over:
            said += f"; {self.passed_over:,} are not checked: {self.why}"
        return said

    def to_json(self) -> dict[str, Any]:
        """Convert to a dict of numbers and words."""
        return {
            "images": len(self.images),
            "checked": self.checked,
            "passed_over": self.passed_over,
            "why": self.why or None,
        }


def find(features: np.ndarray, classes: np.ndarray, pictures: np.ndarray, labels: int) -> Suspects:
    """Find images whose given class is improbable, by what is learned from the others.

    Args:
      features: float32 ``[N, features]``.
      classes: int ``[N]``, as they were given; an image with -1 does not count.
      pictures: int ``[N]``; images with the same number show the same picture.
      labels: number of classes.

    Returns:
      The images; those of a class with fewer than ``LEAST_PICTURES`` pictures are passed over.
    """
    counted = classes >= 0
    shown = np.unique(np.stack([classes[counted], pictures[counted]]), axis=1)[0]
    known = np.flatnonzero(np.bincount(shown, minlength=labels) >= LEAST_PICTURES)
    own = np.flatnonzero(np.isin(classes, known))
    images = int(counted.sum())
    passed_over = images - len(own)
    few = f"their classes have fewer than {LEAST_PICTURES} pictures"
    if len(known) < 2:
        why = f"fewer than two classes have {LEAST_PICTURES} pictures or more"
        return _nothing(images, why)
    if len(own) * len(known) > _MOST_PROBABILITIES:
        why = f"{len(own):,} images of {len(known):,} classes would take too much memory"
        return _nothing(images, why)
    given = np.searchsorted(known, classes[own])
    folds = folds_of(given, pictures[own])
    probabilities = cross_validated(features, own, given, folds, len(known))
    for at in range(0, len(own), 65_536):
        some = slice(at, at + 65_536)
        probabilities[some] = np.exp(log_softmax(probabilities[some]))
    right = np.bincount(given[probabilities.argmax(1) == given], minlength=len(known))
    chance = 1 / len(known)
    if (right / np.bincount(given)).mean() - chance < _LEAST_LEARNED * (1 - chance):
        return _nothing(images, "the features hardly tell the classes apart")
    found = improbable(probabilities, given)
    suggested = probabilities[found].argmax(1)
    return Suspects(
        own[found],
        classes[own[found]],
        known[suggested],
        probabilities[found, suggested],
        probabilities[found, given[found]],
        len(own),
        passed_over,
        few if passed_over else "",
    )


def _nothing(images: int, why: str) -> Suspects:
    none = np.empty(0, np.int64)
    return Suspects(none, none, none, none.astype(float), none.astype(float), 0, images, why)


def improbable(probabilities: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Choose the images whose given class is improbable.

    Args:
      probabilities: float ``[N, classes]``, by a model that has not seen the image.
      classes: int ``[N]``, as they were given; each class has an image.

    Returns:
      Int ``[n]``, the images, those first whose most probable class is furthest above the given
      one. Its own class is never the most probable.
    """
    count = probabilities.shape[1]
    images = np.arange(len(classes))
    own = probabilities[images, classes]
    joint = _confident_joint(probabilities, classes, own)
    by_class, by_noise_rate = np.zeros((2, len(classes)), bool)
    for class_id in range(count):
        members = np.flatnonzero(classes == class_id)
        others = joint[class_id].copy()
        others[class_id] = 0
        # The least probable of the class, as many as are of any other.
        worst = np.argsort(own[members], kind="stable")
        by_class[members[worst[: round(others.sum())]]] = True
        # For each other class those with the largest margins, as many as are of that class.
        for other in np.flatnonzero(others >= 0.5):
            margins = probabilities[members, other] - own[members]
            largest = np.argsort(-margins, kind="stable")
            by_noise_rate[members[largest[: round(others[other])]]] = True
    margins = probabilities.max(1) - own
    found = np.flatnonzero(by_class & by_noise_rate & (margins > 0))
    return found[np.argsort(-margins[found], kind="stable")]


def _confident_joint(probabilities: np.ndarray, classes: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Estimate how many images of each given class (rows) are of each class (columns)."""
    count = probabilities.shape[1]
    images = np.bincount(classes, minlength=count)
    # What images of a class have of it on average; one with less is not confidently of it.
    thresholds = np.bincount(classes, own, count) / images
    joint = np.zeros((count, count))
    for at in range(0, len(classes), 65_536):
        some = probabilities[at : at + 65_536]
        confident = np.where(some >= thresholds, some, -1)
        is_any = confident.max(1) >= 0
        truth = confident.argmax(1)
        np.add.at(joint, (classes[at : at + 65_536][is_any], truth[is_any]), 1)
    counted = np.maximum(joint.sum(1), 1)
    return joint * (images / counted)[:, None]
