"""Reduces GIF files, including animated ones."""

from __future__ import annotations

import io
import struct

from PIL import Image

from pipeline.errors import ImageError
from pipeline.images.containers.common import Essentials, LazyImage, check_size
from pipeline.records import Reason

# No honest file has nearly as many.
_MAX_GIF_BLOCKS = 1_000_000


def reduce_gif(data: bytes, max_pixels: int) -> Essentials:
    """Remove comments, which Pillow would append block by block, and other extensions."""
    if len(data) < 13:
        return Essentials(data, 1)
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    check_size(width, height, max_pixels)
    at = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    kept = [data[:at]]
    canvas, frame = (width, height), (0, 0, width, height)
    try:
        for _ in range(_MAX_GIF_BLOCKS):
            kind = data[at]
            if kind == 0x2C:
                frame = struct.unpack_from("<HHHH", data, at + 1)
                left, top, across, down = frame
                canvas = max(width, left + across), max(height, top + down)
                check_size(*canvas, max_pixels)
                break
            if kind == 0x3B:
                break
            at += 1
            if kind != 0x21:  # neither image nor extension: skip it
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
    if frame == (0, 0, *canvas):
        return Essentials(b"".join([*kept, data[at:]]), 1, is_everyday=True)
    # Pillow would fill what is around the frame with the first color. It is given the frame alone.
    screen = data[:6] + struct.pack("<HH", *frame[2:]) + data[10:]
    alone = [screen[: len(kept[0])], *kept[1:], data[at : at + 1], bytes(4), data[at + 5 :]]
    image = LazyImage("GIF", canvas, lambda: _placed(b"".join(alone), canvas, frame[:2]))
    return Essentials(data, 1, image, is_everyday=True)


def _placed(gif: bytes, canvas: tuple[int, int], place: tuple[int, int]) -> Image.Image:
    """Place a frame on a white canvas, since the area around it is transparent."""
    image = Image.new("RGB", canvas, (255, 255, 255))
    with Image.open(io.BytesIO(gif), formats=("GIF",)) as frame:
        colors = frame.convert("RGBA")
    image.paste(colors, place, colors)
    return image
