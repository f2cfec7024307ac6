"""Finds out what a model is, before a run: loads it, and calls it once.

A model is a SavedModel that takes float32 ``[N, height, width, 3]`` in [0, 1] (TensorFlow Hub's
convention for images), through its signature or by being called. A classifier returns logits or
probabilities ``[N, classes]``, a feature extractor ``[N, features]``.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipeline import console
from pipeline.errors import ModelError
from pipeline.models import files, signatures
from pipeline.models.class_names import IMAGENET_CLASSES, find_labels
from pipeline.models.devices import set_precision
from pipeline.models.examples import probe_examples
from pipeline.models.loading import load_saved_model
from pipeline.models.preprocessing import Preprocessing
from pipeline.models.spec import ExtractorSpec, ModelSpec
from pipeline.models.tensorflow_import import MODEL_ERRORS, tf, what_failed

# Where a model leaves its input's height and width open; the size of Hub's ImageNet classifiers.
DEFAULT_SIZE = 224


def probe_classifier(
    handle: str,
    labels_file: str | None = None,
    resample: str | None = None,
    signature: str | None = None,
) -> ModelSpec:
    """Fetch a classifier, load it, run it once on two made-up images, and find its labels.

    Args:
      handle: see ``files.resolve``.
      labels_file: path or URI of a label file, or None for the model's own.
      resample: a key of ``resizing.RESAMPLING``, or None for what the model's own
        ``preprocessing.json`` says, else bicubic.
      signature: the name of the one to use, or None for whichever fits.

    Raises:
      ModelError: it is not an image classifier that works here; the message says why.
      LabelsError: there are no labels that fit it.
    """
    path = files.resolve(handle)
    preprocessing = Preprocessing.read(path)
    probed = _probe(handle, path, resample, signature, examples=True)
    if probed.extractor.outputs < 2:
        raise _error(
            handle,
            "returns one number for each image; a classifier returns one for each of two or more "
            "classes",
        )
    are_probabilities = _are_probabilities(probed.answers)
    if preprocessing is None and not are_probabilities and _are_in_unit_range(probed.answers):
        console.say(
            f"warning: the model {handle} returns numbers from 0 to 1 that do not add up to 1, as "
            "models do that give an image several labels; they are taken for logits of one"
        )
    return ModelSpec(
        **dataclasses.asdict(probed.extractor),
        labels=find_labels(labels_file, path, probed.extractor.outputs),
        returns_logits=(
            preprocessing.returns == "logits" if preprocessing else not are_probabilities
        ),
        example_output=probed.example_output,
        decodes=probed.example_output is not None and preprocessing is None,
    )


def probe_extractor(handle: str, resample: str | None = None) -> tuple[ExtractorSpec, bool]:
    """Fetch a feature extractor, load it, and run it once on two made-up images.

    Args:
      handle: see ``files.resolve``.
      resample: a key of ``resizing.RESAMPLING``, or None for what the model's own
        ``preprocessing.json`` says, else bicubic.

    Returns:
      What it is, and whether it looks like a classifier, whose outputs are poor features.

    Raises:
      ModelError: it is not a model of images that works here; the message says why.
    """
    path = files.resolve(handle)
    probed = _probe(handle, path, resample, signature=None, examples=False)
    classifies = (
        (path / "assets" / "labels.txt").is_file()
        or probed.extractor.outputs in (IMAGENET_CLASSES - 1, IMAGENET_CLASSES)
        or _are_probabilities(probed.answers)
    )
    return probed.extractor, classifies


class _Probed(NamedTuple):
    """What one call has shown.

    ``answers``: to two images of noise, float ``[2, outputs]``; ``example_output``: see
    ``ModelSpec``.
    """

    extractor: ExtractorSpec
    answers: np.ndarray
    example_output: str | None


def _probe(
    handle: str, path: Path, resample: str | None, signature: str | None, examples: bool
) -> _Probed:
    """Load a model and call it; ``examples``: whether it may take tf.Examples."""
    fingerprint = files.fingerprint(path)
    preprocessing = Preprocessing.read(path)
    set_precision("float32")  # whatever an earlier run in this process had
    loaded = load_saved_model(path, fingerprint)
    if signature is not None and signature not in loaded.signatures:
        raise _error(
            handle,
            f"has no signature {signature!r}; it has {', '.join(loaded.signatures) or 'none'}",
        )
    interface = signatures.image_interface(loaded, signature)
    if interface is None:
        if examples:
            signature = signatures.example_signature(loaded, signature)
        if not examples or signature is None:
            raise _error(
                handle,
                "is not a model of images: it has no function from float32 [N, height, width, 3] "
                f"to one output; its signatures take {signatures.describe(loaded) or 'nothing'}",
            )
        shape = (None, None, None, 3)
    else:
        signature, shape = interface
    height = shape[1] or (preprocessing.height if preprocessing else DEFAULT_SIZE)
    width = shape[2] or (preprocessing.width if preprocessing else DEFAULT_SIZE)
    pixels = np.random.default_rng(0).integers(0, 256, (2, height, width, 3), np.uint8)
    example_output = None
    try:
        if interface is None:
            example_output, answers = probe_examples(loaded.signatures[signature], pixels)
        else:
            function = signatures.as_function(loaded, signature)
            answers = function(tf.constant(pixels / np.float32(255))).numpy()
    except MODEL_ERRORS as error:
        raise _error(
            handle, f"fails on images of {height} × {width}: {what_failed(error)}"
        ) from error
    if answers.ndim != 2 or len(answers) != 2 or not np.issubdtype(answers.dtype, np.floating):
        raise _error(
            handle,
            f"returns {answers.dtype} {list(answers.shape)} for a batch of 2 images; a classifier "
            "returns float [2, classes], a feature extractor [2, features]",
        )
    if not np.isfinite(answers).all():
        raise _error(handle, "returns numbers that are not finite")
    extractor = ExtractorSpec(
        handle=handle,
        fingerprint=fingerprint,
        height=height,
        width=width,
        outputs=answers.shape[1],
        signature=signature,
        resample=resample or (preprocessing.resample if preprocessing else "bicubic"),
    )
    return _Probed(extractor, answers, example_output)


def _error(handle: str, problem: str) -> ModelError:
    return ModelError(problem, subject="model", given=handle)


def _are_probabilities(values: np.ndarray) -> bool:
    """Whether rows ``[N, classes]`` are distributions; the answer to noise tells them apart."""
    return bool((values >= 0).all() and np.allclose(values.sum(axis=1), 1.0, atol=1e-3))


def _are_in_unit_range(values: np.ndarray) -> bool:
    return bool((values >= 0).all() and (values <= 1).all())
