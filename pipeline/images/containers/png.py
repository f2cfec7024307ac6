"""Reduces PNG files, including animated ones."""

from __future__ import annotations

import struct
import zlib

from pipeline.errors import ImageError
from pipeline.images.containers.common import Essentials, check_size, exif_orientation
from pipeline.records import Reason

# No honest file has nearly as many.
_MAX_PNG_CHUNKS = 1_000_000

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"

_KEPT_CHUNKS = (b"IHDR", b"PLTE", b"tRNS")

# Color type → the bits of a sample that it may have.
_BITS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}


def reduce_png(data: bytes, max_pixels: int) -> Essentials:
    """Remove metadata, whose text and profiles may be bombs, and animation from a PNG."""
    kept: list[bytes | memoryview] = [PNG_SIGNATURE]
    pixels: list[memoryview] = []
    exif = b""
    is_everyday = False
    bits = color = 0
    at = len(PNG_SIGNATURE)
    for _ in range(_MAX_PNG_CHUNKS):
        if at + 8 > len(data):
            break
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if kind == b"IHDR":
            width, height, bits, color = struct.unpack_from(">IIBB", data, at + 8)
            check_size(width, height, max_pixels)
            if bits not in _BITS.get(color, ()):
                raise ImageError(
                    Reason.CORRUPT, f"no PNG has {bits} bits a sample and color type {color}"
                )
            is_everyday = len(kept) == 1
        if kind == b"IDAT":
            pixels.append(memoryview(data)[at + 8 : end - 4])
        elif kind == b"tRNS" and color in (0, 2):
            kept.append(_transparent_color(data[at:end], bits, color))
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
    is_everyday = is_everyday and bool(pixels)
    return Essentials(b"".join(kept), exif_orientation(exif), is_everyday=is_everyday)


def _transparent_color(chunk: bytes, bits: int, color: int) -> bytes:
    """Rewrite the chunk that names the transparent color; fewer than 8 bits become 8.

    Pillow compares it with samples that have been made 8-bit ones.

    Raises:
      ImageError: it is RGB of 16 bits, and cannot be told from its neighbors in 8.
    """
    if bits == 16 and color == 2:
        raise ImageError(
            Reason.UNSUPPORTED_FORMAT, "a PNG of 16-bit RGB with a transparent color is not read"
        )
    if bits >= 8 or len(chunk) < 14:
        return chunk
    (value,) = struct.unpack_from(">H", chunk, 8)
    most = (1 << bits) - 1
    content = b"tRNS" + struct.pack(">H", (value & most) * 255 // most)
    return struct.pack(">I", 2) + content + struct.pack(">I", zlib.crc32(content))


def ends_early(data: bytes) -> bool:
    """Tell whether the chunk that every PNG ends with is missing."""
    return b"IEND" not in data[-64:]
