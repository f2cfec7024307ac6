"""Image classifiers: probed once before a run, then loaded by each worker. No Beam transforms.

A classifier is a SavedModel that takes float32 ``[N, height, width, 3]`` in [0, 1] (TensorFlow
Hub's convention for images) and returns logits or probabilities ``[N, classes]``, through its
signature or by being called.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import model_files
from pipeline.errors import ModelError, PredictionError
from pipeline.labels import find_labels
from pipeline.preprocessing import Preprocessing
from pipeline.records import TopK
from pipeline.tensorflow_import import tf

# Where a model leaves its input's height and width open; the size of Hub's ImageNet classifiers.
DEFAULT_SIZE = 224

# The usual name first, then those of TensorFlow 1 Hub modules.
_SIGNATURES = ("serving_default", "default", "image_classification")

# What TensorFlow raises for a model that it cannot load or run; LookupError where the variables'
# file is too short.
_TENSORFLOW_ERRORS = (
    tf.errors.OpError,
    OSError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
)


@dataclass(frozen=True)
class ModelSpec:
    """All that a worker needs to load a model that the launcher has probed.

    Attributes:
      handle: what ``--model`` said.
      fingerprint: of the model's files; a worker refuses others under the same handle.
      height: of the input, in pixels.
      width: of the input, in pixels.
      labels: one name a class, in the order of the output.
      signature: the signature to use, or None to call the model itself.
      returns_logits: whether softmax is still to be applied.
      resample: the filter that images are resized with, a key of ``images.RESAMPLING``.
    """

    handle: str
    fingerprint: str
    height: int
    width: int
    labels: tuple[str, ...]
    signature: str | None
    returns_logits: bool
    resample: str


class Classifier:
    """A loaded model; uint8 images in, best classes out. Safe to share between threads."""

    def __init__(self, function: Callable[[tf.Tensor], tf.Tensor], spec: ModelSpec, top_k: int):
        self._shape = (spec.height, spec.width, 3)
        k = min(top_k, len(spec.labels))

        # uint8 is a quarter of what float32 costs on the way to the device, and k numbers instead
        # of all classes come back.
        @tf.function(input_signature=[tf.TensorSpec((None, *self._shape), tf.uint8)])
        def classify(pixels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            scores = tf.cast(function(tf.cast(pixels, tf.float32) / 255.0), tf.float32)
            if spec.returns_logits:
                scores = tf.nn.softmax(scores)
            return tf.math.top_k(scores, k)

        self._classify = classify

    def classify(self, pixels: np.ndarray) -> list[TopK]:
        """The best classes of each image of a batch, without ``seconds``.

        Args:
          pixels: uint8 ``[N, height, width, 3]``.

        Raises:
          PredictionError: the model fails, or does not return one row of finite numbers for each
            image.
        """
        try:
            scores, class_ids = (tensor.numpy() for tensor in self._classify(pixels))
        except tf.errors.OpError as error:
            raise PredictionError(
                f"the model fails on a batch of {len(pixels)} images: {what_failed(error)}"
            ) from error
        if len(scores) != len(pixels):
            raise PredictionError(
                f"the model returned {len(scores)} results for a batch of {len(pixels)} images"
            )
        if not np.isfinite(scores).all():
            raise PredictionError("the model returned scores that are not finite numbers")
        return [
            TopK(tuple(ids), tuple(row), 0.0)
            for ids, row in zip(class_ids.tolist(), scores.tolist(), strict=True)
        ]


def inspect(handle: str, labels_file: str | None = None, resample: str | None = None) -> ModelSpec:
    """Fetch a model, load it, run it once on two made-up images, and find its labels.

    Args:
      handle: see ``model_files.resolve``.
      labels_file: path or URI of a label file, or None for the model's own.
      resample: a key of ``images.RESAMPLING``, or None for what the model's own
        ``preprocessing.json`` says, else bicubic.

    Raises:
      ModelError: it is not an image classifier that works here; the message says why.
      LabelsError: there are no labels that fit it.
    """
    path = model_files.resolve(handle)
    fingerprint = model_files.fingerprint(path)
    preprocessing = Preprocessing.read(path)
    loaded = _load(path, fingerprint)
    signature, shape = _interface(handle, loaded)
    height = shape[1] or (preprocessing.height if preprocessing else DEFAULT_SIZE)
    width = shape[2] or (preprocessing.width if preprocessing else DEFAULT_SIZE)
    images = np.random.default_rng(0).random((2, height, width, 3), np.float32)
    try:
        output = _function(loaded, signature)(tf.constant(images))
        values = output.numpy()
    except _TENSORFLOW_ERRORS as error:
        raise ModelError(
            f"--model {handle}: fails on images of {height} × {width}: {what_failed(error)}"
        ) from error
    if values.ndim != 2 or len(values) != 2 or not np.issubdtype(values.dtype, np.floating):
        raise ModelError(
            f"--model {handle}: returns {values.dtype} {list(values.shape)} for a batch of 2 "
            "images; a classifier returns float [2, classes]"
        )
    if values.shape[1] < 2:
        raise ModelError(
            f"--model {handle}: returns one number for each image; a classifier returns one for "
            "each of two or more classes"
        )
    return ModelSpec(
        handle=handle,
        fingerprint=fingerprint,
        height=height,
        width=width,
        labels=find_labels(labels_file, path, values.shape[1]),
        signature=signature,
        returns_logits=(
            preprocessing.returns == "logits" if preprocessing else not _are_probabilities(values)
        ),
        resample=resample or (preprocessing.resample if preprocessing else "bicubic"),
    )


def load_classifier(spec: ModelSpec, top_k: int) -> Classifier:
    """Load a model that ``inspect`` has probed, perhaps on another machine.

    Raises:
      ModelError: it cannot be fetched or loaded here, or is not the same model any more.
    """
    path = model_files.resolve(spec.handle)
    fingerprint = model_files.fingerprint(path)
    if fingerprint != spec.fingerprint:
        raise ModelError(
            f"--model {spec.handle} is {fingerprint} on this worker, "
            f"but was {spec.fingerprint} when the run was launched"
        )
    return Classifier(_function(_load(path, fingerprint), spec.signature), spec, top_k)


@functools.lru_cache(maxsize=1)
def _load(path: Path, fingerprint: str) -> Any:
    """The SavedModel in a folder, loaded once a process, by the launcher or a worker.

    ``fingerprint`` tells it from another that was in the same folder before.
    """
    try:
        return tf.saved_model.load(str(path))
    except _TENSORFLOW_ERRORS as error:
        raise ModelError(
            f"the SavedModel in {path} cannot be loaded; it may be incomplete or need "
            f"operations that are not installed: {what_failed(error)}"
        ) from error


def _interface(handle: str, loaded: Any) -> tuple[str | None, tf.TensorShape]:
    """The signature to use (None: call the model), and the shape of its input."""
    signature = _image_signature(loaded)
    if signature is not None:
        (spec,) = loaded.signatures[signature].structured_input_signature[1].values()
        return signature, spec.shape
    if callable(loaded):
        for function in getattr(loaded.__call__, "concrete_functions", ()):
            for spec in tf.nest.flatten(function.structured_input_signature):
                if _takes_images(spec):
                    return None, spec.shape
    described = {
        name: {
            key: f"{spec.dtype.name} {spec.shape}"
            for key, spec in function.structured_input_signature[1].items()
        }
        for name, function in loaded.signatures.items()
    }
    raise ModelError(
        f"--model {handle}: is not an image classifier: it has no function from float32 "
        f"[N, height, width, 3] to one output; its signatures take {described or 'nothing'}"
    )


def _image_signature(loaded: Any) -> str | None:
    """The signature with one input, images, and one output, if there is one."""
    usable = [
        name
        for name, function in loaded.signatures.items()
        if len(function.structured_input_signature[1]) == 1
        and _takes_images(next(iter(function.structured_input_signature[1].values())))
        and len(function.structured_outputs) == 1
    ]
    for name in _SIGNATURES:
        if name in usable:
            return name
    return usable[0] if len(usable) == 1 else None


def _takes_images(spec: Any) -> bool:
    return (
        isinstance(spec, tf.TensorSpec)
        and spec.dtype == tf.float32
        and spec.shape.rank == 4
        and spec.shape[3] in (3, None)
    )


def _function(loaded: Any, signature: str | None) -> Callable[[tf.Tensor], tf.Tensor]:
    """The model as a function from float32 ``[N, height, width, 3]`` to ``[N, classes]``."""
    if signature is None:
        return loaded
    function = loaded.signatures[signature]
    (name,) = function.structured_input_signature[1]

    def call(images: tf.Tensor) -> tf.Tensor:
        (output,) = function(**{name: images}).values()
        return output

    return call


def _are_probabilities(values: np.ndarray) -> bool:
    """Whether rows ``[N, classes]`` are distributions; the answer to noise tells them apart."""
    return bool((values >= 0).all() and np.allclose(values.sum(axis=1), 1.0, atol=1e-3))


def what_failed(error: Exception) -> str:
    """The line of an error's message that says what went wrong; TensorFlow's have pages.

    A graph's error is told after where in the graph it was, and before the node's name in ``[[``.
    """
    lines = [line.strip() for line in str(error).partition("[[")[0].splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    return lines[-1] if lines[0] == "Graph execution error:" else lines[0]
