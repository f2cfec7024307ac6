"""TIFF files, classic ones and BigTIFF, in both orders of bytes: which image of them counts.

Pillow opens every TIFF whose tags it knows, and reads some to wrong pixels. So it is asked for no
more than to decompress; what the samples mean is decided here and in ``tiff_colors``, for kinds
that were held against another decoder. Everything else is refused, with its kind in words.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import simplejpeg
from PIL import Image

from pipeline.errors import ImageError
from pipeline.images.containers.common import ORIENTATION, Essentials, LazyImage, check_size
from pipeline.images.containers.jpeg import kind_of, reduce_jpeg
from pipeline.images.containers.tiff_colors import colors_of
from pipeline.images.containers.tiff_layout import (
    IMAGE_FILES,
    JPEG,
    OLD_JPEG,
    UNCOMPRESSED,
    WEBP,
    YCBCR,
    Layout,
    refuse,
)
from pipeline.images.containers.tiff_segments import samples_of
from pipeline.records import Reason

# No honest file comes near to these.
_MAX_TAGS = 65_535
_MAX_DIRECTORIES = 100
_MAX_SEGMENTS = 200_000
_MAX_PALETTE = 3 * 65536
_MAX_TABLES = 2**20
_MAX_TEXT = 1000
_MAX_OVERLAP = 8  # times that a file's bytes are in a strip

# What decompressing an image may yield, in bytes for each pixel that may be decoded: four bands of
# 16 bits. A strip or tile is decompressed as a whole.
_MAX_BYTES_PER_PIXEL = 8
_MAX_SEGMENT_BYTES = 2**29
# What libjpeg says of old files whose pixels are right all the same.
_HARMLESS = "Invalid SOS parameters"
# For each strip or tile that is an image file, a decoder is started.
_MAX_IMAGE_FILES = 20_000

_SUBFILE_TYPE, _OLD_SUBFILE_TYPE, _SUB_DIRECTORIES = 254, 255, 330
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 256, 257, 258, 259, 262
_FILL_ORDER, _SAMPLES, _ROWS_PER_STRIP, _PLANAR = 266, 277, 278, 284
_STRIP_OFFSETS, _STRIP_COUNTS, _TILE_OFFSETS, _TILE_COUNTS = 273, 279, 324, 325
_TILE_WIDTH, _TILE_HEIGHT = 322, 323
_MAKE, _DNG_VERSION, _GDAL_NODATA = 271, 50706, 42113

# Type → of one value, in struct's letters; rationals are two numbers.
_TYPES = {
    **{1: "B", 2: "B", 3: "H", 4: "I", 5: "II", 6: "b", 7: "B", 8: "h", 9: "i", 10: "ii"},
    **{11: "f", 12: "d", 13: "I", 16: "Q", 17: "q", 18: "Q"},
}
_BYTE, _ASCII, _RATIONALS = 1, 2, (5, 10)

_REDUCED, _MASK = 1, 4  # bits of the subfile's type
_COLOR_FILTER_ARRAY, _LINEAR_RAW = 32803, 34892
# The compressions of Sony, Samsung, Kodak, Nikon and Pentax.
_RAW_COMPRESSIONS = (32767, 32770, 65000, 34713, 65535)


class _Directory(NamedTuple):
    """``entries``: tag → type, count, and where the values are. ``following``: the next one."""

    data: bytes
    order: str
    entries: dict[int, tuple[int, int, int]]
    following: int

    def numbers(self, tag: int, most: int = 64) -> tuple[float, ...]:
        """Read the values of a tag; none if it is missing, or is of an unknown type.

        Raises:
          ImageError: they are more than ``most``.
          struct.error: the file ends before they do.
        """
        kind, count, at = self.entries.get(tag, (0, 0, 0))
        if kind not in _TYPES or not count:
            return ()
        if at > len(self.data):
            raise ImageError(Reason.TRUNCATED, f"the file ends before the values of tag {tag}")
        if count > most:
            raise ImageError(Reason.CORRUPT, f"tag {tag} has {count:,} values")
        letters = _TYPES[kind]
        values = struct.unpack_from(
            f"{self.order}{count * len(letters)}{letters[0]}", self.data, at
        )
        if kind in _RATIONALS:
            return tuple(
                a / b if b else 0.0 for a, b in zip(values[::2], values[1::2], strict=True)
            )
        return values

    def integers(self, tag: int, most: int = 64) -> tuple[int, ...]:
        return tuple(int(value) for value in self.numbers(tag, most) if value == value)

    def integer(self, tag: int, default: int) -> int:
        return next(iter(self.integers(tag)), default)

    def text(self, tag: int) -> str:
        kind, count, at = self.entries.get(tag, (0, 0, 0))
        if kind != _ASCII or count > _MAX_TEXT:
            return ""
        return self.data[at : at + count].split(b"\0")[0].decode("latin-1").strip()

    @property
    def full_size(self) -> bool:
        """Whether it is neither a thumbnail nor a mask, as far as it says so."""
        return not (
            self.integer(_SUBFILE_TYPE, 0) & (_REDUCED | _MASK)
            or self.integer(_OLD_SUBFILE_TYPE, 1) == 2
        )

    @property
    def raw(self) -> bool:
        """Whether it holds what a camera's sensor saw."""
        return (
            self.integer(_PHOTOMETRIC, 1) in (_COLOR_FILTER_ARRAY, _LINEAR_RAW)
            or self.integer(_COMPRESSION, 1) in _RAW_COMPRESSIONS
        )


def reduce_tiff(data: bytes, max_pixels: int) -> Essentials:
    """Find the first image of full size in a TIFF; it is decoded when it is loaded.

    Raises:
      ImageError: its kind is not read, it is a camera raw file, or it is damaged.
      struct.error: the file ends too early.
    """
    if len(data) < 16:
        raise ImageError(Reason.CORRUPT, "it ends within its header")
    order = "<" if data.startswith(b"II") else ">"
    big = 43 in data[2:4]
    (start,) = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)
    if start > len(data):
        raise ImageError(Reason.TRUNCATED, "the file ends before its directory begins")
    first = _read(data, order, big, start)
    pages = list(_pages(data, order, big, first))
    _refuse_raw(data, first, pages)
    page = next((page for page in pages if page.full_size and _WIDTH in page.entries), first)
    layout = _layout(page, max_pixels)

    def parts() -> Iterator[tuple[int, np.ndarray]]:
        return samples_of(layout, data, _decode_file)

    image = LazyImage("TIFF", (layout.width, layout.height), lambda: colors_of(layout, parts))
    return Essentials(data, page.integer(ORIENTATION, 1), image, layout.is_everyday)


def _read(data: bytes, order: str, big: bool, start: int) -> _Directory:
    entry, pointer, many = ("HHQ", "Q", "Q") if big else ("HHI", "I", "H")
    width = struct.calcsize(f"={entry}{pointer}")
    (count,) = struct.unpack_from(order + many, data, start)
    if count > _MAX_TAGS:
        raise ImageError(Reason.CORRUPT, f"its directory has {count:,} entries")
    first = start + struct.calcsize("=" + many)
    entries: dict[int, tuple[int, int, int]] = {}
    end = first + count * width
    for at in range(first, min(end, len(data) - width + 1), width):
        tag, kind, amount = struct.unpack_from(order + entry, data, at)
        at += struct.calcsize("=" + entry)
        size = struct.calcsize("=" + _TYPES.get(kind, "")) * amount
        if size > struct.calcsize("=" + pointer):
            (at,) = struct.unpack_from(order + pointer, data, at)
        entries.setdefault(tag, (kind, amount, at))
    following = 0
    if end + struct.calcsize("=" + pointer) <= len(data):
        (following,) = struct.unpack_from(order + pointer, data, end)
    return _Directory(data, order, entries, following)


def _pages(data: bytes, order: str, big: bool, first: _Directory) -> Iterator[_Directory]:
    """Yield the first directory, those within it, and those after it, if they can be read."""
    yield first
    starts = [*first.integers(_SUB_DIRECTORIES, _MAX_DIRECTORIES), first.following]
    seen: set[int] = set()
    while starts and len(seen) < _MAX_DIRECTORIES:
        start = starts.pop(0)
        if not start or start in seen:
            continue
        seen.add(start)
        try:
            page = _read(data, order, big, start)
        except (struct.error, OverflowError, ImageError):
            continue  # only the first one has to be whole
        yield page
        if not starts:
            starts.append(page.following)


def _refuse_raw(data: bytes, first: _Directory, pages: list[_Directory]) -> None:
    """Refuse the raw files of cameras, whose first image is but a thumbnail of the photograph."""
    if first.entries.get(_DNG_VERSION, ())[:2] == (_BYTE, 4):
        kind = "DNG"
    elif data[8:10] == b"CR":
        kind = "CR2"
    elif any(page.raw for page in pages):
        kind = first.text(_MAKE) or "of an unknown make"
    else:
        return
    message = f"a camera raw file ({kind}) is not read; convert it to JPEG or PNG"
    raise ImageError(Reason.UNSUPPORTED_FORMAT, message)


def _layout(page: _Directory, max_pixels: int) -> Layout:
    """Read what a directory says about its pixels, and check that it is in bounds."""
    width, height = page.integer(_WIDTH, 0), page.integer(_HEIGHT, 0)
    check_size(width, height, max_pixels)
    if width <= 0 or height <= 0:
        raise ImageError(Reason.CORRUPT, f"its size is {width} × {height} pixels")
    compression = page.integer(_COMPRESSION, 1)
    samples = page.integer(_SAMPLES, 3 if compression == 6 else 1)
    bits = page.integers(_BITS, 65_535) or (1,)
    tiled = _TILE_WIDTH in page.entries  # as libtiff decides it, whichever offsets there are
    offsets, counts = (
        (_TILE_OFFSETS, _TILE_COUNTS)
        if _TILE_OFFSETS in page.entries
        else (_STRIP_OFFSETS, _STRIP_COUNTS)
    )
    if tiled:
        across, down = page.integer(_TILE_WIDTH, 0), page.integer(_TILE_HEIGHT, 0)
    else:
        across, down = width, min(page.integer(_ROWS_PER_STRIP, height) or height, height)
    if across <= 0 or down <= 0:
        raise ImageError(Reason.CORRUPT, "its strips or tiles are empty")
    layout = Layout(
        order=page.order,
        width=width,
        height=height,
        photometric=page.integer(_PHOTOMETRIC, -1),
        compression=compression,
        samples=samples,
        bits=bits[0],
        sample_format=next(iter(page.integers(339, 65_535)), 1),
        extra=page.integers(338, 65_535),
        planar=page.integer(_PLANAR, 1) == 2 and samples > 1,
        predictor=page.integer(317, 1),
        fill_order=page.integer(_FILL_ORDER, 1),
        fax_options=(page.integer(292, 0), page.integer(293, 0)),
        subsampling=(*page.integers(530), 2, 2)[:2],
        coefficients=page.numbers(529) or (0.299, 0.587, 0.114),
        reference=page.numbers(532) or (0.0, 255.0, 128.0, 255.0, 128.0, 255.0),
        ink_set=page.integer(332, 1),
        color_map=page.integers(320, _MAX_PALETTE),
        jpeg_tables=bytes(page.integers(347, _MAX_TABLES)),
        jpeg_stream=(page.integer(513, 0), page.integer(514, 0)),
        nodata=_number(page.text(_GDAL_NODATA)),
        tiled=tiled,
        segment_width=across,
        segment_height=down,
        offsets=page.integers(offsets, _MAX_SEGMENTS),
        counts=page.integers(counts, _MAX_SEGMENTS),
    )
    layout = layout.with_defaults()
    if len(set(bits[:samples])) > 1:
        raise refuse(layout, f"bands of different depths {bits[:samples]} are not read")
    layout.check()
    _check_bounds(layout, len(page.data), max_pixels)
    return layout


def _check_bounds(layout: Layout, size: int, max_pixels: int) -> None:
    """Refuse what would take too much time or memory; ``size`` is that of the file."""
    parts = layout.segments_across * layout.segments_down
    planes = layout.samples if layout.planar else 1
    if layout.compression == OLD_JPEG:
        return
    if len(layout.offsets) < parts * (max(layout.bands) + 1 if layout.planar else 1):
        raise ImageError(
            Reason.CORRUPT, f"it has {len(layout.offsets)} of {parts * planes} strips or tiles"
        )
    if len(layout.offsets) > parts * max(planes, 4):
        raise ImageError(Reason.CORRUPT, "it has more strips or tiles than its pixels need")
    if not any(layout.offsets) and not any(layout.counts):
        raise ImageError(Reason.CORRUPT, "it has no strips or tiles")
    across, down = layout.segment_width, layout.segment_height
    if layout.tiled:
        # A tile may be larger than the image, but for an icon it will not be a bomb.
        check_size(across, down, max(max_pixels, 2**20))
        padded = (layout.segments_across * across, layout.segments_down * down)
        check_size(*padded, max(2 * max_pixels, 2**20))
    stored = parts * layout.row_bytes * down * (len(layout.bands) if layout.planar else 1)
    if stored > _MAX_BYTES_PER_PIXEL * max(max_pixels, 2**20):
        raise ImageError(Reason.TOO_MANY_PIXELS, f"its pixels are {stored:,} bytes")
    if layout.compression == UNCOMPRESSED:
        return
    if layout.row_bytes * down > _MAX_SEGMENT_BYTES:
        raise ImageError(Reason.TOO_MANY_PIXELS, "its strips or tiles are too large")
    if layout.compression in IMAGE_FILES and parts * planes > _MAX_IMAGE_FILES:
        raise refuse(layout, f"{parts * planes:,} strips or tiles are not read")
    if sum(layout.counts) > _MAX_OVERLAP * size:
        raise ImageError(Reason.CORRUPT, "its strips or tiles are on each other")


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


# Strips and tiles that are image files


def _decode_file(layout: Layout, segment: bytes, height: int) -> np.ndarray:
    """Decode a segment that is an image file into samples ``[height, width, bands]``.

    Raises:
      ImageError: it is not an image, or not of the segment's size.
    """
    decode = _decode_webp if layout.compression == WEBP else _decode_jpeg
    return decode(layout, segment, height)[:height, : layout.segment_width]


def _decode_webp(layout: Layout, segment: bytes, height: int) -> np.ndarray:
    with Image.open(io.BytesIO(segment), formats=("WEBP",)) as image:
        _check_file(layout, image.width, image.height, height)
        image.load()
        return np.asarray(image.convert("RGB" if layout.samples == 3 else "RGBA"))


def _decode_jpeg(layout: Layout, segment: bytes, height: int) -> np.ndarray:
    tables = layout.jpeg_tables if layout.compression == JPEG else b""
    if tables.startswith(b"\xff\xd8"):
        segment = tables[: -2 if tables.endswith(b"\xff\xd9") else None] + segment[2:]
    if not segment.startswith(b"\xff\xd8\xff"):
        raise ImageError(Reason.CORRUPT, "a strip or tile is no JPEG")
    reduced = reduce_jpeg(segment, 4 * max(layout.segment_width * height, 2**20)).data
    kind = kind_of(reduced)
    if kind is None:
        raise ImageError(Reason.CORRUPT, "a strip or tile is no JPEG")
    if not kind.everyday:
        raise refuse(layout, f"it holds {kind.name}")
    if kind.components != layout.stored_bands:
        raise ImageError(Reason.CORRUPT, f"a strip or tile has {kind.components} bands")
    _check_file(layout, kind.width, kind.height, height)
    # The TIFF says which colors these are, and libjpeg takes the word of Adobe's marker.
    is_ycbcr = kind.components == 3 and layout.photometric == YCBCR
    marked = b"\xff\xd8\xff\xee\0\x0eAdobe\0\x64\0\0\0\0" + bytes([is_ycbcr]) + reduced[2:]
    colors = {1: "GRAY", 3: "RGB", 4: "CMYK"}[kind.components]
    try:
        return simplejpeg.decode_jpeg(marked, colors)
    except ValueError as error:
        if _HARMLESS not in str(error):
            raise
        return simplejpeg.decode_jpeg(marked, colors, strict=False)


def _check_file(layout: Layout, width: int, height: int, rows: int) -> None:
    if width < layout.segment_width or height < rows:
        expected = f"{layout.segment_width} × {rows}"
        raise ImageError(
            Reason.CORRUPT, f"a strip or tile is {width} × {height} pixels, not {expected}"
        )
    check_size(width, height, 4 * max(layout.segment_width * rows, 2**20))
