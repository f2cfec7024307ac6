"""Checks JPEG 2000 files: codestreams, and JP2 files around them. ISO/IEC 15444-1."""

from __future__ import annotations

import struct

from pipeline.errors import ImageError
from pipeline.images.containers.boxes import boxes
from pipeline.images.containers.common import Essentials, check_size
from pipeline.records import Reason

JP2_SIGNATURE = b"\0\0\0\x0cjP  "
CODESTREAM_SIGNATURE = b"\xff\x4f\xff\x51"

_TILE_PART, _END = 0xFF90, 0xFFD9

# No honest file has nearly as many: 65,535 tiles, each in a few parts.
_MAX_PARTS = 500_000


def reduce_jpeg_2000(data: bytes, max_pixels: int) -> Essentials:
    """Cut a JPEG 2000 at its end, after checking that it is small enough and has one.

    If a file ends too early, its decoder would silently leave out details.
    """
    start = _codestream(data)
    if data[start : start + 4] != CODESTREAM_SIGNATURE:
        cut = len(data) < start + 4
        raise ImageError(
            Reason.TRUNCATED if cut else Reason.CORRUPT, "there is no codestream where it should be"
        )
    across, down, left, top = struct.unpack_from(">IIII", data, start + 8)
    check_size(max(across - left, 0), max(down - top, 0), max_pixels)
    end = _end(data, start)
    if end is None:
        raise ImageError(Reason.TRUNCATED, "the file ends before its last tile does")
    return Essentials(data[:end], 1)


def _end(data: bytes, start: int) -> int | None:
    """Find the end of the codestream that starts there; None if the file ends before it."""
    at = start + 2
    for _ in range(_MAX_PARTS):
        marker = int.from_bytes(data[at : at + 2], "big")
        if marker == _END:
            return at + 2
        if marker == _TILE_PART and at + 10 <= len(data):
            (size,) = struct.unpack_from(">I", data, at + 6)
            if not size:  # up to the end
                end = data.rfind(_END.to_bytes(2, "big"), at)
                return end + 2 if end > 0 else None
            at += max(size, 12)
        elif marker != _TILE_PART and at + 4 <= len(data):
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        else:
            return None
    raise ImageError(Reason.CORRUPT, f"it has more than {_MAX_PARTS:,} parts")


def _codestream(data: bytes) -> int:
    """Find the start of the codestream."""
    if not data.startswith(JP2_SIGNATURE):
        return 0
    return next((box.start for box in boxes(data) if box.kind == b"jp2c"), len(data))
