"""What an image file holds around its pixels, looked through before a decoder sees it.

A hostile or damaged file of a few kilobytes can keep Pillow busy for minutes, or make it ask for
hundreds of gigabytes: with metadata that is copied again for each of its parts, with directories
whose entries all claim the whole file, with thousands of scans. All of that is outside the pixels.
So Pillow is given JPEG, PNG, GIF and TIFF files that are reduced to what the pixels of the first
frame need, and what would still take too long is refused here. No Beam, no TensorFlow.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from pipeline.errors import ImageError
from pipeline.images.containers.common import Essentials
from pipeline.images.containers.jpeg import reduce_jpeg
from pipeline.images.containers.others import reduce_avif, reduce_bmp, reduce_gif, reduce_webp
from pipeline.images.containers.png import PNG_SIGNATURE, reduce_png
from pipeline.images.containers.tiff import reduce_tiff
from pipeline.records import Reason

_FORMATS: tuple[tuple[bytes | tuple[bytes, ...], int, Callable[[bytes, int], Essentials]], ...] = (
    (b"\xff\xd8\xff", 0, reduce_jpeg),
    (PNG_SIGNATURE, 0, reduce_png),
    ((b"GIF87a", b"GIF89a"), 0, reduce_gif),
    ((b"II*\0", b"MM\0*", b"II\0*", b"MM*\0", b"II+\0", b"MM\0+"), 0, reduce_tiff),
    (b"WEBP", 8, reduce_webp),
    ((b"BM", *(bytes([size, 0, 0, 0]) for size in (40, 52, 56, 64, 108, 124))), 0, reduce_bmp),
    (b"ftyp", 4, reduce_avif),
)


def essentials(data: bytes, max_pixels: int) -> Essentials:
    """What of an image file decides its first frame's pixels.

    Bytes that are no image, or of a format that needs no care, are returned as they are.

    Args:
      data: the whole file.
      max_pixels: the most that are decoded.

    Raises:
      ImageError: decoding the file would take too much time or memory, or it ends too early.
    """
    for signature, offset, reduce in _FORMATS:
        if data.startswith(signature, offset):
            try:
                return reduce(data, max_pixels)
            except struct.error:
                raise ImageError(Reason.TRUNCATED, "the file ends within its header") from None
    return Essentials(data, None)
