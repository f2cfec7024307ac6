"""What an image file holds around its pixels, looked through before a decoder sees it.

A hostile or damaged file of a few kilobytes can keep Pillow busy for minutes, or make it ask for
hundreds of gigabytes: with metadata that is copied again for each of its parts, with directories
whose entries all claim the whole file, with thousands of scans. All of that is outside the pixels.
So Pillow is given JPEG, PNG, GIF and TIFF files that are reduced to what the pixels of the first
frame need, and what would still take too long is refused here. No Beam, no TensorFlow.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from typing import NamedTuple

from PIL import TiffImagePlugin

from pipeline.errors import ImageError
from pipeline.records import Reason

# No honest file comes near to these; they bound the loops below.
_MAX_JPEG_SEGMENTS = 100_000
_MAX_PNG_CHUNKS = 1_000_000
_MAX_GIF_BLOCKS = 1_000_000
_MAX_TIFF_TAGS = 65_535
_MAX_TIFF_STRIPS = 200_000
_MAX_SIDE = 1_000_000

# Each scan of a JPEG goes over all pixels, at a third of a nanosecond each. Encoders write up to a
# dozen scans; libtiff allows 100 of them, the fuzzers of libjpeg-turbo 500.
_MAX_SCANS = 500
_USUAL_SCANS = 50
_MAX_PIXELS_TIMES_SCANS = 4_000_000_000

# Pillow decodes run-length encoded BMPs in Python, at 70 nanoseconds a pixel, and makes up to 255
# rows at a time.
_MAX_BMP_RLE_PIXELS = 16_000_000
_MAX_BMP_RLE_WIDTH = 65_535

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


class Essentials(NamedTuple):
    """``data``: of the file, what a decoder is to see.

    ``orientation``: from its EXIF data, 1 (upright) where there is none; None if the decoder is to
    be asked.
    """

    data: bytes
    orientation: int | None


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
    """The orientation that EXIF data gives, 1 (upright) where it gives none.

    Only what is asked for is read: Pillow would read all of the directory, whose entries may each
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
            if tag == _ORIENTATION:
                return _inline_value(exif, order, kind, at + 8)
    except struct.error:
        pass  # broken metadata does not make the pixels worse
    return 1


def _inline_value(data: bytes, order: str, kind: int, at: int) -> int:
    """The one unsigned integer that is kept in a directory's entry itself; 0 for other types."""
    formats = {1: "B", 3: "H", 4: "I", 16: "Q"}
    return struct.unpack_from(order + formats[kind], data, at)[0] if kind in formats else 0


# JPEG

_MARKER = re.compile(rb"\xff[^\xff\x00]")  # neither padding nor a stuffed zero
_MARKER_IN_SCAN = re.compile(rb"\xff[^\xff\x00\xd0-\xd7]")
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = (0xC2, 0xC6, 0xCA, 0xCE)
# Tables, the frame, and which color space the samples are in: JFIF (APP0) or Adobe's (APP14).
_KEPT_SEGMENTS = _FRAMES | {0xC4, 0xCC, 0xDB, 0xDC, 0xDD, 0xDE, 0xDF, 0xE0, 0xEE}


def _jpeg(data: bytes, max_pixels: int) -> Essentials:
    """A JPEG without its metadata, previews and further images.

    Markers are looked for as libjpeg does it. Pillow goes over what is between them one byte at a
    time, and appends one part of the EXIF data at a time.
    """
    kept: list[bytes | memoryview] = [b"\xff\xd8"]
    orientation = 1
    frame, shape = 0, b""
    at = 2
    for _ in range(_MAX_JPEG_SEGMENTS):
        match = _MARKER.search(data, at)
        if match is None:
            return Essentials(b"".join(kept), orientation)
        at = match.end()
        marker = data[at - 1]
        if 0xD0 <= marker <= 0xD8:  # restarts and starts have no content
            continue
        if marker == 0xD9 or marker < 0xC0:  # the end, or what is no marker
            return Essentials(b"".join([*kept, match.group()]), orientation)
        (length,) = struct.unpack_from(">H", data, at)
        if marker == 0xDA:
            break
        segment = data[at : at + length]
        if marker in _KEPT_SEGMENTS:
            kept.append(match.group() + segment)
        if marker in _FRAMES:
            frame, shape = marker, segment[3:8]
        if marker == 0xE1 and segment.startswith(b"Exif\0\0", 2) and orientation == 1:
            orientation = exif_orientation(segment[2:])
        at += max(length, 2)
    else:
        raise ImageError(Reason.CORRUPT, f"it has more than {_MAX_JPEG_SEGMENTS:,} segments")
    if len(shape) == 5:
        height, width, components = struct.unpack(">HHB", shape)
        check_size(width, height, max_pixels)
        if frame in _PROGRESSIVE or components != data[at + 2]:
            _check_scans(data, at - 2, width * height)
    kept.append(memoryview(data)[at - 2 :])
    return Essentials(b"".join(kept), orientation)


def _check_scans(data: bytes, at: int, pixels: int) -> None:
    """Refuse a JPEG whose scans are so many that decoding them would take long."""
    most = _MAX_SCANS
    if pixels * _MAX_SCANS > _MAX_PIXELS_TIMES_SCANS:
        most = max(_USUAL_SCANS, _MAX_PIXELS_TIMES_SCANS // pixels)
    if data.count(b"\xff\xda", at) <= most:
        return
    # The two bytes may be elsewhere too, as in the film behind a photograph that moves.
    scans = 0
    while match := _MARKER_IN_SCAN.search(data, at):
        at, marker = match.end(), data[match.end() - 1]
        if marker == 0xD9:
            return
        if marker == 0xDA:
            scans += 1
            if scans > most:
                raise ImageError(
                    Reason.CORRUPT, f"it has more than {most} scans, for {pixels:,} pixels"
                )
        if marker >= 0xC0 and at + 2 <= len(data):
            at += struct.unpack_from(">H", data, at)[0]


# PNG

_KEPT_CHUNKS = (b"IHDR", b"PLTE", b"tRNS")


def _png(data: bytes, max_pixels: int) -> Essentials:
    """A PNG without metadata, whose text and profiles may be bombs, and without animation."""
    kept: list[bytes | memoryview] = [_PNG_SIGNATURE]
    pixels: list[memoryview] = []
    exif = b""
    at = len(_PNG_SIGNATURE)
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


# GIF


def _gif(data: bytes, max_pixels: int) -> Essentials:
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
    return Essentials(b"".join([*kept, data[at:]]), 1)


# TIFF

_ORIENTATION = 274
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


def _tiff(data: bytes, max_pixels: int) -> Essentials:
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
        if tag == _ORIENTATION:
            orientation = _inline_value(data, order, kind, at + width - struct.calcsize(pointer))
        if tag not in _KEPT_TAGS or tag in kept:
            continue
        if amount > _KEPT_TAGS[tag]:
            raise ImageError(Reason.CORRUPT, f"tag {tag} has {amount:,} values")
        kept[tag] = data[at : at + width]
        counts[tag] = amount
        if amount == 1:
            in_entry = at + struct.calcsize(order + entry)
            values[tag] = _inline_value(data, order, kind, in_entry)
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
    return Essentials(reduced, orientation)


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


# Others


def _webp(data: bytes, max_pixels: int) -> Essentials:
    """A WebP as it is, once its canvas is known to be small enough."""
    if data.startswith(b"VP8X", 12) and len(data) >= 30:
        width, height = (1 + int.from_bytes(data[at : at + 3], "little") for at in (24, 27))
        check_size(width, height, max_pixels)
    return Essentials(data, None)


def _bmp(data: bytes, max_pixels: int) -> Essentials:
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
    return Essentials(data, 1)


_AVIF_EXIF_ITEM = re.compile(rb"(infe\x02.{7}|infe\x03.{9})Exif", re.DOTALL)


def _avif(data: bytes, max_pixels: int) -> Essentials:
    """An AVIF whose EXIF data is hidden: the format has orientation elsewhere, which counts."""
    return Essentials(_AVIF_EXIF_ITEM.sub(rb"\1none", data), None)


_FORMATS: tuple[tuple[bytes | tuple[bytes, ...], int, Callable[[bytes, int], Essentials]], ...] = (
    (b"\xff\xd8\xff", 0, _jpeg),
    (_PNG_SIGNATURE, 0, _png),
    ((b"GIF87a", b"GIF89a"), 0, _gif),
    ((b"II*\0", b"MM\0*", b"II\0*", b"MM*\0", b"II+\0", b"MM\0+"), 0, _tiff),
    (b"WEBP", 8, _webp),
    ((b"BM", *(bytes([size, 0, 0, 0]) for size in (40, 52, 56, 64, 108, 124))), 0, _bmp),
    (b"ftyp", 4, _avif),
)
