"""Models that take serialized tf.Examples (TFX's, and our own exports) run through tfx-bsl."""

from __future__ import annotations

import io
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from pipeline.errors import ImageError, OutOfMemoryError, PredictionError
from pipeline.models.tensorflow_import import tf, what_failed
from pipeline.records import Reason, TopK

if TYPE_CHECKING:
    from pathlib import Path

    from pipeline.models.model import ModelSpec

# Where TFX and TensorFlow's own models expect the image's file.
ENCODED = "image/encoded"

# The usual name first.
_SIGNATURES = ("serving_default", "serving_examples")


def to_example(data: bytes) -> bytes:
    """A serialized tf.Example with an image file in it."""
    feature = {ENCODED: tf.train.Feature(bytes_list=tf.train.BytesList(value=[data]))}
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()


def from_pixels(pixels: np.ndarray) -> bytes:
    """A tf.Example whose image is decoded to exactly these pixels, uint8 ``[height, width, 3]``."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "BMP")  # not compressed, so it costs next to nothing
    return to_example(file.getvalue())


def check_decodable(data: bytes) -> None:
    """See that TensorFlow can decode a file; one that it cannot would fail its whole batch.

    Raises:
      ImageError: it cannot.
    """
    try:
        tf.io.decode_image(data, channels=3, expand_animations=False)
    except tf.errors.OpError as error:
        raise ImageError(
            Reason.UNSUPPORTED_FORMAT,
            f"the model decodes images by itself, and TensorFlow cannot: {what_failed(error)}",
        ) from error


def example_signature(loaded: Any, wanted: str | None) -> str | None:
    """The signature with one input, strings, if there is one."""
    usable = [
        name
        for name, function in loaded.signatures.items()
        if wanted in (None, name) and _takes_strings(function.structured_input_signature[1])
    ]
    for name in _SIGNATURES:
        if name in usable:
            return name
    return usable[0] if len(usable) == 1 else None


def _takes_strings(inputs: dict[str, Any]) -> bool:
    specs = list(inputs.values())
    return len(specs) == 1 and specs[0].dtype == tf.string and specs[0].shape.rank == 1


def probe_examples(signature: Any, pixels: np.ndarray) -> tuple[str, np.ndarray]:
    """The output of a signature to use, and its values for some images.

    Args:
      signature: takes serialized tf.Examples.
      pixels: uint8 ``[N, height, width, 3]``.

    Raises:
      ValueError: there is no output, or more than one, with a row of numbers for each image; or one
        that tfx-bsl cannot pass on.
      tensorflow.errors.OpError: it fails.
    """
    (name,) = signature.structured_input_signature[1]
    outputs = signature(**{name: tf.constant([from_pixels(image) for image in pixels])})
    for name, values in outputs.items():
        if values.dtype == tf.string and values.shape.rank == 1:
            raise ValueError(
                f"tfx-bsl cannot pass on the output {name!r}, strings [N]; export it as [N, 1]"
            )
    usable = {
        name: values.numpy()
        for name, values in outputs.items()
        if values.dtype.is_floating and values.shape.rank == 2 and values.shape[0] == len(pixels)
    }
    if len(usable) != 1:
        described = {name: f"{v.dtype.name} {v.shape}" for name, v in outputs.items()}
        raise ValueError(
            f"one output with a row of numbers for each image is needed, but it returns {described}"
        )
    return next(iter(usable.items()))


# tfx-bsl loads models in TensorFlow 1's way, of which TensorFlow warns its callers at each load.
logging.getLogger("tensorflow").addFilter(
    lambda record: "is deprecated and will be removed" not in str(record.msg)
)


def prediction_error(error: tf.errors.OpError | ValueError, images: int) -> PredictionError:
    """What a model's failure on a batch of so many images is called."""
    out_of_memory = isinstance(error, tf.errors.ResourceExhaustedError)
    kind = OutOfMemoryError if out_of_memory else PredictionError
    return kind(f"the model fails on a batch of {images} images: {what_failed(error)}")


class ExampleClassifier:
    """A loaded classifier of serialized tf.Examples, called through tfx-bsl's handler.

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
        """The best classes of each image of a batch; of a ``PredictionLog`` nothing else is kept.

        Raises:
          PredictionError: the model fails, or does not return one row of finite numbers for each
            image.
        """
        try:
            logs = list(self._handler.run_inference(list(examples), self._model))
        except (tf.errors.OpError, ValueError) as error:
            raise prediction_error(error, len(examples)) from error
        if len(logs) != len(examples):
            raise PredictionError(
                f"the model returned {len(logs)} results for a batch of {len(examples)} images"
            )
        output = self._spec.example_output
        rows = [tf.make_ndarray(log.predict_log.response.outputs[output])[0] for log in logs]
        scores = np.stack(rows).astype(np.float32)
        if not np.isfinite(scores).all():
            raise PredictionError("the model returned numbers that are not finite")
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
