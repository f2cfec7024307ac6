"""Loaded models, called with a batch of images. Safe to share between threads."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import OutOfMemoryError, PredictionError
from pipeline.models.devices import (
    DEFAULT_EXECUTION,
    Execution,
    has_gpu,
    padded_size,
    set_precision,
)
from pipeline.models.scaling import SCALES
from pipeline.models.signatures import outputs_of
from pipeline.models.spec import ExtractorSpec, ModelSpec
from pipeline.models.tensorflow_import import tf, what_failed
from pipeline.records import TopK

# tfx-bsl loads models in TensorFlow 1's way, of which TensorFlow warns its callers at each load.
logging.getLogger("tensorflow").addFilter(
    lambda record: "is deprecated and will be removed" not in str(record.msg)
)


class ImageClassifier:
    """A loaded classifier of images: uint8 pixels in, best classes out.

    Args:
      function: the model, from float32 ``[N, height, width, 3]`` in its scale to ``[N, classes]``.
      spec: of the model.
      top_k: how many of the best classes to return.
      execution: on which device and with which arithmetic.
    """

    def __init__(
        self,
        function: Callable[[tf.Tensor], tf.Tensor],
        spec: ModelSpec,
        top_k: int,
        execution: Execution = DEFAULT_EXECUTION,
    ):
        k = min(top_k, len(spec.labels))
        scale = SCALES[spec.scale]
        self._batch = spec.batch
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
            scores = tf.cast(function(scale.of_pixels(pixels)), tf.float32)
            if spec.outputs == 1:  # the number is for the second of two classes
                scores = tf.sigmoid(scores) if spec.returns == "logits" else scores
                scores = tf.concat([1.0 - scores, scores], 1)
            elif spec.returns == "logits":
                scores = tf.nn.softmax(scores)
            return tf.math.top_k(scores, k)

        self._classify = classify

    def __call__(self, pixels: Sequence[np.ndarray]) -> list[TopK]:
        """Return the best classes of each image of a batch.

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
            scores, class_ids = (
                values[:given] for values in _call(self._classify, pixels, self._batch)
            )
        except OutOfMemoryError:
            self._largest = 1  # so that the next batch is not filled up to what did not fit
            raise
        self._largest = max(self._largest, given)
        return [
            TopK(tuple(ids), tuple(row))
            for ids, row in zip(class_ids.tolist(), scores.tolist(), strict=True)
        ]


class FeatureExtractor:
    """A loaded feature extractor: uint8 pixels in, features out.

    Args:
      function: the model, from float32 ``[N, height, width, 3]`` in its scale to ``[N, features]``.
      spec: of the model.
    """

    def __init__(self, function: Callable[[tf.Tensor], tf.Tensor], spec: ExtractorSpec):
        scale = SCALES[spec.scale]

        @tf.function(input_signature=[tf.TensorSpec((None, spec.height, spec.width, 3), tf.uint8)])
        def extract(pixels: tf.Tensor) -> tuple[tf.Tensor]:
            return (tf.cast(function(scale.of_pixels(pixels)), tf.float32),)

        self._extract = extract
        self._batch = spec.batch

    def __call__(self, pixels: Sequence[np.ndarray]) -> np.ndarray:
        """Return the features of each image of a batch, float32 ``[N, outputs]``.

        Args:
          pixels: N times uint8 ``[height, width, 3]``.

        Raises:
          PredictionError: the model fails, or does not return one row of finite numbers for each
            image.
        """
        set_precision("float32")
        return _call(self._extract, pixels, self._batch)[0]


class ExampleClassifier:
    """A loaded classifier of tf.Examples: serialized ones in, best classes out, through tfx-bsl.

    Args:
      path: the model's folder.
      spec: of the model.
      top_k: how many of the best classes to return.
    """

    def __init__(self, path: Path, spec: ModelSpec, top_k: int):
        from tfx_bsl.public.beam.run_inference import CreateModelHandler
        from tfx_bsl.public.proto import model_spec_pb2

        saved_model = model_spec_pb2.SavedModelSpec(
            model_path=str(path), signature_name=[spec.signature or ""]
        )
        # It is created where it is used, because it reads the model's files at once.
        self._handler = CreateModelHandler(
            model_spec_pb2.InferenceSpecType(saved_model_spec=saved_model)
        )
        self._model = self._handler.load_model()
        self._spec = spec
        self._k = min(top_k, len(spec.labels))

    def __call__(self, examples: Sequence[bytes]) -> list[TopK]:
        """Return the best classes of each image of a batch.

        Args:
          examples: N serialized tf.Examples.

        Raises:
          PredictionError: the model fails, or does not return one row of finite numbers for each
            image.
        """
        given = len(examples)
        size = self._spec.batch or given
        filled = [*examples, *itertools.repeat(examples[0], -given % size)]
        try:
            logs = [
                log
                for at in range(0, len(filled), size)
                for log in self._handler.run_inference(filled[at : at + size], self._model)
            ][: given or None]
        except (tf.errors.OpError, ValueError) as error:
            raise _prediction_error(error, len(examples)) from error
        # Of a ``PredictionLog`` nothing else is kept: it repeats the input.
        output = self._spec.output
        rows = [tf.make_ndarray(log.predict_log.response.outputs[output])[0] for log in logs]
        return _best(_checked(rows, len(examples)), self._spec, self._k)


class FileClassifier:
    """A loaded classifier of image files, which it decodes itself: files in, best classes out.

    Args:
      loaded: the SavedModel.
      spec: of the model.
      top_k: how many of the best classes to return.
    """

    def __init__(self, loaded: Any, spec: ModelSpec, top_k: int):
        self._loaded = loaded
        self._spec = spec
        self._k = min(top_k, len(spec.labels))

    def __call__(self, files: Sequence[bytes]) -> list[TopK]:
        """Return the best classes of each image of a batch.

        Args:
          files: the content of N files.

        Raises:
          PredictionError: the model fails, or does not return one row of finite numbers for each
            image; ``OutOfMemoryError`` if fewer at a time may succeed.
        """
        set_precision("float32")
        (rows,) = _call(self._classify, np.array(files, object), self._spec.batch)
        return _best(rows, self._spec, self._k)

    def _classify(self, files: np.ndarray) -> tuple[tf.Tensor]:
        outputs = outputs_of(self._loaded, self._spec.signature, tf.constant(files, tf.string))
        return (outputs[self._spec.output],)


def _best(rows: np.ndarray, spec: ModelSpec, k: int) -> list[TopK]:
    """The best k classes of each image, of what a model has returned, float ``[N, …, outputs]``."""
    scores = rows.reshape(len(rows), -1).astype(np.float32)
    if spec.outputs == 1:
        if spec.returns == "logits":
            scores = np.float32(1) / (np.float32(1) + np.exp(-scores))
        scores = np.concatenate([1 - scores, scores], axis=1)
    elif spec.returns == "logits":
        scores = np.exp(scores - scores.max(axis=1, keepdims=True))
        scores /= scores.sum(axis=1, keepdims=True)
    best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return [
        TopK(tuple(ids), tuple(row))
        for ids, row in zip(
            best.tolist(), np.take_along_axis(scores, best, 1).tolist(), strict=True
        )
    ]


def _call(
    function: Callable[[np.ndarray], Any],
    images: Sequence[np.ndarray] | np.ndarray,
    batch: int | None,
) -> list[np.ndarray]:
    """Call a function on some images; check its first output.

    Args:
      function: from an array of N images to tensors.
      images: N times uint8 ``[height, width, 3]``, or files, object ``[N]``.
      batch: the only N that the function takes, so that images are added and their outputs dropped;
        None for any.
    """
    given = len(images)
    size = batch or given
    parts = []
    try:
        for at in range(0, given, size):
            part = np.asarray(images[at : at + size])
            if len(part) < size:
                part = np.concatenate([part, np.repeat(part[:1], size - len(part), axis=0)])
            parts.append([tensor.numpy() for tensor in function(part)])
    except (tf.errors.OpError, UnicodeDecodeError) as error:  # of a message that quotes bytes
        raise _prediction_error(error, given) from error
    outputs = [np.concatenate(some) for some in zip(*parts, strict=True)] if batch else parts[0]
    outputs = [output[:given] for output in outputs] if batch else outputs
    return [_checked(outputs[0], given), *outputs[1:]]


def _checked(answers: Sequence[np.ndarray] | np.ndarray, images: int) -> np.ndarray:
    """Check that a model's answers to a batch are one row of finite numbers per image.

    Raises:
      PredictionError: they are not.
    """
    if len(answers) != images:
        raise PredictionError(
            f"the model returned {len(answers)} results for a batch of {images} images"
        )
    rows = np.asarray(answers)
    if not np.isfinite(rows).all():
        raise PredictionError("the model returned numbers that are not finite")
    return rows


def _prediction_error(error: tf.errors.OpError | ValueError, images: int) -> PredictionError:
    out_of_memory = isinstance(error, tf.errors.ResourceExhaustedError)
    kind = OutOfMemoryError if out_of_memory else PredictionError
    return kind(f"the model fails on a batch of {images} images: {what_failed(error)}")
