"""Decodes an image file into uint8 pixels in this process. No Beam, no TensorFlow.

1. The first frame is decoded, JPEGs at the smallest scale that still leaves twice the model's size.
2. Every color mode becomes 8-bit RGB. 16-bit samples are scaled; transparent pixels are
   composited on white, the page on which such images are usually seen; CMYK is converted without
   its ICC profile, whether stored inverted (as Adobe does) or not.
3. The image is resized straight to the model's size, aspect not kept, with an antialiased filter.
4. EXIF orientation is applied.
"""

from __future__ import annotations

import contextlib
import struct
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import NamedTuple

import numpy as np
from PIL import Image

from pipeline.errors import ImageError
from pipeline.images import codecs, registry
from pipeline.images.containers.common import Essentials, check_size, exif_orientation
from pipeline.images.registry import ImageFormat
from pipeline.images.resizing import resize
from pipeline.records import Reason

_BACKGROUND = (255, 255, 255)

_TRANSPOSE = {  # EXIF orientation → what makes the image upright (Exif 2.32, 4.6.4 A)
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = (5, 6, 7, 8)

# What decoders raise on damaged files: Pillow's plugins parse with struct, zlib and plain indexing,
# and let the errors of those through, and assert that palettes and the like are there.
_DAMAGE = (
    OSError,
    EOFError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    RuntimeError,  # NotImplementedError among them
    AssertionError,
    struct.error,
    zlib.error,
)

# Larger images are decoded one at a time, so that their memory does not add up.
LARGE_PIXELS = 16_000_000
_one_large_image = threading.Lock()


class Decoded(NamedTuple):
    """``pixels``: uint8 ``[height, width, 3]`` RGB at the size asked for.

    ``width`` and ``height``: of the original in pixels, as displayed. ``sandbox_seconds``: CPU time
    that it took in another process.
    """

    pixels: np.ndarray
    width: int
    height: int
    sandbox_seconds: float = 0.0


class Target(NamedTuple):
    """What pixels are wanted.

    ``height`` and ``width``: of the result, in pixels. ``resample``: a key of
    ``resizing.RESAMPLING``. ``max_pixels``: the most that the original may have.
    """

    height: int
    width: int
    resample: str
    max_pixels: int


# Is entered while an image of so many pixels is in memory.
Attend = Callable[[int], AbstractContextManager[None]]


@contextlib.contextmanager
def large_ones_alone(pixels: int) -> Iterator[None]:
    """Wait for other large images of this process, if this is one."""
    with _one_large_image if pixels > LARGE_PIXELS else contextlib.nullcontext():
        yield


@contextlib.contextmanager
def _named(row: ImageFormat, data: bytes) -> Iterator[None]:
    """Turn what decoders raise on damaged files into an ``ImageError``.

    Raises:
      ImageError: instead of that.
    """
    try:
        yield
    except MemoryError as error:
        raise ImageError(Reason.TOO_MANY_PIXELS, str(error)) from error
    except _DAMAGE as error:
        message = str(error) or type(error).__name__
        cut = "truncated" in message or row.ends_early(data)
        raise ImageError(Reason.TRUNCATED if cut else Reason.CORRUPT, message) from error


def reduce(row: ImageFormat, data: bytes, max_pixels: int) -> Essentials:
    """Extract what decides the pixels of a file's first frame.

    Raises:
      ImageError: it cannot be decoded, or not in bounded time and memory.
    """
    assert row.reduce is not None
    with _named(row, data):
        try:
            return row.reduce(data, max_pixels)
        except struct.error:
            raise ImageError(Reason.TRUNCATED, "the file ends within its header") from None


def decode_reduced(
    row: ImageFormat,
    data: bytes,
    essentials: Essentials,
    target: Target,
    attend: Attend = large_ones_alone,
) -> Decoded:
    """Decode the essentials of a file, and resize the image.

    Raises:
      ImageError: it cannot be decoded whole.
    """
    with _named(row, data):
        if essentials.image is not None:
            opened = codecs.open_image(essentials.image)
        else:
            assert row.open is not None
            opened = row.open(essentials.data)
        check_size(opened.width, opened.height, target.max_pixels)
        orientation = essentials.orientation
        if orientation is None:
            orientation = exif_orientation(opened.exif)
        least = 2 * max(target.height, target.width)
        with attend(opened.kept(least)):
            pixels = _to_pixels(opened.load(least), target, orientation)
    width, height = opened.width, opened.height
    if orientation in _SIDEWAYS:
        width, height = height, width
    return Decoded(pixels, width, height)


def decode_here(data: bytes, target: Target, attend: Attend = large_ones_alone) -> Decoded:
    """Decode a file of any format in this process, whatever that may do to it.

    Raises:
      ImageError: it cannot be decoded whole.
    """
    row = registry.recognize(data)
    essentials = reduce(row, data, target.max_pixels)
    return decode_reduced(row, data, essentials, target, attend)


def _to_pixels(image: Image.Image, target: Target, orientation: int) -> np.ndarray:
    eight_bit = _to_eight_bit(image)
    across, down = target.width, target.height
    if orientation in _SIDEWAYS:
        across, down = down, across
    resized = resize(eight_bit, across, down, target.resample)
    if resized.mode == "RGBA":
        background = Image.new("RGBA", resized.size, _BACKGROUND)
        resized = Image.alpha_composite(background, resized)
    rgb = resized.convert("RGB")
    if orientation in _TRANSPOSE:
        rgb = rgb.transpose(_TRANSPOSE[orientation])
    return np.asarray(rgb)


def _to_eight_bit(image: Image.Image) -> Image.Image:
    """Convert an image to a mode that resizes well: L, RGB, RGBA or CMYK."""
    if image.mode == "RGBA":  # also where Pillow would make a copy
        return image
    if image.mode in ("L", "RGB", "CMYK") and "transparency" not in image.info:
        return image
    if image.mode.startswith("I;16"):
        samples = np.asarray(image)
        gray = Image.fromarray(_scale_to_eight_bit(samples))
        if "transparency" not in image.info:
            return gray
        gray.putalpha(Image.fromarray(samples != image.info["transparency"]).convert("L"))
        return gray.convert("RGBA")
    if image.has_transparency_data:
        return image.convert("RGBA")
    if image.mode == "1":
        return image.convert("L")
    return image.convert("RGB")


def _scale_to_eight_bit(samples: np.ndarray) -> np.ndarray:
    """Gray samples ``[height, width]`` of 16 bits → uint8 of the same shape."""
    scaled = np.empty(samples.shape, np.uint8)
    for row, into in zip(
        samples, scaled, strict=True
    ):  # by rows, as it takes four times the memory
        into[...] = (row * np.uint32(255) + 32767) // 65535
    return scaled
