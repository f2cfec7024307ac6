"""Predicts the class of each image from the others' features: a cross-validated discriminant.

It is linear discriminant analysis, which needs no training in steps: all classes are normal
distributions around their means, with one covariance. That one is shrunk toward a multiple of the
identity: Friedman 1989, "Regularized Discriminant Analysis", doi:10.1080/01621459.1989.10478752.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from pipeline.finetune.temperature import best_temperature, log_softmax

FOLDS = 10

# How far the covariance is shrunk; the best of them is taken.
_SHRINKAGES = (0.2, 0.5, 0.8)

# More features are projected at random to so many, which hardly changes distances (Johnson and
# Lindenstrauss 1984). A covariance takes the square of that, and its inverse the cube.
MOST_FEATURES = 2048

# Images that are taken at a time.
_BLOCK = 8192

# Logits that a temperature is fitted on, at most.
_FITTED = 5_000_000


class _Sums(NamedTuple):
    """What the fit needs of some images, all float64.

    ``scatter``: of the features, ``[features, features]``. ``sums``: of the features of each class,
    ``[classes, features]``. ``images``: of each class, ``[classes]``.
    """

    scatter: np.ndarray
    sums: np.ndarray
    images: np.ndarray


def folds_of(classes: np.ndarray, pictures: np.ndarray) -> np.ndarray:
    """Deal images to folds, all of one picture to one, and each class evenly.

    Args:
      classes: int ``[N]``.
      pictures: int ``[N]``; images with the same number show the same picture.

    Returns:
      Int ``[N]``, in ``[0, FOLDS)``; always the same for the same images.
    """
    _, first, picture = np.unique(pictures, return_index=True, return_inverse=True)
    shuffled = np.random.default_rng(0).permutation(len(first))
    by_class = shuffled[np.argsort(classes[first][shuffled], kind="stable")]
    folds = np.empty(len(first), np.int64)
    folds[by_class] = np.arange(len(first)) % FOLDS
    return folds[picture]


def cross_validated(
    features: np.ndarray, images: np.ndarray, classes: np.ndarray, folds: np.ndarray, count: int
) -> np.ndarray:
    """Compute logits of each image by what was fitted on all folds but its own.

    They are divided by the temperature that fits them best to the given classes.

    Args:
      features: float32 ``[M, features]``.
      images: int ``[N]``, which of the features count; they may not fit in memory twice.
      classes: int ``[N]``.
      folds: int ``[N]``, as ``folds_of`` returns them.
      count: number of classes.

    Returns:
      Float32 ``[N, count]``.
    """
    if features.shape[1] > MOST_FEATURES:
        drawn = np.random.default_rng(0).standard_normal((features.shape[1], MOST_FEATURES))
        features = features @ (drawn / MOST_FEATURES**0.5).astype(np.float32)
    # Sums are more precise near the middle; any point there will do.
    center = features[images[:_BLOCK]].mean(0)
    members = [np.flatnonzero(folds == fold) for fold in range(FOLDS)]
    parts = []
    for own in members:
        size = features.shape[1]
        scatter, sums = np.zeros((size, size)), np.zeros((count, size))
        for some in _blocks(own):
            values = features[images[some]] - center
            scatter += values.T @ values
            is_of_class = (classes[some] == np.arange(count)[:, None]).astype(np.float32)
            sums += is_of_class @ values
        of_class = np.bincount(classes[own], minlength=count).astype(np.float64)
        parts.append(_Sums(scatter, sums, of_class))
    total = _Sums(*(np.sum(values, axis=0) for values in zip(*parts, strict=True)))
    every = max(len(classes) * count // _FITTED, 1)
    best, lowest = np.empty(0, np.float32), np.inf
    for shrinkage in _SHRINKAGES:
        logits = np.empty((len(classes), count), np.float32)
        for own, part in zip(members, parts, strict=True):
            rest = _Sums(*(a - b for a, b in zip(total, part, strict=True)))
            weights, bias = _fit(rest, shrinkage)
            for some in _blocks(own):
                logits[some] = (features[images[some]] - center) @ weights + bias
        fitted, truth = logits[::every], classes[::every]
        temperature = best_temperature(fitted, truth)
        loss = -log_softmax(fitted / temperature)[np.arange(len(truth)), truth].mean()
        if loss < lowest or not len(best):  # the loss of infinite features is no number
            best, lowest = logits / np.float32(temperature), loss
    return best


def _fit(given: _Sums, shrinkage: float) -> tuple[np.ndarray, np.ndarray]:
    """Return weights, float32 ``[features, classes]``, and bias, float32 ``[classes]``."""
    images = given.images.sum()
    # A class may have none: all its pictures may be in one fold, if other classes have them, too.
    of_class = np.maximum(given.images, 0.5)
    means = given.sums / of_class[:, None]
    covariance = (given.scatter - given.sums.T @ means) / images
    # Features that are the same in all images of a class have no variance at all.
    variance = max(float(np.trace(covariance)) / len(covariance), 1e-9)
    covariance *= 1 - shrinkage
    covariance[np.diag_indices_from(covariance)] += shrinkage * variance
    # In half the time, and precise enough, as the shrinkage keeps its smallest eigenvalue up.
    weights = np.linalg.solve(covariance.astype(np.float32), means.T.astype(np.float32))
    bias = np.log(of_class / images) - (means.T * weights).sum(0) / 2
    return weights, bias.astype(np.float32)


def _blocks(own: np.ndarray) -> list[np.ndarray]:
    return [own[at : at + _BLOCK] for at in range(0, len(own), _BLOCK)]
