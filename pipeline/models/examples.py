"""Models that take files in place of pixels, as they are or in tf.Examples.

TFX's models take tf.Examples, as the exports of this package do if they are asked to; many others
take the files themselves.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from pipeline.errors import ImageError
from pipeline.models.signatures import outputs_of
from pipeline.models.spec import Takes
from pipeline.models.tensorflow_import import MODEL_ERRORS, tf, what_failed
from pipeline.records import Reason

# Where TFX and TensorFlow's own models expect the image's file.
ENCODED = "image/encoded"

# Some models decode nothing but JPEG.
_PROBED_FORMATS = ("PNG", "JPEG")

_NO_IMAGE = b"This is not an image."


class Answered(NamedTuple):
    """What a signature has answered.

    ``takes``: what it was given. ``outputs``: its answer to a batch of that, by name.
    """

    takes: Takes
    outputs: dict[str | None, np.ndarray]


def to_example(data: bytes) -> bytes:
    """Serialize a tf.Example with an image file in it."""
    feature = {ENCODED: tf.train.Feature(bytes_list=tf.train.BytesList(value=[data]))}
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()


def to_file(pixels: np.ndarray, image_format: str = "PNG") -> bytes:
    """Encode pixels, uint8 ``[height, width, 3]``; as a PNG, they are decoded to the same.

    Of the formats that keep pixels, all of TensorFlow's decoders but one read PNG. It is not
    compressed, which would take time and is undone at once.
    """
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, image_format, compress_level=0)
    return file.getvalue()


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


def call_with_images(loaded: Any, signature: str | None, pixels: np.ndarray) -> Answered:
    """Find out what a signature of strings takes, by calling it with some images.

    Args:
      loaded: a SavedModel.
      signature: the name of a signature that takes strings ``[N]``.
      pixels: uint8 ``[N, height, width, 3]``, of as many images as it takes at a time.

    Returns:
      The answer to tf.Examples if there is one, else that to files.

    Raises:
      ValueError: it takes neither: it fails on both, or its answer does not depend on the image.
    """
    if not isinstance(_answer(loaded, signature, [_NO_IMAGE] * len(pixels)), str):
        raise ValueError("takes strings, but answers one that is no image as well")
    forms: dict[Takes, Callable[[bytes], bytes]] = {
        Takes.EXAMPLES: to_example,
        Takes.FILES: lambda data: data,
    }
    failures = []
    for takes, form in forms.items():
        for image_format in _PROBED_FORMATS:
            answer, other = (
                _answer(loaded, signature, [form(to_file(image, image_format)) for image in images])
                for images in (pixels, pixels // 4)
            )
            if isinstance(answer, str) or isinstance(other, str):
                failures.append(answer if isinstance(answer, str) else other)
            elif any((answer[name] != other[name]).any() for name in answer):
                return Answered(takes, answer)
            else:
                failures.append("all images get the same answer")
    raise ValueError(
        f"takes strings, but neither {Takes.EXAMPLES.value} with {ENCODED} ({failures[0]}) nor "
        f"{Takes.FILES.value} ({failures[len(_PROBED_FORMATS)]})"
    )


def _answer(loaded: Any, signature: str | None, given: list[bytes]) -> Any:
    """The outputs by name, for a batch of strings; why there are none, if it fails."""
    try:
        outputs = outputs_of(loaded, signature, tf.constant(given))
        return {name: values.numpy() for name, values in outputs.items()}
    except UnicodeDecodeError:  # TensorFlow's message quotes the bytes
        return "it fails"
    except MODEL_ERRORS as error:
        return what_failed(error)
