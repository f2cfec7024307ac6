"""The kinds of JPEG, as their frame headers tell them apart."""

import imagecodecs
import numpy as np
import pytest
from helpers.corpus import encoded, photo, segment
from PIL import Image

from pipeline.images.containers.jpeg import kind_of
from pipeline.images.decode import decode

PLAIN = encoded(photo(), "JPEG")
GRAY = np.asarray(photo(mode="L"))
COLOR = np.asarray(photo())


def with_frame(data, marker=None, bits=None, height=None, components=None, factors=()):
    """``data`` with another baseline frame header; ``factors``: of its components' samples."""
    at = data.index(b"\xff\xc0")
    changed = bytearray(data)
    for place, value in ((at + 1, marker), (at + 4, bits), (at + 9, components)):
        if value is not None:
            changed[place] = value
    if height is not None:
        changed[at + 5 : at + 7] = height.to_bytes(2, "big")
    for n, factor in enumerate(factors):
        changed[at + 11 + 3 * n] = factor
    return bytes(changed)


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (PLAIN, "a baseline JPEG of 8 bits and 3 components"),
        (encoded(photo(mode="L"), "JPEG"), "a baseline JPEG of 8 bits and 1 component"),
        (encoded(photo(mode="CMYK"), "JPEG"), "a baseline JPEG of 8 bits and 4 components"),
        (
            encoded(photo(), "JPEG", progressive=True),
            "a progressive JPEG of 8 bits and 3 components",
        ),
        (
            encoded(photo(), "JPEG", subsampling="4:4:4"),
            "a baseline JPEG of 8 bits and 3 components",
        ),
        (encoded(photo(), "JPEG", exif=b"Exif\0\0" + bytes(9)), kind_of(PLAIN).name),
        (with_frame(PLAIN, 0xC1), "an extended sequential JPEG of 8 bits and 3 components"),
    ],
)
def test_everyday_kinds(data, name):
    assert kind_of(data)[:2] == (name, True)


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (
            imagecodecs.jpeg8_encode(GRAY.astype(np.uint16) * 16, bitspersample=12),
            "an extended sequential JPEG of 12 bits and 1 component",
        ),
        (
            imagecodecs.jpeg8_encode(COLOR, lossless=True),
            "a lossless JPEG of 8 bits and 3 components",
        ),
        (imagecodecs.ljpeg_encode(GRAY), "a lossless JPEG of 8 bits and 1 component"),
        (
            imagecodecs.ljpeg_encode(GRAY.astype(np.uint16) * 64, bitspersample=14),
            "a lossless JPEG of 14 bits and 1 component",
        ),
        (imagecodecs.jpegls_encode(COLOR), "a JPEG-LS of 8 bits and 3 components"),
        (with_frame(PLAIN, 0xC9), "an arithmetic-coded JPEG of 8 bits and 3 components"),
        (with_frame(PLAIN, 0xCA), "an arithmetic-coded JPEG of 8 bits and 3 components"),
        (with_frame(PLAIN, 0xC5), "a hierarchical JPEG of 8 bits and 3 components"),
        (with_frame(PLAIN, components=2), "a baseline JPEG of 8 bits and 2 components"),
        (
            with_frame(PLAIN, height=0),
            "a baseline JPEG of 8 bits and 3 components, whose height is given after its pixels",
        ),
        (with_frame(PLAIN, factors=[0x31, 0x21]), "a baseline JPEG of 8 bits and 3 components"),
        (with_frame(PLAIN, factors=[0]), "a baseline JPEG of 8 bits and 3 components"),
        # Two frames, of which one may be anything.
        (
            PLAIN[:2] + segment(0xC3, b"\x08\0\x10\0\x10\1\1\x11\0") + PLAIN[2:],
            "a lossless JPEG of 8 bits and 1 component",
        ),
        (
            PLAIN[:2] + segment(0xDE, b"\x08\0\x10\0\x10\1\1\x11\0") + PLAIN[2:],
            "a hierarchical JPEG of 8 bits and 1 component",
        ),
    ],
)
def test_kinds_that_are_not(data, name):
    assert kind_of(data)[:2] == (name, False)


def test_the_frame_of_a_preview_does_not_count():
    preview = imagecodecs.ljpeg_encode(GRAY)
    data = PLAIN[:2] + segment(0xE1, b"Exif\0\0" + preview[:60_000]) + PLAIN[2:]
    assert kind_of(data).everyday


@pytest.mark.parametrize(
    "data", [b"", b"\xff\xd8\xff", b"\xff\xd8\xff\xd9", PLAIN[:100], PLAIN[:2] + PLAIN[-400:]]
)
def test_no_frame(data):
    assert kind_of(data) is None


# Which colors the components are


def gradient():
    y, x = np.mgrid[:64, :64]
    return np.stack([x * 4, y * 4, 255 - x * 2 - y * 2], -1).astype(np.uint8)


def without(data, marker):
    """A JPEG without its first segment of a kind."""
    at = data.index(bytes([0xFF, marker]))
    return data[:at] + data[at + 2 + int.from_bytes(data[at + 2 : at + 4], "big") :]


def coded(samples, stored, **options):
    colors = "cmyk" if samples.shape[2] == 4 else "rgb"
    options = {"colorspace": colors, "outcolorspace": stored, "subsampling": "444"} | options
    return imagecodecs.jpeg8_encode(samples, 98, **options)


RGB = gradient()
CMYK = np.asarray(Image.fromarray(RGB).convert("CMYK"))


@pytest.mark.parametrize(
    "data",
    [
        coded(RGB, "ycbcr"),
        without(coded(RGB, "ycbcr"), 0xE0),
        coded(RGB, "rgb"),  # as Adobe's marker says
        without(coded(RGB, "rgb"), 0xEE),  # as the components' names say: R, G and B
        coded(RGB, "ycbcr", subsampling="422"),
        coded(RGB, "ycbcr", subsampling="440"),
        coded(255 - CMYK, "cmyk"),  # with Adobe's marker, they are inverted
        coded(255 - CMYK, "ycck"),
        without(coded(CMYK, "cmyk"), 0xEE),
    ],
)
def test_colors(data):
    assert np.abs(decode(data, 64, 64).pixels.astype(int) - RGB).mean() < 2
