"""Defines what the formats' modules share: their result, the size limit, EXIF orientation."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, NamedTuple

from PIL import Image

from pipeline.errors import ImageError
from pipeline.records import Reason

# No honest image is so long, and resizing one would take gigabytes.
_MAX_SIDE = 1_000_000

# The tag of EXIF and TIFF.
ORIENTATION = 274


class LazyImage(Image.Image):
    """An image that is decoded when it is loaded, as those are that Pillow opens.

    ``decode`` returns it: L, RGB, RGBA or CMYK, of this size.
    """

    def __init__(self, name: str, size: tuple[int, int], decode: Callable[[], Image.Image]):
        super().__init__()
        self.format = name
        self._size = size
        self._decode = decode

    def load(self) -> Any:
        """Decode it, the first time.

        Raises:
          ImageError: it is damaged.
        """
        if self._im is None:
            image = self._decode()
            self._mode, self.im = image.mode, image.im
        return super().load()


class Essentials(NamedTuple):
    """What of a file decides its first frame's pixels.

    Attributes:
      data: what a decoder is given.
      orientation: from the EXIF data, 1 (upright) where there is none; None where the decoder
        knows it.
      image: what the file holds, where Pillow's own plugin is not to be asked.
      is_everyday: whether the header, as it has been read here, is that of a file that decoders
        meet every day. All others are decoded in the sandbox.
    """

    data: bytes
    orientation: int | None
    image: Image.Image | None = None
    is_everyday: bool = False


def check_size(width: int, height: int, max_pixels: int) -> None:
    """Refuse an image of too many pixels, or so long that resizing it takes gigabytes.

    Raises:
      ImageError: it has more than ``max_pixels``, or more than a million on a side.
    """
    if max(width, height) > _MAX_SIDE:
        raise ImageError(
            Reason.TOO_MANY_PIXELS,
            f"{width} × {height} pixels; at most {_MAX_SIDE:,} on a side are decoded",
        )
    if width * height > max_pixels:
        raise ImageError(
            Reason.TOO_MANY_PIXELS,
            f"{width} × {height} pixels; at most {max_pixels:,} are decoded",
        )


def exif_orientation(exif: bytes) -> int:
    """Read the orientation in EXIF data; 1 (upright) if it has none.

    This reads only the orientation. Pillow would read the whole directory, whose entries may each
    claim all of the data.
    """
    while exif.startswith(b"Exif\0\0"):
        exif = exif[6:]
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(f"{order}I", exif, 4)
        (count,) = struct.unpack_from(f"{order}H", exif, start)
        for at in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind = struct.unpack_from(f"{order}HH", exif, at)
            if tag == ORIENTATION:
                return inline_value(exif, order, kind, at + 8)
    except struct.error:
        pass  # broken metadata does not affect the pixels
    return 1


def inline_value(data: bytes, order: str, kind: int, at: int) -> int:
    """Read the unsigned integer that a directory's entry itself holds; 0 for other types."""
    formats = {1: "B", 3: "H", 4: "I", 16: "Q"}
    return struct.unpack_from(order + formats[kind], data, at)[0] if kind in formats else 0
