"""Kinds of TIFF are decoded as tifffile decodes them, or are refused by name."""

import dataclasses
import io
import itertools

import numpy as np
import pytest
import tifffile
from helpers.corpus import encoded, photo

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
