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
      function: the model, from float32 ``[N, height, width, 3]`` in [0, 1] to ``[N, classes]``.
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
            scores, class_ids = (values[:given] for values in _call(self._classify, pixels))
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
      function: the model, from float32 ``[N, height, width, 3]`` in [0, 1] to ``[N, features]``.
      spec: of the model.
    """

    def __init__(self, function: Callable[[tf.Tensor], tf.Tensor], spec: ExtractorSpec):
        @tf.function(input_signature=[tf.TensorSpec((None, spec.height, spec.width, 3), tf.uint8)])
        def extract(pixels: tf.Tensor) -> tuple[tf.Tensor]:
            return (tf.cast(function(tf.cast(pixels, tf.float32) / 255.0), tf.float32),)

        self._extract = extract

    def __call__(self, pixels: Sequence[np.ndarray]) -> np.ndarray:
        """Return the features of each image of a batch, float32 ``[N, outputs]``.

        Args:
          pixels: N times uint8 ``[height, width, 3]``.

        Raises:
          PredictionError: the model fails, or does not return one row of finite numbers for each
            image.
        """
        set_precision("float32")
        return _call(self._extract, pixels)[0]


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
        try:
            logs = list(self._handler.run_inference(list(examples), self._model))
        except (tf.errors.OpError, ValueError) as error:
            raise _prediction_error(error, len(examples)) from error
        # Of a ``PredictionLog`` nothing else is kept: it repeats the input.
        output = self._spec.example_output
        rows = [tf.make_ndarray(log.predict_log.response.outputs[output])[0] for log in logs]
        scores = _checked(rows, len(examples)).astype(np.float32)
        if self._spec.returns_logits:
            scores = np.exp(scores - scores.max(axis=1, keepdims=True))
            scores /= scores.sum(axis=1, keepdims=True)
        best = np.argsort(-scores, axis=1, kind="stable")[:, : self._k]
        return [
            TopK(tuple(ids), tuple(row))
            for ids, row in zip(
                best.tolist(), np.take_along_axis(scores, best, 1).tolist(), strict=True
            )
        ]


def _call(function: Callable[[np.ndarray], Any], pixels: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The outputs of a function for a batch, the first of them checked."""
    try:
        outputs = [tensor.numpy() for tensor in function(np.asarray(pixels))]
    except tf.errors.OpError as error:
        raise _prediction_error(error, len(pixels)) from error
    return [_checked(outputs[0], len(pixels)), *outputs[1:]]


def _checked(answers: Sequence[np.ndarray] | np.ndarray, images: int) -> np.ndarray:
    """A model's answers to a batch, if they are one row of finite numbers for each image.

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
