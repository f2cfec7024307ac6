"""Decodes an image file into uint8 pixels at the model's size. No Beam, no TensorFlow.

Training and labeling share this decode, so a model sees in production what it was trained on;
``pixels`` says what it does. A file whose header shows it to be an everyday one is decoded here,
any other in another process, which may crash, hang or use up its memory; that costs one image.
"""

from __future__ import annotations

from pipeline.errors import ImageError
from pipeline.images import registry
from pipeline.images.pixels import Decoded, Target, decode_reduced, reduce
from pipeline.images.sandbox import Sandbox
from pipeline.limits import DEFAULT_LIMITS
from pipeline.records import Reason

# One for all threads of this process.
_sandbox = Sandbox()


def decode(
    data: bytes,
    height: int,
    width: int,
    resample: str = "bicubic",
    *,
    max_pixels: int = DEFAULT_LIMITS.max_image_pixels,
) -> Decoded:
    """Decode an image file and resize it to ``height`` × ``width``.

    Args:
      data: the whole file, of a format in ``registry``; the first frame counts.
      height: of the result, in pixels.
      width: of the result, in pixels.
      resample: a key of ``resizing.RESAMPLING``.
      max_pixels: the most that the original may have.

    Raises:
      ImageError: the bytes are not an image that can be decoded whole.
    """
    if not data:
        raise ImageError(Reason.EMPTY, "the file has no bytes")
    target = Target(height, width, resample, max_pixels)
    row = registry.recognize(data)
    essentials = reduce(row, data, max_pixels)
    if essentials.is_everyday:
        return decode_reduced(row, data, essentials, target)
    return _sandbox.decode(data, target)
