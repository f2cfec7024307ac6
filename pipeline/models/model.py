"""Image models: probed once before a run, then loaded by each worker. No Beam transforms.

A model is a SavedModel that takes float32 ``[N, height, width, 3]`` in [0, 1] (TensorFlow Hub's
convention for images), through its signature or by being called. A classifier returns logits or
probabilities ``[N, classes]``, a feature extractor ``[N, features]``.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import console
from pipeline.errors import ModelError, OutOfMemoryError, PredictionError
from pipeline.models import files as model_files
from pipeline.models.class_names import IMAGENET_CLASSES, find_labels
from pipeline.models.devices import (
    DEFAULT_EXECUTION,
    Execution,
    check,
    has_gpu,
    padded_size,
    set_precision,
)
from pipeline.models.examples import (
    ExampleClassifier,
    example_signature,
    prediction_error,
    probe_examples,
)
from pipeline.models.preprocessing import Preprocessing
from pipeline.models.tensorflow_import import tf, what_failed
from pipeline.records import TopK

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
class ExtractorSpec:
    """All that a worker needs to load a model that the launcher has probed.

    Attributes:
      handle: what ``--model`` said.
      fingerprint: of the model's files; a worker refuses others under the same handle.
      height: of the input, in pixels.
      width: of the input, in pixels.
      outputs: how many numbers it returns for each image.
      signature: the signature to use, or None to call the model itself.
      resample: the filter that images are resized with, a key of ``resizing.RESAMPLING``.
    """

    handle: str
    fingerprint: str
    height: int
    width: int
    outputs: int
    signature: str | None
    resample: str


@dataclass(frozen=True)
class ModelSpec(ExtractorSpec):
    """A model whose outputs are classes.

    Attributes:
      labels: one name a class, in the order of the output.
      returns_logits: whether softmax is still to be applied.
      example_output: None for a model of images; for one of serialized tf.Examples, the name of the
        signature's output that is to be used.
      decodes: whether a model of tf.Examples is given the files as they are, since it was trained
        on its own way to decode them.
    """

    labels: tuple[str, ...]
    returns_logits: bool
    example_output: str | None = None
    decodes: bool = False


class Classifier:
    """A loaded classifier; uint8 images in, best classes out. Safe to share between threads."""

    def __init__(
        self,
        function: Callable[[tf.Tensor], tf.Tensor],
        spec: ModelSpec,
        top_k: int,
        execution: Execution = DEFAULT_EXECUTION,
    ):
        k = min(top_k, len(spec.labels))
        # XLA compiles the model, and cuDNN looks for its fastest algorithms, for each size anew.
        self._pads = execution.xla or has_gpu()
        self._precision = execution.precision
        self._largest = 1

        # uint8 is a quarter of what float32 costs on the way to the device, and k numbers instead
        # of all classes come back.
        @tf.function(
            input_signature=[tf.TensorSpec((None, spec.height, spec.width, 3), tf.uint8)],
            jit_compile=execution.xla or None,
        )
        def classify(pixels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            scores = tf.cast(function(tf.cast(pixels, tf.float32) / 255.0), tf.float32)
            if spec.returns_logits:
                scores = tf.nn.softmax(scores)
            return tf.math.top_k(scores, k)

        self._classify = classify

    def __call__(self, pixels: Sequence[np.ndarray]) -> list[TopK]:
        """The best classes of each image of a batch.

        Args:
          pixels: N times uint8 ``[height, width, 3]``.

        Raises:
          PredictionError: the model fails, or does not return one row of finite numbers for each
            image; ``OutOfMemoryError`` if fewer at a time may succeed.
        """
        given = len(pixels)
        if self._pads:
            padding = padded_size(given, self._largest) - given
            pixels = [*pixels, *itertools.repeat(pixels[0], padding)]
        set_precision(self._precision)
        try:
            scores, class_ids = (values[:given] for values in _run(self._classify, pixels))
        except OutOfMemoryError:
            self._largest = 1  # what comes next is not to be filled up to what did not fit
            raise
        self._largest = max(self._largest, given)
        return [
            TopK(tuple(ids), tuple(row))
            for ids, row in zip(class_ids.tolist(), scores.tolist(), strict=True)
        ]


class FeatureExtractor:
    """A loaded feature extractor; uint8 images in, features out. Safe to share between threads."""

    def __init__(self, function: Callable[[tf.Tensor], tf.Tensor], spec: ExtractorSpec):
        @tf.function(input_signature=[tf.TensorSpec((None, spec.height, spec.width, 3), tf.uint8)])
        def extract(pixels: tf.Tensor) -> tuple[tf.Tensor]:
            return (tf.cast(function(tf.cast(pixels, tf.float32) / 255.0), tf.float32),)

        self._extract = extract

    def __call__(self, pixels: Sequence[np.ndarray]) -> np.ndarray:
        """The features of each image of a batch, float32 ``[N, outputs]``.

        Args:
          pixels: N times uint8 ``[height, width, 3]``.

        Raises:
          PredictionError: the model fails, or does not return one row of finite numbers for each
            image.
        """
        set_precision("float32")
        return _run(self._extract, pixels)[0]


def _run(function: Callable[[np.ndarray], Any], pixels: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The outputs of a function for a batch, the first of them checked."""
    try:
        outputs = [tensor.numpy() for tensor in function(np.asarray(pixels))]
    except tf.errors.OpError as error:
        raise prediction_error(error, len(pixels)) from error
    if len(outputs[0]) != len(pixels):
        raise PredictionError(
            f"the model returned {len(outputs[0])} results for a batch of {len(pixels)} images"
        )
    if not np.isfinite(outputs[0]).all():
        raise PredictionError("the model returned numbers that are not finite")
    return outputs


def inspect(
    handle: str,
    labels_file: str | None = None,
    resample: str | None = None,
    signature: str | None = None,
) -> ModelSpec:
    """Fetch a classifier, load it, run it once on two made-up images, and find its labels.

    Args:
      handle: see ``model_files.resolve``.
      labels_file: path or URI of a label file, or None for the model's own.
      resample: a key of ``resizing.RESAMPLING``, or None for what the model's own
        ``preprocessing.json`` says, else bicubic.
      signature: the name of the one to use, or None for whichever is fit.

    Raises:
      ModelError: it is not an image classifier that works here; the message says why.
      LabelsError: there are no labels that fit it.
    """
    path = model_files.resolve(handle)
    preprocessing = Preprocessing.read(path)
    extractor, values, example_output = _probe(handle, path, resample, signature, examples=True)
    if extractor.outputs < 2:
        raise ModelError(
            f"--model {handle}: returns one number for each image; a classifier returns one for "
            "each of two or more classes"
        )
    if preprocessing is None and not _are_probabilities(values) and _are_in_unit_range(values):
        console.say(
            f"warning: --model {handle} returns numbers from 0 to 1 that do not add up to 1, as "
            "models do that give an image several labels; they are taken for logits of one"
        )
    return ModelSpec(
        **dataclasses.asdict(extractor),
        labels=find_labels(labels_file, path, extractor.outputs),
        returns_logits=(
            preprocessing.returns == "logits" if preprocessing else not _are_probabilities(values)
        ),
        example_output=example_output,
        decodes=example_output is not None and preprocessing is None,
    )


def inspect_extractor(handle: str, resample: str | None = None) -> tuple[ExtractorSpec, bool]:
    """Fetch a feature extractor, load it, and run it once on two made-up images.

    Args:
      handle: see ``model_files.resolve``.
      resample: as in ``inspect``.

    Returns:
      What it is, and whether it looks like a classifier, whose outputs are poor features.

    Raises:
      ModelError: it is not a model of images that works here; the message says why.
    """
    path = model_files.resolve(handle)
    extractor, values, _ = _probe(handle, path, resample, signature=None, examples=False)
    classifies = (
        (path / "assets" / "labels.txt").is_file()
        or extractor.outputs in (IMAGENET_CLASSES - 1, IMAGENET_CLASSES)
        or _are_probabilities(values)
    )
    return extractor, classifies


def _probe(
    handle: str, path: Path, resample: str | None, signature: str | None, examples: bool
) -> tuple[ExtractorSpec, np.ndarray, str | None]:
    """What a model is, its answer to noise, float ``[2, outputs]``, and ``example_output``."""
    fingerprint = model_files.fingerprint(path)
    preprocessing = Preprocessing.read(path)
    set_precision("float32")  # whatever an earlier run in this process had
    loaded = _load(path, fingerprint)
    if signature is not None and signature not in loaded.signatures:
        raise ModelError(
            f"--model {handle}: has no signature {signature!r}; it has "
            f"{', '.join(loaded.signatures) or 'none'}"
        )
    interface = _interface(loaded, signature)
    if interface is None:
        if examples:
            signature = example_signature(loaded, signature)
        if not examples or signature is None:
            raise _no_function(handle, loaded)
        shape = (None, None, None, 3)
    else:
        signature, shape = interface
    height = shape[1] or (preprocessing.height if preprocessing else DEFAULT_SIZE)
    width = shape[2] or (preprocessing.width if preprocessing else DEFAULT_SIZE)
    pixels = np.random.default_rng(0).integers(0, 256, (2, height, width, 3), np.uint8)
    example_output = None
    try:
        if interface is None:
            example_output, values = probe_examples(loaded.signatures[signature], pixels)
        else:
            values = as_function(loaded, signature)(tf.constant(pixels / np.float32(255))).numpy()
    except _TENSORFLOW_ERRORS as error:
        raise ModelError(
            f"--model {handle}: fails on images of {height} × {width}: {what_failed(error)}"
        ) from error
    if values.ndim != 2 or len(values) != 2 or not np.issubdtype(values.dtype, np.floating):
        raise ModelError(
            f"--model {handle}: returns {values.dtype} {list(values.shape)} for a batch of 2 "
            "images; a classifier returns float [2, classes], a feature extractor [2, features]"
        )
    if not np.isfinite(values).all():
        raise ModelError(f"--model {handle}: returns numbers that are not finite")
    extractor = ExtractorSpec(
        handle=handle,
        fingerprint=fingerprint,
        height=height,
        width=width,
        outputs=values.shape[1],
        signature=signature,
        resample=resample or (preprocessing.resample if preprocessing else "bicubic"),
    )
    return extractor, values, example_output


def load_classifier(
    spec: ModelSpec, top_k: int, execution: Execution = DEFAULT_EXECUTION
) -> Classifier | ExampleClassifier:
    """Load a classifier that ``inspect`` has probed, perhaps on another machine.

    Raises:
      ModelError: it cannot be fetched or loaded here, or is not the same model any more.
      DeviceError: there is no GPU here, and one is needed.
    """
    check(execution)
    if spec.example_output is not None:
        return ExampleClassifier(_resolve_same(spec), spec, top_k)
    return Classifier(as_function(load(spec), spec.signature), spec, top_k, execution)


def load_extractor(spec: ExtractorSpec) -> FeatureExtractor:
    """Load a feature extractor that ``inspect_extractor`` has probed; errors as above."""
    return FeatureExtractor(as_function(load(spec), spec.signature), spec)


def load(spec: ExtractorSpec) -> Any:
    """The SavedModel that was probed; errors as above."""
    return _load(_resolve_same(spec), spec.fingerprint)


def load_anew(spec: ExtractorSpec) -> Any:
    """A copy of the SavedModel that was probed, for whoever changes its variables.

    Raises:
      ModelError: it cannot be fetched or loaded here, or is not the same model any more.
    """
    return _load.__wrapped__(_resolve_same(spec), spec.fingerprint)


def _resolve_same(spec: ExtractorSpec) -> Path:
    """The folder of a model that was probed, with the same model in it."""
    path = model_files.resolve(spec.handle)
    fingerprint = model_files.fingerprint(path)
    if fingerprint != spec.fingerprint:
        raise ModelError(
            f"--model {spec.handle} is {fingerprint} on this worker, "
            f"but was {spec.fingerprint} when the run was launched"
        )
    return path


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


def _interface(loaded: Any, wanted: str | None) -> tuple[str | None, tf.TensorShape] | None:
    """The signature to use (None: call the model) and the shape of its input, if there is one."""
    signature = _image_signature(loaded, wanted)
    if signature is not None:
        (spec,) = loaded.signatures[signature].structured_input_signature[1].values()
        return signature, spec.shape
    if callable(loaded) and wanted is None:
        for function in getattr(loaded.__call__, "concrete_functions", ()):
            for spec in tf.nest.flatten(function.structured_input_signature):
                if _takes_images(spec):
                    return None, spec.shape
    return None


def _no_function(handle: str, loaded: Any) -> ModelError:
    described = {
        name: {
            key: f"{spec.dtype.name} {spec.shape}"
            for key, spec in function.structured_input_signature[1].items()
        }
        for name, function in loaded.signatures.items()
    }
    return ModelError(
        f"--model {handle}: is not a model of images: it has no function from float32 "
        f"[N, height, width, 3] to one output; its signatures take {described or 'nothing'}"
    )


def _image_signature(loaded: Any, wanted: str | None) -> str | None:
    """The signature with one input, images, and one output, if there is one."""
    usable = [
        name
        for name, function in loaded.signatures.items()
        if wanted in (None, name)
        and len(function.structured_input_signature[1]) == 1
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


def as_function(loaded: Any, signature: str | None) -> Callable[[tf.Tensor], tf.Tensor]:
    """The model as a function from float32 ``[N, height, width, 3]`` to ``[N, outputs]``."""
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


def _are_in_unit_range(values: np.ndarray) -> bool:
    return bool((values >= 0).all() and (values <= 1).all())
