"""GIF, WebP and BMP files, of which little is to be taken out."""

from __future__ import annotations

import struct

from pipeline.errors import ImageError
from pipeline.images.containers.common import Essentials, check_size
from pipeline.records import Reason

# No honest file has nearly as many.
_MAX_GIF_BLOCKS = 1_000_000

# Pillow decodes run-length encoded BMPs in Python, at 70 nanoseconds a pixel, and makes up to 255
# rows at a time.
_MAX_BMP_RLE_PIXELS = 16_000_000
_MAX_BMP_RLE_WIDTH = 65_535

# Of what a DIB begins with; the oldest one, of 12 bytes, is too short to be told from chance.
BMP_HEADER_SIZES = (40, 52, 56, 64, 108, 124)


def reduce_gif(data: bytes, max_pixels: int) -> Essentials:
    """A GIF without comments, which Pillow would append block by block, or other extensions."""
    if len(data) < 13:
        return Essentials(data, 1)
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    check_size(width, height, max_pixels)
    at = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    kept = [data[:at]]
    try:
        for _ in range(_MAX_GIF_BLOCKS):
            kind = data[at]
            if kind == 0x2C:
                left, top, across, down = struct.unpack_from("<HHHH", data, at + 1)
                check_size(max(width, left + across), max(height, top + down), max_pixels)
                break
            if kind == 0x3B:
                break
            at += 1
            if kind != 0x21:  # neither image nor extension: it is passed over
                continue
            if data[at] == 0xF9 and data[at + 1] >= 4:
                # Without what to do after the frame, for which Pillow would fill an image.
                kept.append(b"\x21\xf9\x04" + bytes([data[at + 2] & ~0x1C]))
                kept.append(data[at + 3 : at + 6] + b"\0")
            at += 1
            while size := data[at]:
                at += 1 + size
            at += 1
        else:
            raise ImageError(Reason.CORRUPT, f"it has more than {_MAX_GIF_BLOCKS:,} blocks")
    except (IndexError, struct.error):
        raise ImageError(Reason.TRUNCATED, "the file ends before the image begins") from None
    return Essentials(b"".join([*kept, data[at:]]), 1, is_everyday=True)


def reduce_webp(data: bytes, max_pixels: int) -> Essentials:
    """A WebP as it is, once its canvas is known to be small enough."""
    kind = data[12:16]
    if kind == b"VP8X" and len(data) >= 30:
        width, height = (1 + int.from_bytes(data[at : at + 3], "little") for at in (24, 27))
        check_size(width, height, max_pixels)
    return Essentials(data, None, is_everyday=kind in (b"VP8 ", b"VP8L", b"VP8X"))


def reduce_bmp(data: bytes, max_pixels: int) -> Essentials:
    """A BMP as it is, unless it is run-length encoded and large."""
    at = 14 if data.startswith(b"BM") else 0
    (size,) = struct.unpack_from("<I", data, at)
    if size < 40 or len(data) < at + 20:
        return Essentials(data, 1)
    width, height, _, _, compression = struct.unpack_from("<IiHHI", data, at + 4)
    if compression in (1, 2):
        check_size(width, abs(height), min(max_pixels, _MAX_BMP_RLE_PIXELS))
        if width > _MAX_BMP_RLE_WIDTH:
            raise ImageError(Reason.CORRUPT, f"run-length encoded rows of {width:,} pixels")
    return Essentials(data, 1, is_everyday=True)


def bmp_ends_early(data: bytes) -> bool:
    """Whether there is less of the file than its header says."""
    is_bmp = data.startswith(b"BM")
    return is_bmp and (len(data) < 54 or len(data) < struct.unpack_from("<I", data, 2)[0])


def webp_ends_early(data: bytes) -> bool:
    """Whether there is less of the file than its header says."""
    return len(data) < 12 or len(data) < struct.unpack_from("<I", data, 4)[0] + 8
