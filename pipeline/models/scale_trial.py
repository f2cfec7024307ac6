"""Tries a classifier on photographs in each of the scales, where its graph does not tell which.

Given pixels in a wrong scale, a network sees the same gray fog, or the same glare, in every image:
its answers hardly depend on the image. How much they do is their mutual information with the image,
the entropy of the average answer less the average entropy of the answers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from pipeline import console
from pipeline.errors import ModelError
from pipeline.models.loading import load_probed
from pipeline.models.scaling import SCALES
from pipeline.models.signatures import as_function
from pipeline.models.spec import ExtractorSpec, ModelSpec
from pipeline.models.tensorflow_import import MODEL_ERRORS, tf

# With fewer images, a scale's answers may be alike by chance.
_LEAST_IMAGES = 6

# In nats. Answers with less depend on nothing in the image; another scale with more than that, and
# so many times as much, speaks against the one that is assumed.
_NOTHING = 0.02
_SOMETHING = 0.2
_FAR_BETTER = 1.5
_AS_GOOD = 1.1

# The least gain in mean probability that refuses the scale that is assumed.
_SURER = 0.2


class Trial(NamedTuple):
    """What a classifier answers to some images in one scale.

    Attributes:
      information: the mutual information of image and answer, in nats.
      confidence: the mean of the best probabilities, in [0, 1].
      classes: the number of different best classes.
    """

    information: float
    confidence: float
    classes: int


def settle_scale(spec: ModelSpec, pixels: np.ndarray) -> ModelSpec:
    """Hold the scale that is only assumed of a model against the others, on images of the input.

    A warning says what is assumed, whatever the trial shows: networks also answer to values that
    are only near to those that they take.

    Args:
      spec: what the probe has found out; one whose scale is known is returned as it is.
      pixels: uint8 ``[N, height, width, 3]``, ``TRIED_IMAGES`` or fewer.

    Returns:
      The spec, which says if the trial speaks for the scale.

    Raises:
      ModelError: the answers depend on nothing in the images, and those in another scale do.
    """
    if spec.scale_source:
        return spec
    trials = _try_all(spec, pixels) if len(pixels) >= _LEAST_IMAGES else {}
    assumed = trials.get(spec.scale)
    best = max(trials, key=lambda name: trials[name].information, default=spec.scale)
    if assumed is None or trials[best].information < _SOMETHING:
        say_assumed(spec)
        return spec
    if trials[best].information <= _AS_GOOD * assumed.information:
        say_assumed(spec)
        source = (
            f"assumed; of {len(trials)} scales its answers to {len(pixels)} images are the clearest"
        )
        return dataclasses.replace(spec, scale_source=source)
    problem = (
        f"is assumed to take {SCALES[spec.scale].words}, but then its answers to {len(pixels)} "
        f"images are {_described(assumed)}; given {SCALES[best].words} they are "
        f"{_described(trials[best])}"
    )
    # Images that are all of one class get one answer, but a sure one.
    surer = trials[best].confidence - assumed.confidence
    if assumed.information < _NOTHING and surer > _SURER:
        raise ModelError(
            problem,
            subject="model",
            given=spec.handle,
            remedy=f"say with {{scale}} which it takes: probably {best}, else {spec.scale}",
        )
    if trials[best].information > _FAR_BETTER * assumed.information and surer > 0:
        console.say(f"warning: the model {spec.handle} {problem}; if so, give --scale")
    else:
        say_assumed(spec)
    return spec


def say_assumed(spec: ExtractorSpec) -> None:
    """Warn that a model does not tell its scale."""
    console.say(
        f"warning: nothing in the model {spec.handle} tells which values it takes for a pixel; "
        f"{SCALES[spec.scale].words} is assumed; if it takes others, give --scale"
    )


def _try_all(spec: ModelSpec, pixels: np.ndarray) -> Mapping[str, Trial]:
    function = as_function(load_probed(spec), spec)
    trials = {}
    size = spec.batch or len(pixels)
    padded = pixels[np.arange(-(-len(pixels) // size) * size) % len(pixels)]
    for name, scale in SCALES.items():
        if name == "bgr":
            continue  # its answers are about as clear as those to bytes in RGB
        values = scale.values(padded).astype(np.float32)
        try:
            parts = [
                function(tf.constant(values[at : at + size])).numpy()
                for at in range(0, len(values), size)
            ]
        except MODEL_ERRORS:
            continue  # it does not take such values
        answers = np.concatenate(parts)[: len(pixels)].astype(np.float64)
        if np.isfinite(answers).all():
            trials[name] = judge(_probabilities(answers, spec.returns))
    return trials


def _probabilities(answers: np.ndarray, returns: str) -> np.ndarray:
    """Rows that add up to 1, whatever the model returns."""
    if returns == "logits" and answers.shape[1] == 1:
        answers = 1 / (1 + np.exp(-answers))
    elif returns == "logits":
        answers = np.exp(answers - answers.max(axis=1, keepdims=True))
    if answers.shape[1] == 1:
        answers = np.concatenate([1 - answers, answers], axis=1)
    answers = np.maximum(answers, 0)
    return answers / np.maximum(answers.sum(axis=1, keepdims=True), 1e-12)


def judge(probabilities: np.ndarray) -> Trial:
    """Sum up answers.

    Args:
      probabilities: float ``[N, classes]``, rows that add up to 1.
    """
    information = _entropy(probabilities.mean(axis=0)) - _entropy(probabilities).mean()
    return Trial(
        information=float(information),
        confidence=float(probabilities.max(axis=1).mean()),
        classes=len(set(probabilities.argmax(axis=1).tolist())),
    )


def _entropy(probabilities: np.ndarray) -> np.ndarray:
    """In nats, along the last axis."""
    return -(probabilities * np.log(np.maximum(probabilities, 1e-12))).sum(axis=-1)


def _described(trial: Trial) -> str:
    classes = "all of one class" if trial.classes == 1 else f"of {trial.classes} classes"
    return f"{classes}, with a mean probability of {trial.confidence:.2f}"
