"""tf.Examples: what models of TFX, and this package's own exports, take in place of pixels."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image

from pipeline.errors import ImageError
from pipeline.models.tensorflow_import import tf, what_failed
from pipeline.records import Reason

# Where TFX and TensorFlow's own models expect the image's file.
ENCODED = "image/encoded"


def to_example(data: bytes) -> bytes:
    """Serialize a tf.Example with an image file in it."""
    feature = {ENCODED: tf.train.Feature(bytes_list=tf.train.BytesList(value=[data]))}
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()


def from_pixels(pixels: np.ndarray) -> bytes:
    """Serialize a tf.Example whose image decodes to these pixels, uint8 ``[height, width, 3]``."""
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


def probe_examples(signature: Any, pixels: np.ndarray) -> tuple[str, np.ndarray]:
    """Call a signature with some images, and choose the output to use.

    Args:
      signature: takes serialized tf.Examples.
      pixels: uint8 ``[N, height, width, 3]``.

    Returns:
      The output's name, and its values, float ``[N, classes]``.

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
