"""The strips and tiles of a TIFF → its samples, some rows at a time.

LZW, PackBits, LZMA, Zstandard and fax are decompressed by libtiff, through Pillow, which is shown a
small TIFF of the same strips whose "pixels" are the bytes to come: it need not know what they mean.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Collection, Iterator

import numpy as np
from PIL import Image

from pipeline.errors import ImageError
from pipeline.images.containers.tiff_layout import (
    BLACK_IS_ZERO,
    DEFLATE,
    FAX,
    FLOAT,
    IMAGE_FILES,
    OLD_JPEG,
    SIGNED,
    UNCOMPRESSED,
    Layout,
)
from pipeline.records import Reason

_BAND_BYTES = 4 * 2**20  # decompressed at a time, where the strips or tiles are not larger

_REVERSED_BITS = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


# Of a segment that is an image file, and so many rows high: samples ``[rows, width, bands]``.
DecodeFile = Callable[[Layout, bytes, int], np.ndarray]


def samples_of(
    layout: Layout, data: bytes, decode_file: DecodeFile
) -> Iterator[tuple[int, np.ndarray]]:
    """The samples of an image, from top to bottom.

    Yields:
      The first row of a part, and its samples: ``[rows, width, bands]`` for ``layout.bands``.

    Raises:
      ImageError: a strip or tile is not there or is damaged.
    """
    if layout.compression == OLD_JPEG:
        start, size = layout.jpeg_stream
        stream = data[start : start + size] if size else data[start:]
        yield from _parts(0, decode_file(layout, stream, layout.height))
        return
    step = 1
    if not layout.tiled:
        step = max(1, _BAND_BYTES // (layout.row_bytes * layout.segment_height))
    for first in range(0, layout.segments_down, step):
        last = min(first + step, layout.segments_down)
        top = first * layout.segment_height
        rows = min(last * layout.segment_height, layout.height) - top
        if layout.planar:
            planes = [
                _plane(layout, data, decode_file, band, first, last, rows) for band in layout.bands
            ]
            yield from _parts(top, np.concatenate(planes, axis=2))
        else:
            block = _plane(layout, data, decode_file, 0, first, last, rows)
            picked = list(layout.bands) != list(range(block.shape[2]))
            yield from _parts(top, block[:, :, list(layout.bands)] if picked else block)


def _parts(top: int, block: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """A block in parts that are small enough to be computed with."""
    rows = max(1, _BAND_BYTES // max(1, block[:1].nbytes))
    for start in range(0, len(block), rows):
        yield top + start, block[start : start + rows]


def _plane(
    layout: Layout,
    data: bytes,
    decode_file: DecodeFile,
    plane: int,
    first: int,
    last: int,
    rows: int,
) -> np.ndarray:
    """Rows of segments: ``[rows, width, bands]``, one band if they are stored apart."""
    across = layout.segments_across
    start = (plane * layout.segments_down + first) * across
    numbers = range(start, start + (last - first) * across)
    heights = _heights(layout, first, last, rows)
    if layout.compression in IMAGE_FILES:
        files = [
            decode_file(layout, _segment(layout, data, number), heights[n // across])
            for n, number in enumerate(numbers)
        ]
        return np.concatenate(files, axis=1 if layout.tiled else 0)[:rows, : layout.width]
    heights = [-(-height // layout.rows_stored) for height in heights for _ in range(across)]
    raw = _decompressed(layout, data, numbers, heights)
    raw = raw.reshape(len(numbers) if layout.tiled else 1, -1, layout.row_bytes)
    blocks = _chroma(layout, raw) if layout.subsampled else _unpack(layout, raw)
    if not layout.tiled:
        return blocks[0][:rows, : layout.width]
    tiles = blocks[:, :rows]
    return np.moveaxis(tiles, 0, 1).reshape(tiles.shape[1], -1, tiles.shape[3])[:, : layout.width]


def _heights(layout: Layout, first: int, last: int, rows: int) -> list[int]:
    """Of each row of segments from ``first`` to ``last``, which have ``rows`` together."""
    if layout.tiled:
        return [layout.segment_height] * (last - first)
    full = [layout.segment_height] * (last - first - 1)
    return [*full, rows - sum(full)]


# From bytes


def _segment(layout: Layout, data: bytes, number: int, size: int = 0) -> bytes:
    """The stored bytes of a segment: ``size``, or as many as the file says.

    Raises:
      ImageError: the file ends before they do.
    """
    start = layout.offsets[number]
    if not size:
        # Some old programs do not say where the only strip ends.
        size = layout.counts[number] if number < len(layout.counts) else 0
        size = size or (len(data) - start if start else 0)
    if start + size > len(data):
        raise ImageError(Reason.TRUNCATED, "the file ends before its last strip or tile")
    segment = data[start : start + size]
    if layout.fill_order == 2 and layout.compression not in FAX:
        return segment.translate(_REVERSED_BITS)
    return segment


def _decompressed(layout: Layout, data: bytes, numbers: range, heights: list[int]) -> np.ndarray:
    """The bytes of segments of so many stored rows each, one after the other."""
    sizes = [height * layout.row_bytes for height in heights]
    parts = [b""] * len(numbers)
    for_libtiff: dict[int, bytes] = {}
    for n, number in enumerate(numbers):
        sparse = not layout.offsets[number] and not any(layout.counts[number : number + 1])
        if sparse and any(layout.offsets):  # GDAL leaves out what holds no data
            parts[n] = bytes(sizes[n])
        elif layout.compression == UNCOMPRESSED:
            parts[n] = _segment(layout, data, number, sizes[n])
        elif layout.compression in DEFLATE:
            parts[n] = _inflate(_segment(layout, data, number), sizes[n])
        else:
            for_libtiff[n] = _segment(layout, data, number)
    if for_libtiff:
        decoded = _by_libtiff(layout, for_libtiff.values(), [heights[n] for n in for_libtiff])
        at = 0
        for n in for_libtiff:
            parts[n] = decoded[at : at + sizes[n]]
            at += sizes[n]
    return np.frombuffer(parts[0] if len(parts) == 1 else b"".join(parts), np.uint8)


def _inflate(segment: bytes, size: int) -> bytes:
    stream = zlib.decompressobj()
    raw = stream.decompress(segment, size)
    stream.decompress(stream.unconsumed_tail, 1)  # its end has a checksum
    if len(raw) < size:
        raise ImageError(Reason.CORRUPT, "a strip or tile ends too early")
    return raw


def _by_libtiff(layout: Layout, segments: Collection[bytes], heights: list[int]) -> bytes:
    """What libtiff makes of segments, as the strips of a TIFF of its own.

    Tiles are strips, too: both are compressed alike.
    """
    fax = layout.compression in FAX
    count = len(segments)
    fields = {
        256: layout.segment_width if fax else layout.row_bytes,
        257: sum(heights),
        258: 1 if fax else 8,
        259: layout.compression,
        262: BLACK_IS_ZERO,
        266: layout.fill_order if fax else 1,
        277: 1,
        278: heights[0],
    }
    if layout.compression in (3, 4):
        fields[292 if layout.compression == 3 else 293] = layout.fax_options[layout.compression - 3]
    directory = 8 + 2 + 12 * (len(fields) + 2) + 4
    starts = directory + 8 * count + np.cumsum([0, *map(len, segments)])
    tables = struct.pack(f"<{2 * count}I", *starts[:-1].tolist(), *map(len, segments))
    inline = count == 1
    fields |= {273: starts[0] if inline else directory}
    fields |= {279: len(next(iter(segments))) if inline else directory + 4 * count}
    entries = [
        struct.pack("<HHII", tag, 4, count if tag in (273, 279) else 1, value)
        for tag, value in sorted(fields.items())
    ]
    head = [b"II*\0", struct.pack("<IH", 8, len(entries)), *entries, bytes(4), tables]
    with Image.open(io.BytesIO(b"".join([*head, *segments])), formats=("TIFF",)) as image:
        return image.tobytes()


# From bytes to samples


def _unpack(layout: Layout, raw: np.ndarray) -> np.ndarray:
    """Stored rows ``[segments, rows, bytes]`` → samples ``[segments, rows, width, bands]``."""
    bits, bands = layout.bits, layout.stored_bands
    shape = (*raw.shape[:2], layout.segment_width, bands)
    if bits in (8, 16, 32, 64):
        size = bits // 8
        if layout.predictor == 3:
            raw = _undo_float_differences(layout, raw)
            order = ">"
        else:
            order = layout.order
        samples = raw.view(f"{order}u{size}").reshape(shape)
        if layout.predictor == 2:
            samples = np.cumsum(samples, axis=2, dtype=f"u{size}")
        kind = {SIGNED: "i", FLOAT: "f"}.get(layout.sample_format, "u")
        return samples.astype(f"=u{size}", copy=False).view(f"={kind}{size}")
    count = layout.segment_width * bands
    loose = np.unpackbits(raw, axis=2, count=count * bits).reshape(*raw.shape[:2], count, bits)
    padded = np.zeros((*loose.shape[:3], 8 if bits < 8 else 16), np.uint8)
    padded[..., -bits:] = loose
    packed = np.packbits(padded, axis=3)
    return (
        packed.view(">u2" if bits > 8 else np.uint8)
        .reshape(shape)
        .astype(f"=u{1 + (bits > 8)}", copy=False)
    )


def _undo_float_differences(layout: Layout, raw: np.ndarray) -> np.ndarray:
    """Rows of differences of bytes, the highest bytes of all samples first → big-endian rows."""
    size, bands = layout.bits // 8, layout.stored_bands
    differences = raw.reshape(*raw.shape[:2], -1, bands)
    planes = np.cumsum(differences, axis=2, dtype=np.uint8).reshape(*raw.shape[:2], size, -1)
    return np.ascontiguousarray(np.swapaxes(planes, 2, 3)).reshape(raw.shape)


def _chroma(layout: Layout, raw: np.ndarray) -> np.ndarray:
    """Stored rows of YCbCr blocks, luma before chroma → ``[segments, rows, width, 3]``."""
    across, down = layout.subsampling
    luma = across * down
    blocks = raw.reshape(*raw.shape[:2], -1, luma + 2)
    segments, rows, columns = blocks.shape[:3]
    samples = np.empty((segments, rows, down, columns, across, 3), np.uint8)
    samples[..., 0] = np.moveaxis(
        blocks[..., :luma].reshape(segments, rows, columns, down, across), 3, 2
    )
    samples[..., 1:] = blocks[:, :, None, :, None, luma:]
    return samples.reshape(segments, rows * down, columns * across, 3)[:, :, : layout.segment_width]
