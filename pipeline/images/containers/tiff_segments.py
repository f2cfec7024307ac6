"""Reads the samples of a TIFF from its strips and tiles, some rows at a time.

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
    """Yield the samples of an image, from top to bottom.

    Yields:
      The first row of a part, and its samples: ``[rows, width, bands]`` for ``layout.bands``.

    Raises:
      ImageError: a strip or tile is not there or is damaged.
    """
    if layout.compression == OLD_JPEG:
        start, size = layout.jpeg_stream
        stream = data[start : start + size] if size else data[start:]
        whole = decode_file(layout, stream, layout.height)
        yield from ((start, blocks[0]) for start, blocks in _parts(layout, [whole]))
        return
    step = 1
    if not layout.tiled:
        step = max(1, _BAND_BYTES // (layout.row_bytes * layout.segment_height))
    bands = list(layout.bands)
    for first in range(0, layout.segments_down, step):
        last = min(first + step, layout.segments_down)
        top = first * layout.segment_height
        rows = min(last * layout.segment_height, layout.height) - top
        planes = [
            _plane(layout, data, decode_file, plane, first, last, rows)
            for plane in (bands if layout.planar else [0])
        ]
        for start, blocks in _parts(layout, planes):
            block = np.concatenate(blocks, axis=2) if layout.planar else blocks[0]
            if not layout.planar and bands != list(range(block.shape[2])):
                block = block[:, :, bands]
            yield top + start, block[: rows - start]


def _plane(
    layout: Layout,
    data: bytes,
    decode_file: DecodeFile,
    plane: int,
    first: int,
    last: int,
    rows: int,
) -> np.ndarray:
    """Yield rows of segments as stored, ``[segments, rows, bytes]``; strips become one segment.

    Those that are image files become samples: ``[rows, width, bands]``.
    """
    across = layout.segments_across
    start = (plane * layout.segments_down + first) * across
    numbers = range(start, start + (last - first) * across)
    heights = [height for height in _heights(layout, first, last, rows) for _ in range(across)]
    if layout.compression in IMAGE_FILES:
        files = [
            decode_file(layout, bytes(_segment(layout, data, number)), height)
            for number, height in zip(numbers, heights, strict=True)
        ]
        return np.concatenate(files, axis=1 if layout.tiled else 0)[:rows, : layout.width]
    heights = [-(-height // layout.rows_stored) for height in heights]
    raw = _decompressed(layout, data, numbers, heights)
    raw = raw.reshape(len(numbers) if layout.tiled else 1, -1, layout.row_bytes)
    return raw[:, : -(-rows // layout.rows_stored)]


def _parts(layout: Layout, planes: list[np.ndarray]) -> Iterator[tuple[int, list[np.ndarray]]]:
    """Yield planes as samples ``[rows, width, bands]``, in parts small enough for computing.

    Yields:
      The first row of a part, and its samples of each plane.
    """
    if layout.compression in IMAGE_FILES:
        rows = max(1, _BAND_BYTES // planes[0][:1].nbytes)
        for start in range(0, len(planes[0]), rows):
            yield start, [plane[start : start + rows] for plane in planes]
        return
    unpack = _chroma if layout.subsampled else _unpack
    rows = max(1, _BAND_BYTES // planes[0][:, :1].nbytes)
    for start in range(0, planes[0].shape[1], rows):
        blocks = []
        for plane in planes:
            samples = unpack(layout, plane[:, start : start + rows])
            in_rows = np.moveaxis(samples, 0, 1).reshape(samples.shape[1], -1, samples.shape[3])
            blocks.append(in_rows[:, : layout.width])
        yield start * layout.rows_stored, blocks


def _heights(layout: Layout, first: int, last: int, rows: int) -> list[int]:
    """Return the heights of the rows of segments from ``first`` to ``last``, ``rows`` in all."""
    if layout.tiled:
        return [layout.segment_height] * (last - first)
    full = [layout.segment_height] * (last - first - 1)
    return [*full, rows - sum(full)]


# From bytes


def _segment(layout: Layout, data: bytes, number: int, size: int = 0) -> bytes | memoryview:
    """Read the stored bytes of a segment: ``size``, or as many as the file says.

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
    segment = memoryview(data)[start : start + size]
    if layout.fill_order == 2 and layout.compression not in FAX:
        return bytes(segment).translate(_REVERSED_BITS)
    return segment


def _decompressed(layout: Layout, data: bytes, numbers: range, heights: list[int]) -> np.ndarray:
    """Yield the bytes of segments of so many stored rows each, one after the other."""
    sizes = [height * layout.row_bytes for height in heights]
    parts: list[bytes | memoryview] = [b""] * len(numbers)
    for_libtiff: dict[int, bytes | memoryview] = {}
    for n, number in enumerate(numbers):
        if not layout.offsets[number] and not any(layout.counts[number : number + 1]):
            # GDAL leaves out what holds no data.
            parts[n] = bytes(sizes[n])
        elif layout.compression == UNCOMPRESSED:
            parts[n] = _segment(layout, data, number, sizes[n])
        elif layout.compression in DEFLATE:
            parts[n] = _inflate(_segment(layout, data, number), sizes[n])
        else:
            for_libtiff[n] = _segment(layout, data, number)
    if for_libtiff:
        decoded = _by_libtiff(layout, for_libtiff.values(), [heights[n] for n in for_libtiff])
        if len(for_libtiff) == len(parts):
            return decoded
        at = 0
        for n in for_libtiff:
            parts[n] = decoded[at : at + sizes[n]].tobytes()
            at += sizes[n]
    return np.frombuffer(parts[0] if len(parts) == 1 else b"".join(parts), np.uint8)


def _inflate(segment: bytes | memoryview, size: int) -> bytes:
    stream = zlib.decompressobj()
    raw = stream.decompress(segment, size)
    stream.decompress(stream.unconsumed_tail, 1)  # its end has a checksum
    if len(raw) < size:
        raise ImageError(Reason.CORRUPT, "a strip or tile ends too early")
    return raw


def _by_libtiff(
    layout: Layout, segments: Collection[bytes | memoryview], heights: list[int]
) -> np.ndarray:
    """Decompress segments with libtiff, as the strips of a small TIFF.

    This works for tiles as well, since both are compressed alike.
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
        image.load()
        decoded = np.empty((image.height, layout.row_bytes), np.uint8)
        rows = max(1, _BAND_BYTES // layout.row_bytes)
        for top in range(0, image.height, rows):  # Pillow hands out copies
            part = image.crop((0, top, image.width, min(top + rows, image.height)))
            decoded[top : top + rows] = np.frombuffer(part.tobytes(), np.uint8).reshape(
                -1, layout.row_bytes
            )
    return decoded.reshape(-1)


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
    # Eight samples are in as many bytes as each has bits.
    count = layout.segment_width * bands
    missing = -(-count // 8) * bits - raw.shape[2]
    groups = np.pad(raw, ((0, 0), (0, 0), (0, missing))).reshape(*raw.shape[:2], -1, bits)
    loose = np.empty((*groups.shape[:3], 8), np.uint8 if bits < 8 else np.uint16)
    for n in range(8):
        first, last = n * bits // 8, ((n + 1) * bits - 1) // 8
        value = groups[..., first].astype(np.uint32)
        for byte in range(first + 1, last + 1):
            value = value << 8 | groups[..., byte]
        loose[..., n] = value >> (last + 1) * 8 - (n + 1) * bits & (1 << bits) - 1
    return loose.reshape(*raw.shape[:2], -1)[..., :count].reshape(shape)


def _undo_float_differences(layout: Layout, raw: np.ndarray) -> np.ndarray:
    """Turn rows of byte differences, the highest bytes first, into big-endian rows."""
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
