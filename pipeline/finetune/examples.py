"""Chooses test images to show in the report, and reads them again."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.errors import ImageError, InputError
from pipeline.finetune.pictures import Example
from pipeline.images.decode import decode
from pipeline.images.loading import read_image
from pipeline.inputs.embedded import load_embedded
from pipeline.limits import Limits
from pipeline.models.spec import ExtractorSpec
from pipeline.records import ImageRef

# The most examples; up to a third of them are wrong ones, which come first.
MOST = 30
MOST_WRONG = MOST // 3


def choose(
    refs: Sequence[ImageRef],
    classes: np.ndarray,
    probabilities: np.ndarray,
    labels: Sequence[str],
    spec: ExtractorSpec,
    limits: Limits,
) -> list[Example]:
    """Choose some of the test images at random, but always the same ones.

    An image that can no longer be read is left out.

    Args:
      refs: the test images.
      classes: ids of their true classes, int ``[images]``.
      probabilities: the model's answers, float ``[images, classes]``.
      labels: the names of the classes.
      spec: says how the images are resized.
      limits: of each image.
    """
    predicted = probabilities.argmax(1)
    right = predicted == classes
    rng = np.random.default_rng(0)
    chosen = [*rng.permutation(np.flatnonzero(~right))[:MOST_WRONG]]
    chosen = [*chosen, *rng.permutation(np.flatnonzero(right))][:MOST]
    loaded = _loaded([refs[index] for index in chosen])
    examples = []
    for index in chosen:
        ref = loaded.get(refs[index].uri, refs[index])
        try:
            data, _ = read_image(ref, limits)
            decoded = decode(data, spec.height, spec.width, spec.resample)
        except ImageError:
            continue  # gone in the meantime, but it is only a picture
        truth, guess = labels[classes[index]], labels[predicted[index]]
        score = float(probabilities[index].max())
        examples.append(Example(decoded.pixels, truth, guess, score))
    return examples


def _loaded(refs: Sequence[ImageRef]) -> dict[str, ImageRef]:
    """Load images in TFRecord files with their bytes, by name; nothing from a file that is gone."""
    try:
        return {ref.uri: ref for ref in load_embedded(refs)}
    except InputError:
        return {}
