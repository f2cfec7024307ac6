"""Checks JPEG XL files: codestreams, and files around them. ISO/IEC 18181."""

from __future__ import annotations

import numpy as np
from PIL import Image

from pipeline.errors import ImageError
from pipeline.images.codecs import Opened, image_of, library
from pipeline.images.containers.boxes import boxes
from pipeline.images.containers.common import Essentials, check_size
from pipeline.records import Reason

JXL_SIGNATURE = b"\0\0\0\x0cJXL "
CODESTREAM_SIGNATURE = b"\xff\x0a"

# Width for a height, where the file only says which: by 12/10, 4/3 and so on.
_RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))
_SIDE_BITS = (9, 13, 18, 30)


def reduce_jpeg_xl(data: bytes, max_pixels: int) -> Essentials:
    """Check that a JPEG XL is small enough; its decoder turns it upright."""
    check_size(*jpeg_xl_size(data), max_pixels)
    return Essentials(data, 1)


def jpeg_xl_size(data: bytes) -> tuple[int, int]:
    """Read width and height in pixels, as displayed: the decoder turns the image upright.

    Raises:
      ImageError: there is no codestream, or it ends too early.
    """
    start = 0
    if data.startswith(JXL_SIGNATURE):
        start = len(data)
        for box in boxes(data):
            if box.kind in (b"jxlc", b"jxlp"):
                start = box.start + 4 * (box.kind == b"jxlp")
                break
    if len(data) < start + 4:
        raise ImageError(Reason.TRUNCATED, "the file ends before the image begins")
    if not data.startswith(CODESTREAM_SIGNATURE, start):
        raise ImageError(Reason.CORRUPT, "there is no codestream where it should be")
    return _size(data[start + 2 : start + 12])


def _size(header: bytes) -> tuple[int, int]:
    """Read width, height and orientation, with which a codestream's header begins."""
    bits = int.from_bytes(header, "little")

    def take(count: int) -> int:
        nonlocal bits
        value = bits & ((1 << count) - 1)
        bits >>= count
        return value

    small = take(1)

    def side() -> int:
        return 8 * (take(5) + 1) if small else take(_SIDE_BITS[take(2)]) + 1

    height = side()
    ratio = take(3)
    if ratio:
        across, down = _RATIOS[ratio - 1]
        width = height * across // down
    else:
        width = side()
    all_default = take(1)
    orientation = 1 + take(3) if not all_default and take(1) else 1
    return (height, width) if orientation > 4 else (width, height)


def open_jpeg_xl(data: bytes) -> Opened:
    """Open the first frame of a JPEG XL; its decoder turns it upright."""
    imagecodecs = library("imagecodecs", "JPEG XL")
    width, height = jpeg_xl_size(data)

    def load(_: int) -> Image.Image:
        try:
            samples = imagecodecs.jpegxl_decode(data, index=0, numthreads=1)
        except RuntimeError as error:
            cut = "NEED_MORE_INPUT" in str(error)
            raise ImageError(Reason.TRUNCATED if cut else Reason.CORRUPT, str(error)) from error
        return image_of(samples, 255 if samples.dtype == np.uint8 else 65535, "RGBA")

    return Opened(width, height, load, lambda _: width * height)
