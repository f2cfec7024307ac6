"""TIFF files, and BigTIFF ones in the order of bytes that Pillow knows."""

from __future__ import annotations

import struct

from PIL import TiffImagePlugin

from pipeline.errors import ImageError
from pipeline.images.containers.common import ORIENTATION, Essentials, check_size, inline_value
from pipeline.records import Reason

# No honest file comes near to these.
_MAX_TIFF_TAGS = 65_535
_MAX_TIFF_STRIPS = 200_000

_COMPRESSION = 259
_WIDTH, _HEIGHT, _SAMPLES, _ROWS_PER_STRIP, _PLANAR = 256, 257, 277, 278, 284
_TILE_WIDTH, _TILE_HEIGHT = 322, 323
_OFFSETS, _BYTE_COUNTS = (273, 324), (279, 325)
# What libtiff and Pillow need for the pixels → the most values that it may have.
_KEPT_TAGS = {
    **dict.fromkeys((_WIDTH, _HEIGHT, _COMPRESSION, 262, 266, _SAMPLES, _ROWS_PER_STRIP), 16),
    **dict.fromkeys((_PLANAR, 292, 293, 317, _TILE_WIDTH, _TILE_HEIGHT, 332, 334), 16),
    **dict.fromkeys((258, 338, 339, 512, 513, 514, 515, 517, 518, 519, 520, 521), 64),
    **dict.fromkeys((529, 530, 531, 532), 64),
    320: 3 * 65536,  # the palette
    347: 2**20,  # a JPEG's tables
    **dict.fromkeys((*_OFFSETS, *_BYTE_COUNTS), _MAX_TIFF_STRIPS),
}


def reduce_tiff(data: bytes, max_pixels: int) -> Essentials:
    """A TIFF whose first directory has no entries but those for the pixels, and is the last."""
    if len(data) < 16:
        return Essentials(data, 1)
    order = "<" if data.startswith(b"II") else ">"
    big = data[2] == 43
    if data.startswith(b"MM\0+"):  # Pillow takes it for a small one
        raise ImageError(Reason.UNSUPPORTED_FORMAT, "big-endian BigTIFF files are not read")
    entry, pointer = ("HHQ", "Q") if big else ("HHI", "I")
    width = struct.calcsize(f"{order}{entry}{pointer}")
    (start,) = struct.unpack_from(order + pointer, data, 8 if big else 4)
    first = start + (8 if big else 2)
    (count,) = struct.unpack_from(order + ("Q" if big else "H"), data, start)
    if count > _MAX_TIFF_TAGS:
        raise ImageError(Reason.CORRUPT, f"its directory has {count:,} entries")

    kept: dict[int, bytes] = {}
    values: dict[int, int] = {}
    counts: dict[int, int] = {}
    orientation = 1
    for at in range(first, min(first + count * width, len(data) - width + 1), width):
        tag, kind, amount = struct.unpack_from(order + entry, data, at)
        if tag == ORIENTATION:
            orientation = inline_value(data, order, kind, at + width - struct.calcsize(pointer))
        if tag not in _KEPT_TAGS or tag in kept:
            continue
        if amount > _KEPT_TAGS[tag]:
            raise ImageError(Reason.CORRUPT, f"tag {tag} has {amount:,} values")
        kept[tag] = data[at : at + width]
        counts[tag] = amount
        if amount == 1:
            in_entry = at + struct.calcsize(order + entry)
            values[tag] = inline_value(data, order, kind, in_entry)
    _check_tiff(data, values, counts, max_pixels)

    # In place of the old directory, which has room for the new one: offsets stay as they are.
    content = b"".join(
        [
            struct.pack(order + ("Q" if big else "H"), len(kept)),
            *kept.values(),
            struct.pack(order + pointer, 0),
        ]
    )
    reduced = b"".join([data[:start], content, memoryview(data)[start + len(content) :]])
    return Essentials(reduced, orientation, is_everyday=True)


def _check_tiff(
    data: bytes, values: dict[int, int], counts: dict[int, int], max_pixels: int
) -> None:
    """Refuse a TIFF that has too many pixels, or parts that do not fit its size."""
    compression = values.get(_COMPRESSION, 1)
    if compression not in TiffImagePlugin.COMPRESSION_INFO:
        raise ImageError(Reason.UNSUPPORTED_FORMAT, f"TIFF compression {compression} is not read")
    width, height = values.get(_WIDTH, 0), values.get(_HEIGHT, 0)
    check_size(width, height, max_pixels)
    if not width or not height:
        raise ImageError(Reason.CORRUPT, f"its size is {width} × {height} pixels")
    across, down = width, min(values.get(_ROWS_PER_STRIP, height), height)
    if _OFFSETS[0] not in counts:
        across, down = values.get(_TILE_WIDTH, width), values.get(_TILE_HEIGHT, height)
    if not across or not down:
        raise ImageError(Reason.CORRUPT, "its strips or tiles are empty")
    # A tile may be larger than the image, but for an icon it will not be a bomb.
    check_size(values.get(_TILE_WIDTH, 1), values.get(_TILE_HEIGHT, 1), max(max_pixels, 2**20))
    expected = -(-width // across) * -(-height // down) * max(values.get(_SAMPLES, 1), 4)
    if max((counts.get(tag, 0) for tag in _OFFSETS), default=0) > expected:
        raise ImageError(Reason.CORRUPT, "it has more strips or tiles than its pixels need")
