"""WebP files."""

from __future__ import annotations

import struct

from pipeline.images.containers.common import Essentials, check_size


def reduce_webp(data: bytes, max_pixels: int) -> Essentials:
    """Check that a WebP's canvas is small enough."""
    kind = data[12:16]
    if kind == b"VP8X" and len(data) >= 30:
        width, height = (1 + int.from_bytes(data[at : at + 3], "little") for at in (24, 27))
        check_size(width, height, max_pixels)
    return Essentials(data, None, is_everyday=kind in (b"VP8 ", b"VP8L", b"VP8X"))


def ends_early(data: bytes) -> bool:
    """Tell whether the file is shorter than its header says."""
    return len(data) < 12 or len(data) < struct.unpack_from("<I", data, 4)[0] + 8
