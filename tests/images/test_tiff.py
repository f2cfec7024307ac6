"""Kinds of TIFF are decoded as tifffile decodes them, or are refused by name."""

import dataclasses
import io
import itertools
import os
import struct
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from helpers import ROOT
from helpers.corpus import encoded, gray_tiff, photo
from PIL import Image

from pipeline.errors import ImageError
from pipeline.images.decode import decode
from pipeline.records import Reason
from tools.tiff_kinds import (
    HEIGHT,
    WIDTH,
    Kind,
    compressed,
    encode,
    outcome,
    photograph,
    reference,
    rows,
)

GRAY = (photograph() @ [0.3, 0.6, 0.1] * 255).astype(np.uint8)
COLOR = (photograph() * 255).astype(np.uint8)


def written(samples, **options):
    """A TIFF that tifffile writes."""
    file = io.BytesIO()
    tifffile.imwrite(file, samples, metadata=None, **options)
    return file.getvalue()


def pixels(data):
    """Its pixels, at their own size."""
    return decode(data, HEIGHT, WIDTH).pixels


def difference(data, expected):
    """From gray ``[height, width]`` or RGB, in 255ths."""
    expected = np.asarray(expected, float)
    return np.abs(pixels(data) - (expected if expected.ndim == 3 else expected[..., None])).mean()


def refusal(data, reason=Reason.UNSUPPORTED_FORMAT):
    with pytest.raises(ImageError) as caught:
        pixels(data)
    assert caught.value.reason is reason
    return caught.value.message


# The white list, row by row

TABLE = {}
for row in rows():
    TABLE.setdefault((row.photometric, row.sample_format, row.bits), []).append(row)


@pytest.mark.parametrize("kinds", TABLE.values(), ids=["-".join(map(str, key)) for key in TABLE])
def test_every_kind_is_decoded_rightly_or_refused_by_name(kinds):
    for kind in itertools.chain.from_iterable(map(compressed, kinds)):
        outcome(kind)


COMMON = [
    *[Kind(1, 8), Kind(0, 1), Kind(1, 12), Kind(1, 16), Kind(0, 16), Kind(1, 32), Kind(1, 16, 2)],
    *[Kind(1, 32, 3), Kind(1, 64, 3), Kind(2, 8), Kind(2, 16), Kind(2, 32, 3), Kind(2, 16, 3)],
    *[Kind(2, 8, 1, (2,)), Kind(2, 16, 1, (1,)), Kind(3, 4), Kind(3, 8), Kind(5, 8), Kind(5, 16)],
    *[Kind(6, 8), Kind(8, 8), Kind(8, 16), Kind(9, 16), Kind(1, 16, 1, (0, 0))],
]


def decoded(kind):
    return outcome(kind).difference is not None


@pytest.mark.parametrize("kind", COMMON, ids=str)
def test_what_is_common_is_decoded(kind):
    for other in (kind, dataclasses.replace(kind, planar=kind.samples > 1)):
        for compression in (1, 5, 8, 32773, 34925, 50000):
            assert decoded(dataclasses.replace(other, compression=compression))


@pytest.mark.parametrize("kind", COMMON, ids=str)
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("tile", [0, 16, 64])
def test_orders_of_bytes_and_tiles(kind, order, big, tile):
    for planar, compression in itertools.product({False, kind.samples > 1}, (1, 5, 8)):
        changes = {"order": order, "big": big, "tile": tile}
        changes |= {"planar": planar, "compression": compression}
        assert decoded(dataclasses.replace(kind, **changes))


@pytest.mark.parametrize("kind", [kind for kind in COMMON if kind.bits in (8, 16, 32, 64)], ids=str)
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("tile", [0, 16])
def test_predictors(kind, order, tile):
    for planar, compression in itertools.product({False, kind.samples > 1}, (5, 8, 34925, 50000)):
        changes = {"order": order, "tile": tile, "planar": planar, "compression": compression}
        assert decoded(dataclasses.replace(kind, predictor=2, **changes))
        if kind.sample_format == 3:
            assert decoded(dataclasses.replace(kind, predictor=3, **changes))


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("photometric", [0, 1, 3])
def test_bits_in_reversed_order(photometric, bits):
    for compression in (1, 5, 32773):
        assert decoded(Kind(photometric, bits, compression=compression, fill_order=2))
    assert "fill order 2" in outcome(Kind(photometric, bits, compression=8, fill_order=2)).message


def test_a_fax_in_reversed_order():
    image = photo(64, 48, "1")
    straight, reversed_ = (
        encoded(image, "TIFF", compression="group4", tiffinfo={266: order}) for order in (1, 2)
    )
    assert (pixels(straight) == pixels(reversed_)).all()


@pytest.mark.parametrize("compression", ["group3", "group4", "tiff_ccitt"])
@pytest.mark.parametrize("photometric", [0, 1])
def test_faxes(compression, photometric):
    image = photo(64, 48, "1")
    data = encoded(image, "TIFF", compression=compression, tiffinfo={262: photometric})
    whole = decode(data, 48, 64).pixels
    assert (whole[..., 0] == np.asarray(image) * 255).all()


@pytest.mark.parametrize("subsampling", itertools.product([1, 2, 4], [1, 2]), ids=str)
@pytest.mark.parametrize("compression", [1, 5, 8])
def test_uncompressed_chroma(subsampling, compression):
    kind = Kind(6, 8, compression=compression, subsampling=subsampling)
    # tifffile does not read it, so it is held against the photograph, which had more chroma.
    assert difference(encode(kind), photograph() * 255) < 5
    tiled = dataclasses.replace(kind, tile=16)
    assert difference(encode(tiled), photograph() * 255) < 5
    assert difference(encode(dataclasses.replace(kind, subsampling=(1, 1))), photograph() * 255) < 1


# What is corrected


def test_white_is_zero_of_16_bits():
    data = written(
        65535 - GRAY.astype(np.uint16) * 257, photometric="miniswhite", compression="zlib"
    )
    assert difference(data, GRAY) < 1


def test_16_bit_planes():
    planes = np.moveaxis(COLOR.astype(np.uint16) * 257, -1, 0)
    data = written(planes, photometric="rgb", planarconfig="separate")
    assert difference(data, COLOR) < 1


@pytest.mark.parametrize("most", [255, 65535])
def test_color_maps_of_8_and_16_bits(most):
    table = np.linspace([0, 0, most], [most, most, 0], 256).round().astype(np.uint16)
    data = written(GRAY, photometric="palette", colormap=table.T)
    assert difference(data, table[GRAY] * (255 / most)) <= 1


def test_three_bands_of_black_and_white_are_colors():
    data = written(COLOR, photometric="minisblack", planarconfig="contig")
    assert difference(data, COLOR) == 0
    with_alpha = np.concatenate([COLOR, np.full_like(GRAY, 255)[..., None]], -1)
    extra = ["unspecified", "unspecified", "unassalpha"]
    data = written(with_alpha, photometric="minisblack", planarconfig="contig", extrasamples=extra)
    assert difference(data, COLOR) == 0


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floats_of_rgb(dtype):
    assert difference(written((COLOR / 255).astype(dtype), photometric="rgb"), COLOR) < 1


def nodata(value):
    return {"extratags": [(42113, 2, 0, str(value), True)]} if value is not None else {}


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16, np.int32])
@pytest.mark.parametrize(
    ("value", "tag"),
    [(-9999, -9999), (-9999, None), (-32768, None), (9999, 9999), (np.nan, "nan"), (np.nan, None)],
)
def test_what_stands_for_no_data_does_not_stretch_the_range(dtype, value, tag):
    if np.isnan(value) and dtype in (np.int16, np.int32):
        pytest.skip("no integer")
    elevation = (GRAY.astype(dtype) - 100) * 2
    patch = np.s_[20:24, 20:25]
    assert elevation[patch].min() > elevation.min()
    assert elevation[patch].max() < elevation.max()
    low, high = float(elevation.min()), float(elevation.max())
    expected = (elevation - low) / (high - low) * 255
    elevation[patch] = value
    expected[patch] = 0
    assert difference(written(elevation, photometric="minisblack", **nodata(tag)), expected) < 1


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.finfo(np.float32).min])
def test_other_values_for_no_data(value):
    elevation = GRAY.astype(np.float32) / 255
    elevation[0, 0] = value
    assert difference(written(elevation, photometric="minisblack"), GRAY) < 2


def test_no_data_at_all():
    nothing = np.full((HEIGHT, WIDTH), np.nan, np.float32)
    assert (pixels(written(nothing, photometric="minisblack")) == 0).all()


def test_customary_values_are_data_where_there_is_less():
    samples = np.linspace(-20_000, 20_000, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH).astype(np.float32)
    expected = (samples + 20_000) / 40_000 * 255
    samples[9, 9] = -9999
    assert difference(written(samples, photometric="minisblack"), expected) < 1


def test_tiles_that_are_left_out_have_no_data():
    data = bytearray(written(COLOR, photometric="rgb", tile=(16, 16), compression="zlib"))
    with tifffile.TiffFile(io.BytesIO(bytes(data))) as file:
        offsets, counts = (file.pages[0].tags[code].valueoffset for code in (324, 325))
    data[offsets : offsets + 4] = data[counts : counts + 4] = bytes(4)
    result = pixels(bytes(data))
    assert (result[:16, :16] == 0).all()
    assert (result[16:] == COLOR[16:]).all()


# Which image counts


@pytest.mark.parametrize("subfile", [1, 4, 5])
def test_a_thumbnail_or_mask_in_front_is_passed_over(subfile):
    photometric = "mask" if subfile & 4 else "minisblack"
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        writer.write(np.zeros((8, 8), bool), subfiletype=subfile, photometric=photometric)
        writer.write(COLOR, photometric="rgb")
    decoded = decode(file.getvalue(), HEIGHT, WIDTH)
    assert (decoded.width, decoded.height) == (WIDTH, HEIGHT)
    assert (decoded.pixels == COLOR).all()


def test_the_first_page_and_the_largest_level_count():
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        writer.write(COLOR, photometric="rgb", subifds=1)
        writer.write(COLOR[::2, ::2], photometric="rgb", subfiletype=1)
        writer.write(255 - COLOR, photometric="rgb")
    assert difference(file.getvalue(), COLOR) == 0


@pytest.mark.parametrize(
    ("tags", "name"),
    [
        ([(50706, 1, 4, b"\1\4\0\0", True)], "DNG"),
        ([(271, 2, 0, "NIKON CORPORATION", True)], "NIKON CORPORATION"),
        ([], "of an unknown make"),
    ],
)
def test_camera_raw_files_are_named(tags, name):
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        writer.write(np.zeros((8, 8, 3), np.uint8), photometric="rgb", subifds=1, extratags=tags)
        writer.write(
            GRAY.astype(np.uint16),
            photometric="cfa",
            extratags=[(33421, 3, 2, (2, 2), True), (33422, 1, 4, b"\0\1\1\2", True)],
        )
    assert f"a camera raw file ({name})" in refusal(file.getvalue())


def test_canon_raw_files_are_named():
    plain = gray_tiff(8, 8, bytes(64))
    # The directory is moved away, since Canon's mark comes where it was.
    data = plain[:4] + struct.pack("<I", len(plain)) + b"CR\2\0" + plain[12:] + plain[8:1024]
    assert "a camera raw file (CR2)" in refusal(data)


# Image files in strips and tiles


@pytest.mark.parametrize("photometric", ["rgb", "ycbcr"])
@pytest.mark.parametrize("tile", [None, (16, 16)])
def test_jpeg_strips(photometric, tile):
    options = {} if tile else {"rowsperstrip": 16}
    data = written(
        COLOR,
        photometric=photometric,
        compression="jpeg",
        compressionargs={"level": 98},
        tile=tile,
        **options,
    )
    assert difference(data, reference(data)) < 1


def test_jpeg_with_tables_apart():
    data = encoded(Image.fromarray(COLOR), "TIFF", compression="jpeg", quality=98)
    assert difference(data, COLOR) < 3
    assert difference(data, reference(data)) < 1


def test_an_old_jpeg_that_is_whole():
    stream = imagecodecs.jpeg8_encode(COLOR, 98, subsampling="444")
    fields = {
        259: (3, 1, 6),
        262: (3, 1, 6),
        277: (3, 1, 3),
        513: (4, 1, 1024),
        514: (4, 1, len(stream)),
    }
    assert difference(gray_tiff(WIDTH, HEIGHT, stream, fields), COLOR) < 3


@pytest.mark.parametrize(
    ("segment", "name"),
    [
        (imagecodecs.jpeg8_encode(GRAY, lossless=True), "it holds a lossless JPEG of 8 bits"),
        (imagecodecs.jpegls_encode(GRAY), "it holds a JPEG-LS of 8 bits"),
        (
            imagecodecs.jpeg8_encode(GRAY.astype(np.uint16) * 16, bitspersample=12),
            "it holds an extended sequential JPEG of 12 bits",
        ),
    ],
)
def test_odd_jpegs_in_strips_are_named(segment, name):
    assert name in refusal(gray_tiff(WIDTH, HEIGHT, segment, compression=7))


def test_a_strip_of_another_size():
    segment = imagecodecs.jpeg8_encode(GRAY[:20])
    message = refusal(gray_tiff(WIDTH, HEIGHT, segment, compression=7), Reason.CORRUPT)
    assert f"a strip or tile is {WIDTH} × 20 pixels, not {WIDTH} × {HEIGHT}" in message


# What is refused


@pytest.mark.parametrize(
    ("samples", "options", "names"),
    [
        (
            np.zeros((HEIGHT, WIDTH, 5), np.uint16),
            {"photometric": "minisblack"},
            ["5 bands", "16-bit"],
        ),
        (
            np.zeros((HEIGHT, WIDTH, 4), np.uint8),
            {"photometric": "minisblack"},
            ["4 bands", "8-bit"],
        ),
        (
            np.zeros((HEIGHT, WIDTH), np.complex64),
            {"photometric": "minisblack"},
            ["complex", "64-bit"],
        ),
        (np.zeros((HEIGHT, WIDTH), np.int8), {"photometric": "minisblack"}, ["8-bit signed"]),
        (np.zeros((HEIGHT, WIDTH), np.uint64), {"photometric": "minisblack"}, ["64-bit unsigned"]),
        (np.zeros((HEIGHT, WIDTH, 3), np.int16), {"photometric": "rgb"}, ["RGB", "16-bit signed"]),
        (GRAY, {"photometric": "minisblack", "compression": "jpegxl"}, ["JPEG XL"]),
        (GRAY, {"photometric": "minisblack", "compression": "jpeg2000"}, ["JPEG 2000"]),
        (GRAY, {"photometric": "minisblack", "compression": "lerc"}, ["LERC"]),
        (GRAY, {"photometric": "minisblack", "compression": "png"}, ["PNG"]),
        (GRAY, {"photometric": "logl"}, ["LogL"]),
        (GRAY, {"photometric": "mask"}, ["transparency mask"]),
        (GRAY, {"photometric": "depth_map"}, ["depth map"]),
    ],
)
def test_what_is_refused_is_named(samples, options, names):
    planar = {"planarconfig": "contig"} if samples.ndim == 3 else {}
    message = refusal(written(samples, **options, **planar))
    assert all(name in message for name in ["a TIFF of", *names]), message


@pytest.mark.parametrize("compression", [None, "lzw", "zlib", "packbits", "lzma", "zstd", "jpeg"])
@pytest.mark.parametrize("tenth", range(2, 10))
def test_files_that_are_cut_off(compression, tenth):
    data = written(COLOR, photometric="rgb", compression=compression, rowsperstrip=8)
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        end = max(np.add(file.pages[0].dataoffsets, file.pages[0].databytecounts))
    refusal(data[: end * tenth // 10], Reason.TRUNCATED)


@pytest.mark.parametrize("compression", ["lzw", "zlib", "jpeg"])
def test_damaged_strips(compression):
    data = bytearray(written(COLOR, photometric="rgb", compression=compression))
    with tifffile.TiffFile(io.BytesIO(bytes(data))) as file:
        start = file.pages[0].dataoffsets[0]
    data[start + 700 : start + 760] = b"\xff" * 60
    refusal(bytes(data), Reason.CORRUPT)


# The files of which the README in their folder says what is right


def cases():
    fixtures = os.environ.get("LABELING_FIXTURES") or ROOT.parent / "shared" / "fixtures"
    return {
        path.name.partition("__")[0]: path
        for path in (Path(fixtures).parent / "cases" / "images").glob("*.[tb][im][fp]")
    }


@pytest.mark.skipif(not cases(), reason="the cases are not beside LABELING_FIXTURES")
def test_cases():
    right = tifffile.imread(cases()["tiff_3band_minisblack"]).astype(float)
    gray = (right @ [0.299, 0.587, 0.114])[..., None]
    colors = {"rgb16_planar_uncompressed": 1, "3band_minisblack": 0, "rgb_float32": 1}
    for kind, most in {**colors, "palette_8bit_colormap": 4}.items():
        found = decode(cases()[f"tiff_{kind}"].read_bytes(), 375, 500).pixels
        assert np.abs(found - right).mean() <= most, kind
    found = decode(cases()["tiff_gray16_miniswhite"].read_bytes(), 375, 500).pixels
    assert np.abs(found - gray).mean() < 1
    elevation = tifffile.imread(cases()["tiff_float_nodata_-9999"])
    found = decode(cases()["tiff_float_nodata_-9999"].read_bytes(), 375, 500).pixels
    has_data = elevation != -9999
    low, high = elevation[has_data].min(), elevation[has_data].max()
    expected = (elevation[has_data] - low) / (high - low) * 255
    assert np.abs(found[has_data] - expected[:, None]).mean() < 1
    assert (found[~has_data] == 0).all()
    bitfields = decode(cases()["bmp_rgb32bf_bitfields"].read_bytes(), 64, 127)
    assert (bitfields.width, bitfields.height) == (127, 64)
