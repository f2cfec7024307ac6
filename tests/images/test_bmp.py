"""BMPs of every kind, of pixels that are known."""

import struct

import imagecodecs
import numpy as np
import pytest

from pipeline.errors import ImageError
from pipeline.images.decode import decode
from pipeline.records import Reason

WIDTH, HEIGHT = 13, 9


def ramp(colors):
    """Indices ``[HEIGHT, WIDTH]`` below ``colors``: runs and single pixels."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return ((x // 3 + y * 5 + (x > 8) * x) % colors).astype(np.uint8)


def palette(colors):
    return (np.arange(colors * 3).reshape(colors, 3) * 37 % 256).astype(np.uint8)


def photograph(channels=3):
    return np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, channels), np.uint8)


def rows(indices_or_words, bits):
    """Pixels as numbers ``[HEIGHT, WIDTH]`` → stored rows, each of whole words of 4 bytes."""
    shifts = np.arange(bits, dtype=np.uint64)[::-1]
    loose = indices_or_words.astype(np.uint64)[..., None] >> shifts & np.uint64(1)
    if bits > 8:  # little-endian
        loose = loose.reshape(*loose.shape[:2], -1, 8)[:, :, ::-1]
    packed = np.packbits(loose.reshape(len(loose), -1).astype(np.uint8), axis=1)
    return np.pad(packed, ((0, 0), (0, -packed.shape[1] % 4)))


def bmp(stored, bits, *, table=b"", size=40, compression=0, masks=(), top_down=False, colors=0):
    """A BMP; ``stored``: rows from top to bottom, or what is compressed."""
    if not isinstance(stored, bytes):
        stored = (stored if top_down else stored[::-1]).tobytes()
    height = -HEIGHT if top_down else HEIGHT
    if size == 12:
        header = struct.pack("<IHHHH", 12, WIDTH, HEIGHT, 1, bits)
    else:
        header = struct.pack(
            "<IiiHHIIiiII", size, WIDTH, height, 1, bits, compression, 0, 0, 0, colors, 0
        )
        header = header[:size]
    within = struct.pack(f"<{len(masks)}I", *masks)
    header = header + within if size == 40 else (header + within).ljust(size, b"\0")
    start = 14 + len(header) + len(table)
    return struct.pack("<2sIHHI", b"BM", start + len(stored), 0, 0, start) + header + table + stored


def table(colors, entry=4):
    return np.pad(palette(colors)[:, ::-1], ((0, 0), (0, entry - 3))).tobytes()


def pixels(data):
    return decode(data, HEIGHT, WIDTH).pixels


def refusal(data, reason=Reason.UNSUPPORTED_FORMAT):
    with pytest.raises(ImageError) as caught:
        pixels(data)
    assert caught.value.reason is reason
    return caught.value.message


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("top_down", [False, True])
@pytest.mark.parametrize("size", [12, 16, 40, 52, 56, 64, 108, 124])
def test_palettes(bits, top_down, size):
    if size == 12 and top_down:
        pytest.skip("its height has no sign")
    indices = ramp(1 << bits)
    entries = table(1 << bits, 3 if size == 12 else 4)
    data = bmp(rows(indices, bits), bits, table=entries, size=size, top_down=top_down)
    assert (pixels(data) == palette(1 << bits)[indices]).all()
    if top_down:
        return
    headless = data[14:]  # a DIB
    if size in (40, 52, 56, 64, 108, 124):
        assert (pixels(headless) == palette(1 << bits)[indices]).all()


def test_a_short_palette():
    indices = ramp(5)
    data = bmp(rows(indices, 8), 8, table=table(5), colors=5)
    assert (pixels(data) == palette(5)[indices]).all()
    beyond = bmp(rows(indices + 3, 8), 8, table=table(5), colors=5)
    assert (pixels(beyond)[indices > 1] == 0).all()


def words(image, masks):
    """Colors ``[…, channels]`` of the masks' depths → numbers."""
    out = np.zeros(image.shape[:2], np.uint64)
    for band, mask in enumerate(masks):
        if mask:
            shift = (mask & -mask).bit_length() - 1
            out |= image[..., band].astype(np.uint64) * (mask >> shift) // 255 << np.uint64(shift)
    return out


@pytest.mark.parametrize(
    ("bits", "compression", "masks"),
    [
        *[(16, 0, ()), (24, 0, ()), (32, 0, ())],
        *[(16, 3, (0xF800, 0x7E0, 0x1F)), (16, 3, (0x7C00, 0x3E0, 0x1F))],
        *[(16, 3, (0xF00, 0xF0, 0xF)), (32, 3, (0xFF0000, 0xFF00, 0xFF))],
        *[(32, 3, (0xFF, 0xFF00, 0xFF0000)), (32, 3, (0xFF000000, 0xFF0000, 0xFF00))],
        *[(32, 3, (0x3FF00000, 0xFFC00, 0x3FF)), (32, 3, (0xFFF00000, 0xFF000, 0xFFF))],
        *[(32, 3, (0xE0000000, 0x1C0000, 0x3)), (24, 3, (0xFF, 0xFF00, 0xFF0000))],
    ],
)
@pytest.mark.parametrize("top_down", [False, True])
@pytest.mark.parametrize("size", [40, 52, 56, 108, 124])
def test_colors(bits, compression, masks, top_down, size):
    usual = {16: (0x7C00, 0x3E0, 0x1F)}.get(bits, (0xFF0000, 0xFF00, 0xFF))
    image = photograph()
    stored = rows(words(image, masks or usual), bits)
    data = bmp(stored, bits, compression=compression, masks=masks, top_down=top_down, size=size)
    most = [mask // (mask & -mask) for mask in masks or usual]
    expected = image.astype(np.uint64) * most // 255 * 255 / most
    assert np.abs(pixels(data) - expected).max() <= 0.5


@pytest.mark.parametrize("size", [56, 108, 124])
@pytest.mark.parametrize(
    "masks", [(0xFF0000, 0xFF00, 0xFF, 0xFF000000), (0xF00, 0xF0, 0xF, 0xF000)]
)
def test_alpha(size, masks):
    bits = 32 if masks[0] > 0xFFFF else 16
    image = photograph(4) // 17 * 17
    data = bmp(rows(words(image, masks), bits), bits, compression=3, masks=masks, size=size)
    alpha = image[..., 3:] / 255
    expected = image[..., :3] * alpha + 255 * (1 - alpha)
    assert np.abs(pixels(data) - expected).max() <= 2


def test_alpha_in_front_of_the_pixels():
    masks = (0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    image = photograph(4)
    image[..., 3] = 255
    data = bmp(rows(words(image, masks), 32), 32, compression=6, masks=masks)
    assert (pixels(data) == image[..., :3]).all()


def test_alpha_that_was_never_filled_in_is_none():
    masks = (0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    image = photograph(4)
    image[..., 3] = 0
    data = bmp(rows(words(image, masks), 32), 32, compression=3, masks=masks, size=124)
    assert (pixels(data) == image[..., :3]).all()


@pytest.mark.parametrize("bits", [1, 4, 8, 16, 24])
def test_imagecodecs_reads_the_same(bits):
    if not hasattr(imagecodecs, "bmp_decode"):
        pytest.skip("this version does not read BMPs")
    stored = (
        rows(ramp(1 << bits), bits)
        if bits <= 8
        else rows(words(photograph(), (0x7C00, 0x3E0, 0x1F)), bits)
    )
    data = bmp(stored, bits, table=table(1 << bits) if bits <= 8 else b"")
    other = imagecodecs.bmp_decode(data, asrgb=True)
    assert np.abs(pixels(data).astype(int) - other.reshape(HEIGHT, WIDTH, -1)).max() <= 8  # 5 bits


# Run lengths


def encoded_runs(indices, four):
    """Runs for pixels that repeat, and pixels as they are where they do not."""
    out = b""
    for row in indices[::-1].tolist():
        at = 0
        while at < len(row):
            count = 1
            while at + count < len(row) and row[at + count] == row[at]:
                count += 1
            rest = row[at : at + 5]
            if count == 1 and len(rest) == 5:
                if four:
                    packed = bytes([rest[0] << 4 | rest[1], rest[2] << 4 | rest[3], rest[4] << 4])
                else:
                    packed = bytes(rest)
                out += b"\0\5" + packed + bytes(len(packed) % 2)
                at += 5
            else:
                out += bytes([count, row[at] << 4 | row[at] if four else row[at]])
                at += count
        out += b"\0\0"
    return out + b"\0\1"


@pytest.mark.parametrize("four", [False, True])
@pytest.mark.parametrize("shift", [0, 1])
def test_run_lengths(four, shift):
    bits = 4 if four else 8
    indices = (ramp(16) + np.arange(WIDTH) * shift).astype(np.uint8) % 16
    table_ = table(1 << bits)
    if shift:  # at an odd offset of the file
        table_ += b"\0"
    data = bmp(encoded_runs(indices, four), bits, table=table_, compression=2 if four else 1)
    assert (pixels(data) == palette(1 << bits)[indices]).all()


def test_alternating_runs_of_4_bits():
    stored = b"".join([b"\x0d\x12\0\0"] * HEIGHT) + b"\0\1"
    data = bmp(stored, 4, table=table(16), compression=2)
    assert (pixels(data) == palette(16)[np.arange(WIDTH) % 2 + 1]).all()


@pytest.mark.parametrize("four", [False, True])
def test_moves_and_early_ends(four):
    value = 0x33 if four else 3
    stored = bytes([4, value, 0, 2, 2, 1, 3, value, 0, 0, 2, value, 0, 1])
    data = bmp(stored, 4 if four else 8, table=table(16), compression=2 if four else 1)
    expected = np.zeros((HEIGHT, WIDTH), np.uint8)
    expected[-1, :4] = expected[-2, 6:9] = expected[-3, :2] = 3
    assert (pixels(data) == palette(16)[expected]).all()


def test_a_run_ends_with_its_row():
    stored = b"\xff\1\0\0\0\6\2\2\2\2\2\2" * 5 + b"\0\0\0\1"
    data = bmp(stored, 8, table=table(256), compression=1)
    assert (pixels(data)[-1] == palette(256)[1]).all()


@pytest.mark.parametrize("end", [0, 1, 7, 40])
def test_runs_that_end_early(end):
    stored = encoded_runs(ramp(16), False)
    data = bmp(stored[: len(stored) * end // 50], 8, table=table(256), compression=1)
    assert "ends before" in refusal(data, Reason.TRUNCATED)


# What is not read, or is not whole


@pytest.mark.parametrize(
    ("bits", "compression", "size", "name"),
    [
        *[
            (24, 4, 40, "24 bits, JPEG"),
            (24, 5, 124, "24 bits, PNG"),
            (32, 11, 40, "32 bits, CMYK"),
        ],
        *[
            (1, 3, 64, "1 bits, Huffman-coded"),
            (24, 4, 64, "24 bits, run-length encoded in 24 bits"),
        ],
        *[(8, 99, 40, "8 bits, compression 99"), (3, 0, 40, "3 bits"), (64, 0, 124, "64 bits")],
    ],
)
def test_what_is_not_read_is_named(bits, compression, size, name):
    data = bmp(bytes(2000), bits, compression=compression, size=size)
    assert f"a BMP of {name}" in refusal(data)


@pytest.mark.parametrize("masks", [(0x5, 0xF0, 0xF00), (0x1FFFF, 0, 0)])
def test_odd_masks_are_named(masks):
    data = bmp(rows(ramp(16), 16), 16, compression=3, masks=masks)
    assert f"with the color mask {masks[0]:#x}" in refusal(data)


@pytest.mark.parametrize("missing", [1, 4, 40, 300])
def test_rows_that_are_missing(missing):
    data = bmp(rows(words(photograph(), (0xFF0000, 0xFF00, 0xFF)), 24), 24)
    padding = 1  # of the row that is stored last
    if missing <= padding:
        assert pixels(data[:-missing]).any()
    else:
        refusal(data[:-missing], Reason.TRUNCATED)
