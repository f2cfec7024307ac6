"""PNG files, animated ones among them."""

from __future__ import annotations

import struct

from pipeline.errors import ImageError
from pipeline.images.containers.common import Essentials, check_size, exif_orientation
from pipeline.records import Reason

# No honest file has nearly as many.
_MAX_PNG_CHUNKS = 1_000_000

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"

_KEPT_CHUNKS = (b"IHDR", b"PLTE", b"tRNS")


def reduce_png(data: bytes, max_pixels: int) -> Essentials:
    """A PNG without metadata, whose text and profiles may be bombs, and without animation."""
    kept: list[bytes | memoryview] = [PNG_SIGNATURE]
    pixels: list[memoryview] = []
    exif = b""
    at = len(PNG_SIGNATURE)
    for _ in range(_MAX_PNG_CHUNKS):
        if at + 8 > len(data):
            break
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if kind == b"IHDR" and length >= 8:
            width, height = struct.unpack_from(">II", data, at + 8)
            check_size(width, height, max_pixels)
        if kind == b"IDAT":
            pixels.append(memoryview(data)[at + 8 : end - 4])
        elif kind in _KEPT_CHUNKS:
            kept.append(data[at:end])
        elif kind == b"eXIf":
            exif = data[at + 8 : end - 4]
        elif kind == b"IEND" or not kind.isalpha():
            break
        at = end
    else:
        raise ImageError(Reason.CORRUPT, f"it has more than {_MAX_PNG_CHUNKS:,} chunks")
    if pixels:
        # The checksum is left out, as Pillow does not look at it; what is compressed has its own.
        kept.append(struct.pack(">I4s", sum(map(len, pixels)), b"IDAT"))
        kept += [*pixels, bytes(4), b"\0\0\0\0IEND\xae\x42\x60\x82"]
    return Essentials(b"".join(kept), exif_orientation(exif))
