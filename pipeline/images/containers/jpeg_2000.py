"""JPEG 2000: codestreams, and JP2 files around them. ISO/IEC 15444-1."""

from __future__ import annotations

import struct

from pipeline.errors import ImageError
from pipeline.images.containers.boxes import boxes
from pipeline.images.containers.common import Essentials, check_size
from pipeline.records import Reason

JP2_SIGNATURE = b"\0\0\0\x0cjP  "
CODESTREAM_SIGNATURE = b"\xff\x4f\xff\x51"

_SIZE, _TILE_PART, _DATA, _END = 0xFF51, 0xFF90, 0xFF93, 0xFFD9

# No honest file has nearly as many: 65,535 tiles, each in a few parts.
_MAX_PARTS = 500_000


def reduce_jpeg_2000(data: bytes, max_pixels: int) -> Essentials:
    """A JPEG 2000 as it is, once it is known to be small enough and to have an end.

    Where a file ends too early, its decoder would leave out details, and not say so.
    """
    start = _codestream(data)
    if data[start : start + 4] != CODESTREAM_SIGNATURE:
        cut = len(data) < start + 4
        raise ImageError(
            Reason.TRUNCATED if cut else Reason.CORRUPT, "there is no codestream where it should be"
        )
    across, down, left, top = struct.unpack_from(">IIII", data, start + 8)
    check_size(max(across - left, 0), max(down - top, 0), max_pixels)
    if ends_early(data):
        raise ImageError(Reason.TRUNCATED, "the file ends before its last tile does")
    return Essentials(data, 1)


def ends_early(data: bytes) -> bool:
    """Whether there is less of the file than its headers say."""
    at = _codestream(data) + 2
    for _ in range(_MAX_PARTS):
        if at + 4 > len(data):
            return data[at : at + 2] != b"\xff\xd9"
        marker, length = struct.unpack_from(">HH", data, at)
        if marker == _END:
            return False
        if marker != _TILE_PART:
            at += 2 + length
            continue
        if at + 10 > len(data):
            return True
        (size,) = struct.unpack_from(">I", data, at + 6)
        if not size:  # up to the end
            return b"\xff\xd9" not in data[at:]
        at += max(size, 12)
    return False


def _codestream(data: bytes) -> int:
    """Where the codestream begins."""
    if not data.startswith(JP2_SIGNATURE):
        return 0
    return next((box.start for box in boxes(data) if box.kind == b"jp2c"), len(data))
