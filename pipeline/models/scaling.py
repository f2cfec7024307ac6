"""The scales: in which range and order a model takes the values of a pixel.

``unit`` is the convention of TensorFlow Hub, ``symmetric`` that of Keras' MobileNet, Inception and
Xception, ``byte`` is for models that rescale their input themselves, ``caffe`` and ``torch`` are
modes of ``keras.applications.imagenet_utils.preprocess_input``; ``bgr`` is what OpenCV reads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import tensorflow as tf

# Images of the input on which a model is tried whose scale is unknown.
TRIED_IMAGES = 16


@dataclass(frozen=True)
class Scale:
    """A linear map from the bytes of a pixel to what a model takes.

    ``(byte / divisor - mean) / deviation`` for each channel.

    Attributes:
      divisor: of all channels.
      mean: of each channel, in RGB.
      deviation: likewise.
      is_bgr: whether blue comes first.
      words: the range and order, for people.
    """

    divisor: float
    mean: tuple[float, float, float]
    deviation: tuple[float, float, float]
    is_bgr: bool
    words: str

    def values(self, pixels: np.ndarray) -> np.ndarray:
        """Uint8 RGB ``[…, 3]`` → what the model takes, float32 of the same shape."""
        import numpy as np  # --help needs the names of the scales only

        values = pixels / np.float32(self.divisor) - np.array(self.mean, np.float32)
        values /= np.array(self.deviation, np.float32)
        return values[..., ::-1] if self.is_bgr else values

    def of_pixels(self, pixels: tf.Tensor) -> tf.Tensor:
        """Uint8 ``[N, height, width, 3]`` → what the model takes, float32."""
        return self._of_bytes(_cast(pixels))

    def of_unit(self, images: tf.Tensor) -> tf.Tensor:
        """Float32 ``[N, height, width, 3]`` in [0, 1] → what the model takes, float32."""
        if self == SCALES["unit"]:
            return images
        return self._of_bytes(images * 255.0)

    def _of_bytes(self, values: tf.Tensor) -> tf.Tensor:
        if self.divisor != 1.0:
            values = values / self.divisor
        if any(self.mean):
            values = values - self.mean
        if self.deviation != _ONES:
            values = values / self.deviation
        return values[..., ::-1] if self.is_bgr else values


def _cast(pixels: tf.Tensor) -> tf.Tensor:
    from pipeline.models.tensorflow_import import tf  # TensorFlow takes seconds to import

    return tf.cast(pixels, tf.float32)


_ZEROS, _ONES = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)

# Means and deviations of ImageNet's training images.
SCALES = {
    "unit": Scale(255.0, _ZEROS, _ONES, False, "0 to 1, RGB"),
    "symmetric": Scale(127.5, _ONES, _ONES, False, "-1 to 1, RGB"),
    "byte": Scale(1.0, _ZEROS, _ONES, False, "0 to 255, RGB"),
    "caffe": Scale(
        1.0, (123.68, 116.779, 103.939), _ONES, True, "0 to 255 less ImageNet's mean, BGR"
    ),
    "torch": Scale(
        255.0,
        (0.485, 0.456, 0.406),
        (0.229, 0.224, 0.225),
        False,
        "0 to 1, less ImageNet's mean, divided by its deviation, RGB",
    ),
    "centered": Scale(255.0, (0.5, 0.5, 0.5), _ONES, False, "-0.5 to 0.5, RGB"),
    "bgr": Scale(1.0, _ZEROS, _ONES, True, "0 to 255, BGR"),
}
