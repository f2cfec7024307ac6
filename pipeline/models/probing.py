"""Finds out what a model is, before a run: reads its graph, loads it, and calls it once.

A classifier returns logits, probabilities or a probability for each class, ``[N, classes]``, a
feature extractor ``[N, features]``. Which values it takes for a pixel is what it says itself in
``assets/preprocessing.json``, what its graph says, or the convention of TensorFlow Hub: 0 to 1.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pipeline import console
from pipeline.errors import ModelError
from pipeline.models import files, handles, signatures, trained_on
from pipeline.models.class_names import IMAGENET_CLASSES, find_labels, has_labels
from pipeline.models.devices import set_precision
from pipeline.models.examples import call_with_images
from pipeline.models.graph import Graph, GraphError
from pipeline.models.loading import load_saved_model
from pipeline.models.preprocessing import Preprocessing
from pipeline.models.scaling import SCALES
from pipeline.models.signatures import Door, OutputChoiceError
from pipeline.models.spec import NOTHING_STATED, ExtractorSpec, ModelSpec, Stated, Takes
from pipeline.models.tensorflow_import import MODEL_ERRORS, tf, what_failed

# Where a model leaves its input's height and width open; the size of Hub's ImageNet classifiers.
DEFAULT_SIZE = 224

# By how much probabilities may miss 1 in all: those of float16 and of 8 bits are rounded.
_ROUNDING = 0.02

# So many numbers that none of them is negative by chance.
_MANY = 64


def probe_classifier(handle: str, stated: Stated = NOTHING_STATED) -> ModelSpec:
    """Fetch a classifier, load it, run it once on made-up images, and find its labels.

    Args:
      handle: see ``files.resolve``.
      stated: what the user says of it.

    Raises:
      ModelError: it is not an image classifier that works here, or does not tell what has to be
        known of it; the message says why, and what to state.
      LabelsError: there are no labels that fit it.
    """
    handle = files.newest_version(handle)
    path = files.resolve(handle)
    probed = _probe(handle, path, stated, takes_strings=True)
    if stated.labels_file is None and not has_labels(path) and _are_features(probed):
        raise _error(
            handle,
            f"returns {probed.extractor.outputs} features for each image, not classes",
            f"{console.program()} finetune --input … --output … makes a classifier of it, with the "
            "same {model}; if they are classes all the same, name them with {labels_file}",
        )
    classes = max(probed.extractor.outputs, 2)
    return ModelSpec(
        **dataclasses.asdict(probed.extractor),
        labels=find_labels(stated.labels_file, path, classes),
        returns=_returns(handle, stated, probed),
        takes=probed.takes,
        decodes=probed.takes is not Takes.IMAGES and probed.preprocessing is None,
        lists_images=trained_on.exists(path),
    )


def probe_extractor(handle: str, stated: Stated = NOTHING_STATED) -> tuple[ExtractorSpec, bool]:
    """Fetch a feature extractor, load it, and run it once on made-up images.

    Args:
      handle: see ``files.resolve``.
      stated: what the user says of it.

    Returns:
      What it is, and whether it looks like a classifier, whose outputs are poor features.

    Raises:
      ModelError: it is not a model of images that works here; the message says why.
    """
    handle = files.newest_version(handle)
    path = files.resolve(handle)
    probed = _probe(handle, path, stated, takes_strings=False)
    classifies = (
        has_labels(path)
        or probed.extractor.outputs in (IMAGENET_CLASSES - 1, IMAGENET_CLASSES)
        or _are_probabilities(probed.answers)
    )
    return probed.extractor, classifies


class _Probed(NamedTuple):
    """What one call has shown.

    ``answers``: to images of noise, float ``[N, outputs]``. ``graph``: of its function; None if
    it has none that can be read. ``takes``: see ``ModelSpec``.
    """

    extractor: ExtractorSpec
    answers: np.ndarray
    preprocessing: Preprocessing | None
    graph: Graph | None
    takes: Takes = Takes.IMAGES


def _probe(handle: str, path: Path, stated: Stated, takes_strings: bool) -> _Probed:
    """Load a model and call it."""
    fingerprint = files.fingerprint(path)
    if stated.fingerprint not in (None, fingerprint):
        raise _error(
            handle,
            f"is {fingerprint}, not {stated.fingerprint}",
            "use that model, or give the fingerprint of this one with {model_fingerprint}, if you "
            "trust it",
        )
    preprocessing = Preprocessing.read(path)
    set_precision("float32")  # whatever an earlier run in this process had
    loaded = load_saved_model(path, fingerprint)
    if stated.signature is not None and stated.signature not in loaded.signatures:
        raise _error(
            handle,
            f"has no signature {stated.signature!r}; it has "
            f"{', '.join(loaded.signatures) or 'none'}",
        )
    door = signatures.find_door(loaded, stated.signature, takes_strings)
    if door is None:
        raise _error(
            handle,
            "is not a model of images: it has no function from float32 [N, height, width, 3] "
            f"to one output; its signatures take {signatures.describe(loaded) or 'nothing'}",
            signatures.remedy_for(loaded),
        )
    if door.channels_first and not stated.channels_first:
        raise _error(
            handle,
            f"takes {door.spec.dtype.name} {door.spec.shape}, channels first",
            remedy="give {channels_first} to have the images transposed",
        )
    extractor = ExtractorSpec(
        handle=handle,
        fingerprint=fingerprint,
        height=DEFAULT_SIZE,
        width=DEFAULT_SIZE,
        outputs=0,
        signature=door.signature,
        resample=stated.resample or (preprocessing.resample if preprocessing else "bicubic"),
        output=stated.output,
    )
    if preprocessing is not None:
        extractor = dataclasses.replace(
            extractor, height=preprocessing.height, width=preprocessing.width
        )
    if door.takes_strings:
        extractor = dataclasses.replace(extractor, batch=door.spec.shape[0])
        return _probe_strings(loaded, extractor, stated, preprocessing)
    extractor = dataclasses.replace(
        extractor,
        height=door.height or extractor.height,
        width=door.width or extractor.width,
        input_type=door.spec.dtype.name,
        channels_first=door.channels_first,
        batch=door.spec.shape[0],
    )
    extractor, answers = _call(loaded, extractor)
    # A model that carries its preprocessing.json tells all that the graph could.
    graph = _read_graph(loaded, extractor, door) if preprocessing is None else None
    if graph is not None and graph.is_random():
        console.say(
            f"warning: the model {handle} draws random numbers, as augmentation does in training, "
            "so its answers to an image vary; export it with training=False"
        )
    scale, source = _scale(handle, stated, preprocessing, door, graph)
    extractor = dataclasses.replace(extractor, scale=scale, scale_source=source)
    if scale != "unit":  # what it was called with
        extractor, answers = _call(loaded, extractor)
    return _Probed(extractor, answers, preprocessing, graph)


def _probe_strings(
    loaded: Any, extractor: ExtractorSpec, stated: Stated, preprocessing: Preprocessing | None
) -> _Probed:
    """Call a model of strings with files of noise, in tf.Examples and as they are."""
    if stated.scale or (stated.resample and preprocessing is None):
        raise _error(
            extractor.handle,
            "takes files, and has its own way from them to what its layers take",
            remedy="leave out {scale} and {resample}",
        )
    images = extractor.batch or 2
    try:
        takes, outputs = call_with_images(loaded, extractor.signature, _noise(extractor, images))
    except ValueError as error:
        raise _error(extractor.handle, str(error)) from error
    output, answers = _choose(extractor, outputs, images)
    strings = [name for name, values in outputs.items() if values.dtype == object]
    if takes is Takes.EXAMPLES and any(outputs[name].ndim == 1 for name in strings):
        raise _error(
            extractor.handle,
            f"tfx-bsl cannot pass on the output {strings[0]!r}, strings [N]; export it as [N, 1]",
        )
    extractor = dataclasses.replace(
        extractor, outputs=answers.shape[1], output=output, scale_source="of its own"
    )
    return _Probed(extractor, answers, preprocessing, None, takes)


def _noise(extractor: ExtractorSpec, images: int) -> np.ndarray:
    """Uint8 ``[images, height, width, 3]``, always the same."""
    shape = (images, extractor.height, extractor.width, 3)
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def _call(loaded: Any, extractor: ExtractorSpec) -> tuple[ExtractorSpec, np.ndarray]:
    """Call a model of images with noise: what is known then, and the answers."""
    images = extractor.batch or 2
    pixels = _noise(extractor, images)
    is_integer = tf.as_dtype(extractor.input_type).is_integer
    given = pixels if is_integer else SCALES[extractor.scale].values(pixels)
    given = given.transpose(0, 3, 1, 2) if extractor.channels_first else given
    try:
        batch = tf.constant(given, extractor.input_type)
        outputs = {
            name: output.numpy()
            for name, output in signatures.outputs_of(loaded, extractor.signature, batch).items()
            if isinstance(output, tf.Tensor)
        }
    except MODEL_ERRORS as error:
        raise _failure(extractor, error) from error
    output, answers = _choose(extractor, outputs, images)
    return dataclasses.replace(extractor, outputs=answers.shape[1], output=output), answers


def _choose(
    extractor: ExtractorSpec, outputs: Mapping[str | None, np.ndarray], images: int
) -> tuple[str | None, np.ndarray]:
    """The name of the output to use, and its values, float32 ``[images, outputs]``."""
    try:
        output = signatures.choose_output(outputs, extractor.output, images)
    except OutputChoiceError as error:
        remedy = "name the one to use with {model_output}" if len(outputs) > 1 else ""
        raise _error(extractor.handle, str(error), remedy) from error
    answers = outputs[output].reshape(images, -1).astype(np.float32)
    if answers.shape[1] > 4 and (np.diff(answers) <= 0).all() and np.diff(answers).any():
        raise _error(
            extractor.handle,
            f"returns {answers.shape[1]} numbers in descending order: the best of its classes, not "
            "one number for each class",
            remedy="name an output with one number for each class with {model_output}",
        )
    if not np.isfinite(answers).all():
        raise _error(extractor.handle, "returns numbers that are not finite")
    return output, answers


def _read_graph(loaded: Any, extractor: ExtractorSpec, door: Door) -> Graph | None:
    """Read the graph of the function that is called, up to the output that is used."""

    @tf.function(input_signature=[door.spec], autograph=False)
    def function(images: tf.Tensor) -> tf.Tensor:
        return signatures.outputs_of(loaded, extractor.signature, images)[extractor.output]

    try:
        return Graph(function.get_concrete_function())
    except GraphError:
        return None


def _scale(
    handle: str,
    stated: Stated,
    preprocessing: Preprocessing | None,
    door: Door,
    graph: Graph | None,
) -> tuple[str, str]:
    """The scale, a key of ``SCALES``, and how it is known; "" if it is only assumed."""
    if stated.scale is not None:
        if door.spec.dtype.is_integer and stated.scale != "byte":
            raise _error(
                handle,
                f"takes {door.spec.dtype.name} images, whose values are 0 to 255, not "
                f"{SCALES[stated.scale].words}",
                remedy="leave {scale} out",
            )
        return stated.scale, "as stated"
    if preprocessing is not None:
        return preprocessing.scale, "from its preprocessing.json"
    if door.spec.dtype.is_integer:
        return "byte", f"as it takes {door.spec.dtype.name}"
    scale = graph.scale() if graph else None
    if scale is not None:
        return scale, "read from its graph"
    if graph is not None and graph.fits_no_scale:
        console.say(
            f"warning: the first operations of the model {handle} fit none of the scales; it may "
            "take values in a range of its own, and then its labels are wrong"
        )
    if handles.has_hub_convention(handle):
        return "unit", "the convention of TensorFlow Hub"
    if handle in files.EMBEDDED:
        return "unit", "as it was trained"
    return "unit", ""


def _returns(handle: str, stated: Stated, probed: _Probed) -> str:
    """One of ``RETURNS``.

    Raises:
      ModelError: it has to be stated.
    """
    if stated.returns is not None:
        low, high = float(probed.answers.min()), float(probed.answers.max())
        if stated.returns != "logits" and (low < -_ROUNDING or high > 1 + _ROUNDING):
            raise _error(
                handle,
                f"returns numbers from {low:.3g} to {high:.3g}, which are no probabilities",
                remedy="leave {returns} out, or give {returns} logits",
            )
        return stated.returns
    if probed.preprocessing is not None:
        return probed.preprocessing.returns
    answers = probed.answers
    if answers.shape[1] > 1:
        sums = answers.sum(axis=1)
        if answers.min() >= 0 and answers.max() > 1 and np.allclose(sums, 100.0, rtol=_ROUNDING):
            raise _error(
                handle,
                "returns numbers that add up to 100 for each image: percentages, as it seems",
                remedy="export it with probabilities, or give {returns} logits if they are",
            )
        if answers.min() < 0 or answers.max() > 1:
            return "logits"
        # The answers to noise of a model of several labels may add up to 1 by chance.
        if _are_probabilities(answers) and _by_graph(probed) != "sigmoid":
            return "probabilities"
    returns = _by_graph(probed)
    if returns is not None:
        return returns
    raise _error(
        handle,
        "returns numbers from 0 to 1 that do not add up to 1, as models do that give an image "
        "several labels",
        remedy="give {returns} sigmoid for such a model, else {returns} probabilities or logits",
    )


def _by_graph(probed: _Probed) -> str | None:
    """What the graph's last operation says that a model returns, if there is such a graph."""
    return probed.graph.returns() if probed.graph else None


def _are_probabilities(answers: np.ndarray) -> bool:
    """Whether rows ``[N, classes]`` are distributions; the answer to noise tells them apart."""
    return bool((answers >= 0).all() and np.allclose(answers.sum(axis=1), 1.0, atol=_ROUNDING))


def _are_features(probed: _Probed) -> bool:
    """Tell whether outputs are certainly not classes: by their names, or as they are rectified."""
    answers = probed.answers
    if answers.shape[1] == IMAGENET_CLASSES:
        return False
    names = f"{probed.extractor.signature} {probed.extractor.output}"
    if handles.is_hub(probed.extractor.handle):
        names += f" {probed.extractor.handle}"
    if re.search(r"feature[-_]?vector|\b(features|embeddings?)\b", names, re.IGNORECASE):
        return True
    # Of many logits, some are negative; and no probability is more than 1.
    return answers.shape[1] >= _MANY and answers.min() >= 0 and answers.max() > 1


def _failure(extractor: ExtractorSpec, error: Exception) -> ModelError:
    return _error(
        extractor.handle,
        f"fails on images of {extractor.height} × {extractor.width}: {what_failed(error)}",
    )


def _error(handle: str, problem: str, remedy: str = "") -> ModelError:
    return ModelError(problem, subject="model", given=handle, remedy=remedy)
