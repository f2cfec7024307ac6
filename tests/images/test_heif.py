"""HEIC and AVIF: the image that is meant to be shown, cropped and turned as the file says."""

import numpy as np
import pytest
from helpers.heif import Item, auxiliary, av1, cropped, exif, grid, heif, hevc, mirrored, picture
from helpers.heif import rotated as turned
from PIL import Image, ImageOps

from pipeline.errors import ImageError
from pipeline.images.decode import decode
from pipeline.images.registry import SUFFIXES
from pipeline.records import Reason

RED, GREEN, BLUE, WHITE = (220, 30, 40), (20, 200, 60), (30, 40, 210), (250, 250, 250)
SIZE = (128, 96)
BOX = (10, 20, 90, 70)


def drawing(width=SIZE[0], height=SIZE[1]):
    """Four quarters, each of another color."""
    image = Image.new("RGB", (width, height))
    for n, color in enumerate((RED, GREEN, BLUE, WHITE)):
        left, top = (n % 2) * width // 2, (n // 2) * height // 2
        image.paste(color, (left, top, left + width // 2, top + height // 2))
    return image


def with_properties(item, *properties):
    return item._replace(properties={**item.properties, **dict(properties)})


def difference(data, expected):
    """Of what is decoded from another image, on average of 255; their sizes are equal."""
    decoded = decode(data, expected.height, expected.width)
    assert (decoded.width, decoded.height) == expected.size
    return np.abs(decoded.pixels.astype(int) - np.asarray(expected.convert("RGB"))).mean()


CODED = {"heic": hevc(drawing()), "avif": av1(drawing())}


@pytest.mark.parametrize("brand", CODED)
@pytest.mark.parametrize(
    ("properties", "change"),
    [
        ([], lambda image: image),
        ([turned(0)], lambda image: image),
        ([turned(1)], lambda image: image.rotate(90, expand=True)),
        ([turned(2)], lambda image: image.rotate(180)),
        ([turned(3)], lambda image: image.rotate(270, expand=True)),
        ([mirrored(0)], ImageOps.flip),
        ([mirrored(1)], ImageOps.mirror),
        ([turned(1), mirrored(0)], lambda image: ImageOps.flip(image.rotate(90, expand=True))),
        ([turned(3), mirrored(1)], lambda image: ImageOps.mirror(image.rotate(270, expand=True))),
        ([cropped(SIZE, BOX)], lambda image: image.crop(BOX)),
        (
            [cropped(SIZE, BOX), turned(1), mirrored(1)],
            lambda image: ImageOps.mirror(image.crop(BOX).rotate(90, expand=True)),
        ),
    ],
)
def test_crop_rotation_and_mirroring(brand, properties, change):
    item = with_properties(CODED[brand], *properties)
    expected = change(drawing())
    assert difference(heif(item, brand=brand.encode()), expected) < 3
    # Exif says something else, and is nothing to go by.
    assert difference(heif(item, exif(6), brand=brand.encode()), expected) < 3


def test_it_is_what_libheif_makes_of_it():
    for bits in (8, 10):
        data = heif(with_properties(hevc(drawing(), bits), cropped(SIZE, BOX), turned(3)))
        assert difference(data, picture(data)) < 1


def test_ten_bits():
    assert difference(heif(hevc(drawing(), 10)), drawing()) < 3


def test_depth_and_gain_maps_are_passed_over():
    maps = [
        auxiliary(drawing(64, 48), "urn:mpeg:hevc:2015:auxid:2"),
        auxiliary(drawing(64, 48), "urn:com:apple:photo:2020:aux:hdrgainmap"),
    ]
    assert difference(heif(CODED["heic"], *maps), drawing()) < 3


def test_the_primary_image_of_a_burst():
    others = [hevc(Image.new("RGB", SIZE, BLUE)) for _ in range(2)]
    assert difference(heif(others[0], CODED["heic"], others[1], primary=1), drawing()) < 3


def test_an_image_of_tiles():
    whole = drawing(256, 192)
    tiles = [hevc(whole.crop((x, y, x + 128, y + 96))) for y in (0, 96) for x in (0, 128)]
    data = heif(grid(2, 2, 250, 180), *tiles)
    assert difference(data, whole.crop((0, 0, 250, 180))) < 3
    turned_back = heif(with_properties(grid(2, 2, 250, 180), turned(2)), *tiles)
    assert difference(turned_back, whole.crop((0, 0, 250, 180)).rotate(180)) < 3


def test_alpha_is_composited_on_white():
    mask = Image.new("L", SIZE, 255)
    mask.paste(0, (0, 0, 64, 96))
    data = heif(CODED["heic"], auxiliary(mask, "urn:mpeg:hevc:2015:auxid:1"))
    pixels = decode(data, 96, 128).pixels
    assert (pixels[:, :60] > 250).all()
    assert np.abs(pixels[20, 100].astype(int) - GREEN).max() < 12


@pytest.mark.parametrize("brand", CODED)
@pytest.mark.parametrize("tenth", range(1, 10))
def test_files_that_are_cut_off(brand, tenth):
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 256, (120, 160, 3), np.uint8))
    data = heif({"heic": hevc, "avif": av1}[brand](noise), brand=brand.encode())
    with pytest.raises(ImageError) as caught:
        decode(data[: len(data) * tenth // 10], 24, 32)
    assert caught.value.reason is Reason.TRUNCATED


@pytest.mark.parametrize(
    ("data", "reason", "message"),
    [
        (
            heif(CODED["heic"]._replace(kind=b"j2k1")),
            Reason.UNSUPPORTED_FORMAT,
            "holds an image that is coded as JPEG 2000",
        ),
        (
            heif(CODED["heic"]._replace(kind=b"abcd")),
            Reason.UNSUPPORTED_FORMAT,
            "holds an image that is coded as b'abcd'",
        ),
        (
            heif(with_properties(CODED["avif"], cropped(SIZE, (90, 20, 200, 70))), brand=b"avif"),
            Reason.CORRUPT,
            "its crop box",
        ),
        (
            heif(with_properties(CODED["avif"], (b"clap", bytes(32))), brand=b"avif"),
            Reason.CORRUPT,
            "a fraction of zero",
        ),
        (
            heif(with_properties(CODED["heic"], (b"ispe", b"\0\0\0\0" + b"\0\1\0\0" * 2))),
            Reason.TOO_MANY_PIXELS,
            "65536 × 65536 pixels",
        ),
        (
            heif(Item(b"grid", CODED["heic"].data, {}, {b"dimg": [0]})),
            Reason.UNSUPPORTED_FORMAT,
            "coded as",
        ),
        (
            heif(CODED["heic"], brand=b"mp42")[:8] + b"mp42" + bytes(40),
            Reason.NOT_AN_IMAGE,
            "begins with",
        ),
    ],
)
def test_what_is_not_read(data, reason, message):
    with pytest.raises(ImageError, match=message) as caught:
        decode(data, 24, 32)
    assert caught.value.reason is reason


def test_folders_are_looked_through_for_them():
    assert {".heic", ".heif", ".hif", ".avif"} <= set(SUFFIXES)
