"""Decodes BMP files, and DIBs, which are BMPs without the first 14 bytes.

They are decoded here, since Pillow reads run lengths of 4 bits as noise and knows only a few
layouts of 32-bit pixels. Undrawn pixels have the first color.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

import numpy as np
from PIL import Image

from pipeline.errors import ImageError
from pipeline.images.containers.common import Essentials, LazyImage, check_size
from pipeline.records import Reason

# Of what a DIB begins with; the oldest one, of 12 bytes, is too short to be told from chance.
BMP_HEADER_SIZES = (40, 52, 56, 64, 108, 124)
_FILE_HEADER = 14
_CORE_HEADER, _OS2_HEADERS = 12, range(16, 65)

_UNCOMPRESSED, _RUNS_OF_8, _RUNS_OF_4, _MASKS, _MASKS_WITH_ALPHA = 0, 1, 2, 3, 6
_COMPRESSIONS = {
    **{4: "JPEG", 5: "PNG", 11: "CMYK", 12: "run-length encoded CMYK"},
    **{13: "run-length encoded CMYK"},
}
_OS2_COMPRESSIONS = {3: "Huffman-coded", 4: "run-length encoded in 24 bits"}
_DEPTHS = {
    _UNCOMPRESSED: (1, 2, 4, 8, 16, 24, 32),
    **{_RUNS_OF_8: (8,), _RUNS_OF_4: (4,), _MASKS: (16, 24, 32), _MASKS_WITH_ALPHA: (16, 24, 32)},
}
# Where red, green, blue and alpha are, unless the file says so.
_USUAL_MASKS = {16: (0x7C00, 0x3E0, 0x1F, 0), 32: (0xFF0000, 0xFF00, 0xFF, 0)}

# Runs are decoded in Python, at a third of a microsecond each.
_MAX_RUNS = 5_000_000
_END_OF_ROW, _END, _MOVE = 0, 1, 2

_PART_BYTES = 4 * 2**20  # of rows that are decoded at a time


class _Header(NamedTuple):
    """``masks``: of red, green, blue and alpha. ``palette``: uint8 ``[entries, 3]`` RGB.

    ``start``: of the pixels, in bytes.
    """

    width: int
    height: int
    top_down: bool
    bits: int
    compression: int
    masks: tuple[int, ...]
    palette: np.ndarray
    start: int

    @property
    def row_bytes(self) -> int:
        return (self.width * self.bits + 31) // 32 * 4


def reduce_bmp(data: bytes, max_pixels: int) -> Essentials:
    """Read a BMP into an image that is decoded when it is loaded.

    Raises:
      ImageError: its kind is not read, or its header is damaged.
      struct.error: the file ends too early.
    """
    header = _header(data, max_pixels)
    decode = _decode_runs if header.compression in (_RUNS_OF_8, _RUNS_OF_4) else _decode_rows
    image = LazyImage("BMP", (header.width, header.height), lambda: decode(header, data))
    return Essentials(data, 1, image, is_everyday=True)


def ends_early(data: bytes) -> bool:
    """Tell whether the file is shorter than its header says."""
    is_bmp = data.startswith(b"BM")
    return is_bmp and (len(data) < 54 or len(data) < struct.unpack_from("<I", data, 2)[0])


def _header(data: bytes, max_pixels: int) -> _Header:
    at = _FILE_HEADER if data.startswith(b"BM") else 0
    (size,) = struct.unpack_from("<I", data, at)
    compression = colors = 0
    entry = 4
    if size == _CORE_HEADER:
        width, height, _, bits = struct.unpack_from("<HHHH", data, at + 4)
        entry = 3
    elif size in _OS2_HEADERS or size in BMP_HEADER_SIZES:
        fields = data[at + 4 : at + min(size, 40)].ljust(36, b"\0")
        width, height, _, bits, compression = struct.unpack_from("<IiHHI", fields)
        (colors,) = struct.unpack_from("<I", fields, 28)
    else:
        raise ImageError(Reason.CORRUPT, f"its header has {size:,} bytes")
    check_size(width, abs(height), max_pixels)
    if not width or not height:
        raise ImageError(Reason.CORRUPT, f"its size is {width} × {height} pixels")
    os2 = size in _OS2_HEADERS and size not in (40, 52, 56)
    if os2 and compression in _OS2_COMPRESSIONS:
        raise _refuse(bits, _OS2_COMPRESSIONS[compression])
    if bits not in _DEPTHS.get(compression, ()):
        raise _refuse(bits, _COMPRESSIONS.get(compression, f"compression {compression}"))
    masks, after = _masks(data, at, size, bits, compression)
    palette, end = np.zeros((0, 3), np.uint8), after
    start = struct.unpack_from("<I", data, 10)[0] if at else 0
    if bits <= 8:
        entries = min(colors or 1 << bits, 1 << bits)
        if start > after:
            entries = min(entries, (start - after) // entry)
        end = after + entries * entry
        table = np.frombuffer(data[after:end].ljust(entries * entry, b"\0"), np.uint8)
        palette = table.reshape(entries, entry)[:, 2::-1]
        palette = np.pad(palette, ((0, (1 << bits) - entries), (0, 0)))
    elif colors and colors < 1 << 16:  # what it would be shown with on a screen of few colors
        end = after + colors * entry
    return _Header(width, abs(height), height < 0, bits, compression, masks, palette, start or end)


def _masks(
    data: bytes, at: int, size: int, bits: int, compression: int
) -> tuple[tuple[int, ...], int]:
    """Find the masks of the colors in a pixel, and the end of the header with its masks.

    Raises:
      ImageError: a mask has gaps, or is wider than a pixel.
    """
    after = at + size
    if compression not in (_MASKS, _MASKS_WITH_ALPHA):
        return _USUAL_MASKS.get(bits, ()), after
    count = 4 if compression == _MASKS_WITH_ALPHA or size >= 56 else 3
    masks = struct.unpack_from(f"<{count}I", data, at + 40)
    if size == 40:
        after += 4 * count
    if not any(masks):
        masks = _USUAL_MASKS.get(bits, ())
    for mask in masks:
        ones = mask // (mask & -mask or 1)
        if ones & ones + 1 or mask >> bits:
            raise _refuse(bits, f"with the color mask {mask:#x}")
    return (*masks, 0)[:4], after


def _refuse(bits: int, how: str) -> ImageError:
    return ImageError(Reason.UNSUPPORTED_FORMAT, f"a BMP of {bits} bits, {how}, is not read")


def _decode_rows(header: _Header, data: bytes) -> Image.Image:
    """Decode uncompressed pixels."""
    used = (header.width * header.bits + 7) // 8
    last = header.start + (header.height - 1) * header.row_bytes + used
    if last > len(data):
        raise ImageError(Reason.TRUNCATED, "the file ends before its last row of pixels")
    stored = np.frombuffer(
        data[header.start : last].ljust(header.height * header.row_bytes, b"\0"), np.uint8
    ).reshape(header.height, header.row_bytes)
    if not header.top_down:
        stored = stored[::-1]
    opaque = not header.masks or not header.masks[3] or not _any_alpha(header, stored)
    image = Image.new("RGB" if opaque else "RGBA", (header.width, header.height))
    for top, part in _parts(header, stored):
        colors = _colors(header, part)
        image.paste(
            Image.fromarray(np.ascontiguousarray(colors[..., :3] if opaque else colors)), (0, top)
        )
    return image


def _parts(header: _Header, stored: np.ndarray) -> list[tuple[int, np.ndarray]]:
    rows = max(1, _PART_BYTES // header.row_bytes)
    return [(top, stored[top : top + rows]) for top in range(0, header.height, rows)]


def _any_alpha(header: _Header, stored: np.ndarray) -> bool:
    """Tell whether any pixel is opaque: programs reserve room for alpha and leave it empty."""
    return any(
        (_pixels(header, part) & header.masks[3]).any() for _, part in _parts(header, stored)
    )


def _pixels(header: _Header, rows: np.ndarray) -> np.ndarray:
    """Read pixels of 16 to 32 bits as numbers ``[rows, width]``."""
    size = header.bits // 8
    loose = np.zeros((len(rows), header.width, 4), np.uint8)
    loose[..., :size] = rows[:, : header.width * size].reshape(len(rows), header.width, size)
    return loose.view("<u4")[..., 0]


def _colors(header: _Header, rows: np.ndarray) -> np.ndarray:
    """Turn stored rows into uint8 ``[rows, width, 3 or 4]``."""
    if header.bits <= 8:
        return header.palette[_indices(header, rows)]
    if not header.masks:
        return rows[:, : header.width * 3].reshape(len(rows), header.width, 3)[..., ::-1]
    pixels = _pixels(header, rows)
    bands = []
    for mask in header.masks:
        if not mask:
            bands.append(np.zeros(pixels.shape, np.uint8))
            continue
        shift = (mask & -mask).bit_length() - 1
        most = mask >> shift
        values = pixels >> shift & most
        if most < 1 << 16:
            table = (np.arange(most + 1) * 510 + most) // (2 * most)
            bands.append(table.astype(np.uint8)[values])
        else:
            bands.append(((values.astype(np.uint64) * 510 + most) // (2 * most)).astype(np.uint8))
    return np.stack(bands, axis=-1)


def _indices(header: _Header, rows: np.ndarray) -> np.ndarray:
    """Read palette indices ``[rows, width]``."""
    if header.bits == 8:
        return rows[:, : header.width]
    shifts = np.arange(8 - header.bits, -1, -header.bits, dtype=np.uint8)
    loose = rows[..., None] >> shifts & (1 << header.bits) - 1
    return loose.reshape(len(rows), -1)[:, : header.width]


def _decode_runs(header: _Header, data: bytes) -> Image.Image:
    """Decode pixels that are run-length encoded.

    Raises:
      ImageError: the file ends before the image does, its runs leave it, or are too many.
    """
    width, height = header.width, header.height
    four = header.compression == _RUNS_OF_4
    canvas = bytearray(width * height)
    at, x, y = header.start, 0, 0
    for _ in range(_MAX_RUNS):
        if y >= height:
            break
        if at + 2 > len(data):
            raise ImageError(Reason.TRUNCATED, "the file ends before its last row of pixels")
        count, value = data[at], data[at + 1]
        at += 2
        if count:
            run = (
                bytes([value >> 4, value & 15]) * (count + 1 >> 1)
                if four
                else bytes([value]) * count
            )
        elif value == _END_OF_ROW:
            x, y = 0, y + 1
            continue
        elif value == _END:
            break
        elif value == _MOVE:
            right, down = data[at : at + 2].ljust(2, b"\0")
            at, x, y = at + 2, x + right, y + down
            if y > height:
                raise ImageError(Reason.CORRUPT, "its runs leave the image")
            continue
        else:
            count = value
            size = count + 1 >> 1 if four else count
            run = data[at : at + size]
            if len(run) < size:
                raise ImageError(Reason.TRUNCATED, "the file ends before its last row of pixels")
            if four:
                run = bytes(half for byte in run for half in (byte >> 4, byte & 15))
            at += size + size % 2
        count = min(count, width - x)  # a run ends with its row
        if count > 0:
            start = y * width + x
            canvas[start : start + count] = run[:count]
            x += count
    else:
        raise ImageError(Reason.TOO_MANY_PIXELS, f"it has more than {_MAX_RUNS:,} runs")
    image = Image.frombuffer("P", (width, height), bytes(canvas), "raw", "P", 0, 1)
    image.putpalette(header.palette.tobytes())
    rgb = image.convert("RGB")
    return rgb if header.top_down else rgb.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
