"""Bytes of an image file → uint8 pixels at the model's size. No Beam, no TensorFlow.

Training and labeling share this one decode, so that a model sees in production what it was
trained on:

1. The first frame is decoded, JPEGs at the smallest scale that still leaves twice the model's size.
2. Every color mode becomes 8-bit RGB. 16-bit samples are scaled; transparent pixels are
   composited on white, the page on which such images are usually seen; CMYK is converted without
   its ICC profile, whether stored inverted (as Adobe does) or not.
3. The image is resized straight to the model's size, aspect not kept, with an antialiased filter.
4. EXIF orientation is applied.
"""

from __future__ import annotations

import contextlib
import io
import struct
import threading
import warnings
import zlib
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageChops, UnidentifiedImageError

from pipeline.errors import ImageError
from pipeline.images.containers import essentials
from pipeline.images.containers.common import check_size, exif_orientation
from pipeline.images.resizing import resize
from pipeline.limits import DEFAULT_LIMITS
from pipeline.records import Reason

# Everything else that Pillow can open is refused: some of its other plugins call outside programs
# or have seen little hostile input. JPEG includes the MPO files that many cameras write.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "AVIF")

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

# What Pillow raises on damaged files: its plugins parse with struct, zlib and plain indexing, and
# let the errors of those through, and assert that palettes and the like are there.
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

# Formats that people do have but this package does not read, to name them in the failure.
_FOREIGN_SIGNATURES = (
    (4, b"ftyphei", "HEIC"),
    (4, b"ftyphev", "HEIC"),
    (4, b"ftypmif1", "HEIF"),
    (4, b"ftypmsf1", "HEIF"),
    (0, b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000"),
    (0, b"\xff\x0a", "JPEG XL"),
    (0, b"\0\0\0\x0cJXL ", "JPEG XL"),
    (0, b"8BPS", "Photoshop"),
    (0, b"\0\0\1\0", "icon"),
    (0, b"%PDF", "PDF"),
    (0, b"<svg", "SVG"),
)
_OWN_SIGNATURES = (b"\xff\xd8", b"\x89PNG", b"GIF8", b"RIFF", b"BM", b"II*\0", b"MM\0*", b"II+\0")
_AVIF_SIGNATURES = (b"ftypavif", b"ftypavis")

# Pillow loads its plugins when it meets the first file that needs them, which is no thing to do in
# several threads at once.
Image.init()

# Pillow warns of odd metadata once per file; such a file is either labeled or a named failure.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")

# Else Pillow would refuse what a larger limit allows; what it makes while it opens a file, before
# the size is checked, is kept in bounds by pipeline.containers.
Image.MAX_IMAGE_PIXELS = None

# Decoded one at a time, so that the memory of a few huge images does not add up.
_LARGE_PIXELS = 16_000_000
_one_large_image = threading.Lock()

_PART = 2**20  # samples that are scaled at a time


class Decoded(NamedTuple):
    """``pixels``: uint8 ``[height, width, 3]`` RGB at the size asked for.

    ``width`` and ``height``: of the original in pixels, as displayed.
    """

    pixels: np.ndarray
    width: int
    height: int


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
      data: the whole file: JPEG, PNG, WebP, GIF, BMP, TIFF or AVIF; the first frame counts.
      height: of the result, in pixels.
      width: of the result, in pixels.
      resample: a key of ``resizing.RESAMPLING``.
      max_pixels: the most that the original may have.

    Raises:
      ImageError: the bytes are not an image that can be decoded whole.
    """
    if not data:
        raise ImageError(Reason.EMPTY, "the file has no bytes")
    try:
        reduced, orientation, image = essentials(data, max_pixels)
        with image or Image.open(io.BytesIO(reduced), formats=FORMATS) as image:
            if orientation is None:
                orientation = exif_orientation(image.info.get("exif", b""))
            check_size(image.width, image.height, max_pixels)
            return _decode(image, height, width, resample, orientation)
    except UnidentifiedImageError:
        raise _unidentified(data) from None
    except MemoryError as error:
        raise ImageError(Reason.TOO_MANY_PIXELS, str(error)) from error
    except _DAMAGE as error:
        message = str(error) or type(error).__name__
        cut = "truncated" in message or _ends_early(data)
        raise ImageError(Reason.TRUNCATED if cut else Reason.CORRUPT, message) from error


def _decode(
    image: Image.Image, height: int, width: int, resample: str, orientation: int
) -> Decoded:
    original_width, original_height = image.size
    image.draft(None, (2 * max(height, width),) * 2)
    large = image.width * image.height > _LARGE_PIXELS
    if "progressive" in image.info:  # all of its coefficients are kept, however small it is decoded
        large = original_width * original_height > _LARGE_PIXELS
    with _one_large_image if large else contextlib.nullcontext():
        pixels = _load(image, height, width, resample, orientation)
    if orientation in _SIDEWAYS:
        original_width, original_height = original_height, original_width
    return Decoded(pixels, original_width, original_height)


def _load(
    image: Image.Image, height: int, width: int, resample: str, orientation: int
) -> np.ndarray:
    image.load()
    eight_bit = _to_eight_bit(image)
    across, down = (height, width) if orientation in _SIDEWAYS else (width, height)
    resized = resize(eight_bit, across, down, resample)
    if resized.mode == "CMYK" and image.format == "JPEG" and "adobe" not in image.info:
        # Pillow takes every CMYK JPEG for an inverted one; only those with Adobe's marker are.
        resized = ImageChops.invert(resized)
    if resized.mode == "RGBA":
        background = Image.new("RGBA", resized.size, _BACKGROUND)
        resized = Image.alpha_composite(background, resized)
    rgb = resized.convert("RGB")
    if orientation in _TRANSPOSE:
        rgb = rgb.transpose(_TRANSPOSE[orientation])
    return np.asarray(rgb)


def _to_eight_bit(image: Image.Image) -> Image.Image:
    """The image in a mode that resizes well: L, RGB, RGBA or CMYK."""
    if image.mode == "RGBA":  # also where Pillow would make a copy
        return image
    if image.mode in ("L", "RGB", "CMYK") and "transparency" not in image.info:
        return image
    if image.mode.startswith("I") or image.mode == "F":
        return Image.fromarray(_scale_to_eight_bit(np.asarray(image), image.mode))
    if image.mode == "1":
        return image.convert("L")
    if image.has_transparency_data:
        return image.convert("RGBA")
    return image.convert("RGB")


def _scale_to_eight_bit(samples: np.ndarray, mode: str) -> np.ndarray:
    """Gray samples ``[height, width]`` of 16 or 32 bits, or floats → uint8 of the same shape.

    16-bit samples use their full range. Wider ones have no agreed range: integers up to 65535 are
    taken for 16-bit, floats in [0, 1] for intensities; anything else is stretched from its least to
    its greatest value.
    """
    low, high = float(samples.min()), float(samples.max())  # NaN if there is one
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ImageError(Reason.CORRUPT, "a sample is not a finite number")
    if mode.startswith("I;16") or (mode == "I" and low >= 0 and high <= 65535):
        low, high = 0.0, 65535.0
    elif mode == "F" and low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    flat = samples.reshape(-1)
    scaled = np.empty(len(flat), np.uint8)
    # In parts, as the steps in between take far more memory; in double precision, in which the
    # difference of any two floats is finite.
    for start in range(0, len(flat), _PART):
        part = flat[start : start + _PART].astype(np.float64)
        scaled[start : start + _PART] = ((part - low) / ((high - low) or 1.0) * 255.0).round()
    return scaled.reshape(samples.shape)


def _unidentified(data: bytes) -> ImageError:
    """The error for bytes that no decoder takes for its own."""
    for offset, signature, name in _FOREIGN_SIGNATURES:
        if data.startswith(signature, offset):
            return ImageError(
                Reason.UNSUPPORTED_FORMAT, f"{name} files are not read; convert it to JPEG or PNG"
            )
    if data.startswith(_OWN_SIGNATURES) or data.startswith(_AVIF_SIGNATURES, 4):
        if _ends_early(data):
            return ImageError(Reason.TRUNCATED, "the file ends before the image begins")
        return ImageError(Reason.CORRUPT, "the file's header is damaged")
    return ImageError(Reason.NOT_AN_IMAGE, f"the file begins with {data[:16]!r}")


def _ends_early(data: bytes) -> bool:
    """Whether an image file lacks its end, as its format marks it."""
    if data.startswith(b"\xff\xd8"):
        return b"\xff\xd9" not in data
    if data.startswith(b"\x89PNG"):
        return b"IEND" not in data[-64:]
    if data.startswith(b"RIFF"):
        return len(data) < 12 or len(data) < struct.unpack_from("<I", data, 4)[0] + 8
    if data.startswith(b"BM"):
        return len(data) < 54 or len(data) < struct.unpack_from("<I", data, 2)[0]
    if data.startswith(_AVIF_SIGNATURES, 4):  # boxes, each with its size in front
        at, size = 0, 8
        while size >= 8 and at <= len(data) - 4:
            (size,) = struct.unpack_from(">I", data, at)
            at += size
        return at > len(data)
    return False
