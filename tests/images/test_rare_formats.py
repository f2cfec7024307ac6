"""JPEGs that are not everyday ones, JPEG 2000 and JPEG XL; and JPEGs whose pixels are damaged."""

import base64
import io

import imagecodecs
import numpy as np
import pytest
from helpers.corpus import encoded, exif, photo, segment
from PIL import Image

from pipeline.errors import ImageError
from pipeline.images import registry
from pipeline.images.containers.jpeg_xl import jpeg_xl_size
from pipeline.images.decode import decode
from pipeline.images.pixels import Target
from pipeline.images.sandbox import Sandbox
from pipeline.records import Reason

RED, GREEN, BLUE, WHITE = (220, 30, 40), (20, 200, 60), (30, 40, 210), (250, 250, 250)
TARGET = Target(24, 32, "bicubic", 10**8)


def drawing(width=60, height=40):
    image = Image.new("RGB", (width, height))
    for n, color in enumerate((RED, GREEN, BLUE, WHITE)):
        left, top = (n % 2) * width // 2, (n // 2) * height // 2
        image.paste(color, (left, top, left + width // 2, top + height // 2))
    return image


COLOR = np.asarray(drawing())
DEEP = COLOR.astype(np.uint16)
GRAY = COLOR[..., 0]

# 16 × 16, made with libjpeg-turbo's cjpeg -arithmetic.
ARITHMETIC = {
    "sequential": (
        "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAIBAQEBAQIBAQECAgICAgQDAgICAgUEBAMEBgUGBgYFBgYGBwkIBgcJBwYG"
        "CAsICQoKCgoKBggLDAsKDAkKCgr/2wBDAQICAgICAgUDAwUKBwYHCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoK"
        "CgoKCgoKCgoKCgoKCgoKCgoKCgr/yQARCAAQABADASIAAhEBAxEB/8wACgAQEAUBEBEF/9oADAMBAAIRAxEAPwD/ANmV"
        "hRH0ZohGb26kkhJABX2OUTKH+b0IUADFPqQPeM9Oq2Aag18gOXMLIz0hGpY1VPCpjyCLFv28W4LpVppQ/9k="
    ),
    "progressive": (
        "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAIBAQEBAQIBAQECAgICAgQDAgICAgUEBAMEBgUGBgYFBgYGBwkIBgcJBwYG"
        "CAsICQoKCgoKBggLDAsKDAkKCgr/2wBDAQICAgICAgUDAwUKBwYHCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoK"
        "CgoKCgoKCgoKCgoKCgoKCgoKCgr/ygARCAAQABADASIAAhEBAxEB/8wABgAQARD/2gAMAwEAAhADEAAAAf8As6jhj7Hm"
        "rPxhgP/MAAQQBf/aAAgBAQABBQLA/8wABBEF/9oACAEDAQE/ATuER49JT+jT1IcnMMkAY5EJFGhijoj/zAAEEQX/2gAI"
        "AQIBAT8BO0SbRolTI3mznN4PWQyUBOA8lv/MAAQQBf/aAAgBAQAGPwLA/8wABBAF/9oACAEBAAE/IcD/2gAMAwEAAgAD"
        "AAAAEFD/zAAEEQX/2gAIAQMBAT8QHrpqbVoNcRH8/8wABBEF/9oACAECAQE/ELP3lkGZqxcExf/MAAQQBf/aAAgBAQAB"
        "PxDA/9k="
    ),
}
# 60 × 40 as displayed, from a JPEG of orientation 6, made with libjxl's cjxl.
TURNED_JXL = (
    "AAAADEpYTCANCocKAAAAFGZ0eXBqeGwgAAAAAGp4bCAAAAGQanhsY/8K2AFOWCChuCQAEogCANwFXeUSAAAVKqOMG7yc6/ny"
    "Q4fFtI3rDG21bWFJosg4NkkncJikoECCbVeVJSnGGKOwA42qYmMU28jCLes2qoyRMcZI5pZuMUBS/684s1rKLpfDJ/5NFZ3n"
    "rMf5OAg94WMUIEfzk2wSw9KaU4v+BmgB+iOKDwg7AWSPEr1kISF4T5xNjoyshScKHUFUNJNSba+CPLEJk7RnhM4REMGZUAkR"
    "gkhb0QLiXvhAMln5WF6z89BkU4GDK6RAsiSJEo83d0kyeRkZ5yYOh2IAgDh4R3t174FMSniOSnoPM8gHOuLE0ZRrDBuRxYEv"
    "GHQEdMe72i4tjCQoq8ARRCqcQ/4KM1GYS9/GR75aASPBOaaGWh9D5NIjCC75R6MJ39f3nBzTM6uowgUE/5epiWX2YBCEaL+J"
    "z4p74WpQSsFz4m0okpPt7J2LqyePrXO0rn/0MGHF7lWnNZ0Y5067R2Nh0aV6TFHK+ppPjNd2L14NqxYM8we8hVKx4BYzCPcA"
)


def difference(data, expected=None, size=(60, 40)):
    """Of what is decoded from the drawing, of 255: the median, as edges are blurred."""
    decoded = decode(data, size[1], size[0])
    assert (decoded.width, decoded.height) == size
    expected = np.asarray(drawing(*size)) if expected is None else expected
    return np.median(np.abs(decoded.pixels.astype(int) - expected))


def gray(samples):
    return np.repeat(samples[..., None], 3, axis=2)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (imagecodecs.jpeg8_encode(DEEP * 16, bitspersample=12, level=95), COLOR),
        (imagecodecs.jpeg8_encode(DEEP[..., 0] * 16, bitspersample=12, level=95), gray(GRAY)),
        (imagecodecs.jpeg8_encode(COLOR, lossless=True), COLOR),
        (imagecodecs.jpeg8_encode(DEEP * 257, bitspersample=16, lossless=True), COLOR),
        (imagecodecs.ljpeg_encode(DEEP[..., 0] * 64, bitspersample=14), gray(GRAY)),
        (imagecodecs.jpegls_encode(COLOR), COLOR),
        (imagecodecs.jpegls_encode(GRAY), gray(GRAY)),
        (imagecodecs.jpegls_encode(DEEP * 257), COLOR),
    ],
)
def test_jpegs_of_rare_kinds(data, expected):
    assert difference(data, expected) <= 4
    for tenth in range(1, 10):
        with pytest.raises(ImageError) as caught:
            decode(data[: len(data) * tenth // 10], 24, 32)
        assert caught.value.reason is Reason.TRUNCATED


@pytest.mark.parametrize("kind", ARITHMETIC)
def test_arithmetic_coded_jpegs(kind):
    assert difference(base64.b64decode(ARITHMETIC[kind]), size=(16, 16)) <= 4


@pytest.mark.parametrize("kind", [0xC5, 0xC6, 0xC7, 0xCD])
def test_hierarchical_jpegs_are_named(kind):
    data = encoded(photo(), "JPEG").replace(b"\xff\xc0", bytes([0xFF, kind]))
    with pytest.raises(ImageError, match="a hierarchical JPEG of 8 bits and 3") as caught:
        decode(data, 24, 32)
    assert caught.value.reason is Reason.UNSUPPORTED_FORMAT


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (encoded(drawing(), "JPEG2000"), COLOR),
        (encoded(drawing(), "JPEG2000", no_jp2=True), COLOR),
        (encoded(drawing().convert("L"), "JPEG2000"), gray(np.asarray(drawing().convert("L")))),
        (encoded(drawing(), "JPEG2000", tile_size=(32, 32)), COLOR),
        (imagecodecs.jpeg2k_encode(DEEP * 257, level=0), COLOR),
        (imagecodecs.jpeg2k_encode(DEEP * 16, level=0, bitspersample=12), COLOR),
        (imagecodecs.jpeg2k_encode(DEEP[..., 0] * 16, level=0, bitspersample=12), gray(GRAY)),
        (imagecodecs.htj2k_encode(COLOR), COLOR),
    ],
)
def test_jpeg_2000(data, expected):
    assert difference(data, expected) <= 1
    assert difference(data + b"\xff\xd9 and garbage", expected) <= 1


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (imagecodecs.jpegxl_encode(COLOR, lossless=True), COLOR),
        (imagecodecs.jpegxl_encode(COLOR, distance=0.5), COLOR),
        (imagecodecs.jpegxl_encode(COLOR, lossless=True, usecontainer=True), COLOR),
        (imagecodecs.jpegxl_encode(DEEP * 257, lossless=True), COLOR),
        (imagecodecs.jpegxl_encode((COLOR / 255).astype(np.float32), lossless=True), COLOR),
        (imagecodecs.jpegxl_encode(GRAY, lossless=True), gray(GRAY)),
    ],
)
def test_jpeg_xl(data, expected):
    assert difference(data, expected) <= 6


def test_a_jpeg_xl_that_is_turned():
    assert difference(base64.b64decode(TURNED_JXL)) <= 6


@pytest.mark.parametrize(
    "size", [(1, 1), (8, 8), (60, 40), (40, 60), (256, 128), (7000, 3), (64, 48)]
)
def test_a_jpeg_xl_tells_its_size(size):
    data = imagecodecs.jpegxl_encode(np.zeros((size[1], size[0], 3), np.uint8), effort=3)
    assert jpeg_xl_size(data) == size
    with pytest.raises(ImageError, match="pixels; at most 0 are decoded"):
        decode(data, 24, 32, max_pixels=0)


@pytest.mark.parametrize("name", ["JPEG2000", "JXL"])
@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_transparency_is_composited_on_white(name, mode):
    image = drawing().convert(mode)
    image.putalpha(Image.new("L", image.size, 0))
    if name == "JXL":
        data = imagecodecs.jpegxl_encode(np.asarray(image), lossless=True)
    else:
        data = encoded(image, name)
    assert (decode(data, 24, 32).pixels == 255).all()


@pytest.mark.parametrize(
    ("library", "data", "package"),
    [
        ("imagecodecs", imagecodecs.jpegxl_encode(COLOR), "JPEG XL .* pip install imagecodecs"),
        ("imagecodecs", imagecodecs.jpegls_encode(COLOR), "a JPEG-LS .* pip install imagecodecs"),
        ("pi_heif", encoded(drawing(64, 64), "HEIF"), "HEIC .* pip install pi-heif"),
    ],
)
def test_a_library_that_is_not_there_is_named(library, data, package):
    sandbox = Sandbox(prelude=f"sys.modules[{library!r}] = None")
    with pytest.raises(ImageError, match=package) as caught:
        sandbox.decode(data, TARGET)
    assert caught.value.reason is Reason.UNSUPPORTED_FORMAT
    sandbox.close()


def test_every_format_has_a_file_in_the_corpus():
    from helpers.corpus import small_files

    read = {row.name for row in registry.FORMATS if row.reduce is not None}
    assert {registry.recognize(data).name for data in small_files().values()} == read


# JPEGs that are damaged, or look as if they were

PLAIN = encoded(photo(), "JPEG", quality=90)
PROGRESSIVE = encoded(photo(), "JPEG", progressive=True)


def outcome(data):
    try:
        decode(data, 24, 32)
    except ImageError as error:
        return error.reason
    return "labeled"


def test_a_jpeg_that_only_lacks_its_end_loses_nothing():
    whole = decode(PLAIN, 24, 32).pixels
    assert (decode(PLAIN[:-2], 24, 32).pixels == whole).all()
    assert (decode(PLAIN[:-1], 24, 32).pixels == whole).all()
    preview = encoded(photo(), "JPEG", exif=exif(1) + PLAIN[:5000] + b"\xff\xd9")
    assert (decode(preview[:-2], 24, 32).pixels == whole).shape == (24, 32, 3)


@pytest.mark.parametrize("missing", [3, 10, 100, 3000])
def test_a_jpeg_that_lacks_pixels_as_well(missing):
    assert outcome(PLAIN[:-missing]) is Reason.TRUNCATED
    assert outcome(PROGRESSIVE[:-missing]) is Reason.TRUNCATED
    preview = encoded(photo(), "JPEG", exif=exif(1) + PLAIN[:5000] + b"\xff\xd9")
    assert outcome(preview[:-missing]) is Reason.TRUNCATED


def test_damaged_pixels_of_a_jpeg_fail():
    start = PLAIN.index(b"\xff\xda") + 14
    ones = PLAIN[:start] + b"\xff\0" * 50 + PLAIN[start + 100 :]
    with pytest.raises(ImageError, match="Corrupt JPEG data") as caught:
        decode(ones, 24, 32)
    assert caught.value.reason is Reason.CORRUPT
    taken_out = PLAIN[: start + 500] + PLAIN[start + 900 :]
    assert outcome(taken_out) is Reason.CORRUPT
    repeated = PLAIN[: start + 500] + PLAIN[start + 100 :]
    assert outcome(repeated) is Reason.CORRUPT


def test_what_is_left_over_behind_the_pixels():
    assert outcome(PLAIN[:-2] + b"\x12\x34" + PLAIN[-2:]) == "labeled"
    assert outcome(PLAIN[:-2] + bytes(500) + PLAIN[-2:]) == "labeled"
    assert outcome(PLAIN[:-2] + b"\x12\x34" * 20 + PLAIN[-2:]) is Reason.CORRUPT


def test_a_warning_that_concerns_no_pixel():
    at = PLAIN.index(b"JFIF\0") + 5
    assert outcome(PLAIN[:at] + b"\x09" + PLAIN[at + 1 :]) == "labeled"
    adobe = PLAIN[:2] + segment(0xEE, b"Adobe\0\x64\0\0\0\0\7") + PLAIN[2:]
    assert (decode(adobe, 24, 32).pixels == decode(PLAIN, 24, 32).pixels).all()
    scan = PLAIN.index(b"\xff\xda") + 11
    assert outcome(PLAIN[:scan] + b"\1" + PLAIN[scan + 1 :]) == "labeled"


def test_pixels_of_jpegs_are_pillows():
    for mode in ("RGB", "L"):
        data = encoded(photo(160, 120, mode), "JPEG")
        whole = Image.open(io.BytesIO(data)).convert("RGB")
        assert (decode(data, 120, 160).pixels == np.asarray(whole)).all()
