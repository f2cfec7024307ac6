import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin

from pipeline.errors import ImageError
from pipeline.images.decode import decode
from pipeline.images.resizing import RESAMPLING
from pipeline.limits import DEFAULT_LIMITS
from pipeline.records import Reason

RED, GREEN, BLUE, WHITE = (220, 30, 40), (20, 200, 60), (30, 40, 210), (250, 250, 250)


def picture(width=60, height=40):
    """Four quarters: red and green above blue and white. Which is where tells every turn."""
    image = Image.new("RGB", (width, height))
    for n, color in enumerate((RED, GREEN, BLUE, WHITE)):
        left, top = (n % 2) * width // 2, (n // 2) * height // 2
        image.paste(color, (left, top, left + width // 2, top + height // 2))
    return image


def encoded(image, image_format, **options):
    file = io.BytesIO()
    image.save(file, image_format, **options)
    return file.getvalue()


def quarters(pixels):
    """The color in the middle of each quarter, row by row."""
    height, width = pixels.shape[:2]
    return [
        tuple(int(c) for c in pixels[y, x])
        for y in (height // 4, 3 * height // 4)
        for x in (width // 4, 3 * width // 4)
    ]


def close(colors, expected, tolerance=12):
    return np.abs(np.array(colors) - np.array(expected)).max() <= tolerance


@pytest.mark.parametrize(
    ("image_format", "options"),
    [
        ("JPEG", {"quality": 95}),
        ("JPEG", {"quality": 95, "progressive": True}),
        ("PNG", {}),
        ("WEBP", {"lossless": True}),
        ("GIF", {}),
        ("BMP", {}),
        ("DIB", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", {"compression": "jpeg"}),
        ("AVIF", {"quality": 95}),
    ],
)
def test_formats(image_format, options):
    decoded = decode(encoded(picture(), image_format, **options), 24, 32)
    assert decoded.pixels.shape == (24, 32, 3)
    assert decoded.pixels.dtype == np.uint8
    assert (decoded.width, decoded.height) == (60, 40)
    assert close(quarters(decoded.pixels), [RED, GREEN, BLUE, WHITE])


@pytest.mark.parametrize("image_format", ["GIF", "WEBP", "PNG", "TIFF"])
def test_the_first_frame_counts(image_format):
    options = {"lossless": True} if image_format == "WEBP" else {}
    frames = [Image.new("RGB", (60, 40), BLUE)]
    data = encoded(picture(), image_format, save_all=True, append_images=frames, **options)
    assert close(quarters(decode(data, 24, 32).pixels), [RED, GREEN, BLUE, WHITE])


def test_grayscale():
    pixels = decode(encoded(picture().convert("L"), "JPEG", quality=95), 24, 32).pixels
    assert pixels.shape == (24, 32, 3)
    assert (pixels == pixels[..., :1]).all()


def test_black_and_white():
    image = Image.new("1", (8, 8))
    image.paste(1, (4, 0, 8, 8))
    assert quarters(decode(encoded(image, "PNG"), 8, 8).pixels) == [(0,) * 3, (255,) * 3] * 2


def test_palette_is_resized_as_color():
    # Between two entries of a palette there is no third.
    image = Image.new("P", (2, 1))
    image.putpalette([200, 0, 0, 0, 0, 0, 0, 0, 200])
    image.putdata([0, 2])
    middle = decode(encoded(image, "PNG"), 1, 31, "bilinear").pixels[0, 15]
    assert close(middle, (100, 0, 100))


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.array([[0, 32768, 65535]], np.uint16), [0, 128, 255]),
        (np.array([[0, 300, 600]], np.uint16), [0, 1, 2]),
        (np.array([[0, 32768, 65535]], np.int32), [0, 128, 255]),
        (np.array([[-100, 0, 100]], np.int32), [0, 128, 255]),
        (np.array([[0, 0.5, 1.0]], np.float32), [0, 128, 255]),
        (np.array([[-10, 0, 10]], np.float32), [0, 128, 255]),
        (np.array([[7, 7, 7]], np.float32), [0, 0, 0]),
    ],
)
def test_deep_gray(array, expected):
    data = encoded(Image.fromarray(array), "TIFF")
    assert decode(data, 1, 3).pixels[0, :, 0].tolist() == expected


def test_16_bit_png():
    data = encoded(Image.fromarray(np.array([[0, 32768, 65535]], np.uint16)), "PNG")
    assert decode(data, 1, 3).pixels[0, :, 0].tolist() == [0, 128, 255]


@pytest.mark.parametrize("image_format", ["PNG", "WEBP", "TIFF"])
def test_transparency_is_composited_on_white(image_format):
    image = picture().convert("RGBA")
    image.putalpha(Image.new("L", image.size, 0))
    image.paste(BLUE, (0, 0, 30, 40))
    options = {"lossless": True, "exact": True} if image_format == "WEBP" else {}
    decoded = quarters(decode(encoded(image, image_format, **options), 24, 32).pixels)
    assert decoded == [BLUE, (255,) * 3] * 2


def test_half_transparency():
    image = Image.new("RGBA", (8, 8), (0, 0, 0, 128))
    assert close(decode(encoded(image, "PNG"), 8, 8).pixels[4, 4], (127,) * 3, 1)


@pytest.mark.parametrize("mode", ["L", "RGB", "P"])
def test_one_transparent_color(mode):
    image = Image.new("RGB", (8, 8), (0, 0, 0))
    image.paste((255, 0, 0), (0, 0, 4, 8))
    image = image.convert(mode)
    data = encoded(image, "PNG", transparency=image.getpixel((7, 7)))
    assert decode(data, 8, 8).pixels[4, 6].tolist() == [255, 255, 255]


def test_gray_with_alpha():
    image = Image.new("LA", (8, 8), (0, 0))
    assert (decode(encoded(image, "PNG"), 8, 8).pixels == 255).all()


def cmyk_jpeg(adobe):
    """A CMYK JPEG of the picture: inverted with Adobe's marker, or as it is without."""
    image = picture(64, 64).convert("CMYK")
    data = encoded(image, "JPEG", quality=95)  # as Pillow writes it: inverted, with the marker
    assert b"Adobe" in data
    if adobe:
        return data
    data = encoded(Image.eval(image, lambda v: 255 - v), "JPEG", quality=95)
    at = data.index(b"\xff\xee")
    length = struct.unpack(">H", data[at + 2 : at + 4])[0]
    return data[:at] + data[at + 2 + length :]


@pytest.mark.parametrize("adobe", [True, False])
def test_cmyk(adobe):
    pixels = decode(cmyk_jpeg(adobe), 32, 32).pixels
    assert close(quarters(pixels), [RED, GREEN, BLUE, WHITE], 40)


def test_lab():
    lab = ImageCms.createProfile("LAB")
    transform = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), lab, "RGB", "LAB")
    data = encoded(ImageCms.applyTransform(picture(), transform), "TIFF")
    assert close(quarters(decode(data, 24, 32).pixels), [RED, GREEN, BLUE, WHITE])


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(orientation, image_format):
    # What a camera writes that was held so: the upright picture, turned back.
    back = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = picture()
    if orientation in back:
        stored = stored.transpose(back[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"WEBP": {"lossless": True}, "JPEG": {"quality": 95}}.get(image_format, {})
    decoded = decode(encoded(stored, image_format, exif=exif, **options), 24, 32)
    assert (decoded.width, decoded.height) == (60, 40)
    assert decoded.pixels.shape == (24, 32, 3)
    assert close(quarters(decoded.pixels), [RED, GREEN, BLUE, WHITE], 20)


@pytest.mark.parametrize("value", [0, 9, 300])
def test_a_nonsensical_orientation_is_upright(value):
    exif = Image.Exif()
    exif[0x0112] = value
    pixels = decode(encoded(picture(), "JPEG", quality=95, exif=exif), 24, 32).pixels
    assert close(quarters(pixels), [RED, GREEN, BLUE, WHITE])


def test_broken_exif_is_ignored():
    data = encoded(picture(), "JPEG", quality=95, exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff garbage")
    assert close(quarters(decode(data, 24, 32).pixels), [RED, GREEN, BLUE, WHITE])


@pytest.mark.parametrize("resample", RESAMPLING)
def test_resizing_is_antialiased(resample):
    # A fine checkerboard is gray from afar; picking pixels would make it black or white.
    board = np.indices((256, 256)).sum(0) % 2 * 255
    pixels = decode(encoded(Image.fromarray(board.astype(np.uint8)), "PNG"), 32, 32, resample)
    assert abs(pixels.pixels.astype(int) - 127).max() <= 3


def test_bicubic_and_bilinear_differ():
    data = encoded(picture(), "PNG")
    bicubic, bilinear = (decode(data, 224, 224, name).pixels for name in ("bicubic", "bilinear"))
    assert (bicubic != bilinear).any()


def test_reduced_decoding_of_large_jpegs_hardly_changes_anything():
    rng = np.random.default_rng(0)
    rough = Image.fromarray(rng.integers(0, 256, (40, 60, 3), np.uint8))
    data = encoded(rough.resize((2400, 1600), Image.Resampling.BICUBIC), "JPEG", quality=90)
    reduced = decode(data, 224, 224)
    assert (reduced.width, reduced.height) == (2400, 1600)
    whole = Image.open(io.BytesIO(data)).convert("RGB").resize((224, 224), Image.Resampling.BICUBIC)
    difference = np.abs(reduced.pixels.astype(int) - np.asarray(whole))
    assert difference.mean() < 1


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1), (2, 2)])
@pytest.mark.parametrize("image_format", ["PNG", "JPEG"])
def test_odd_sizes(size, image_format):
    decoded = decode(encoded(Image.new("RGB", size, BLUE), image_format), 224, 224)
    assert decoded.pixels.shape == (224, 224, 3)
    assert (decoded.width, decoded.height) == size
    assert close(quarters(decoded.pixels), [BLUE] * 4)


# What is no image, or not a whole one


def reason_of(data):
    with pytest.raises(ImageError) as caught:
        decode(data, 24, 32)
    assert caught.value.message
    return caught.value.reason


def box(brand):
    return b"\0\0\0\x10ftyp" + brand + b"\0\0\0\0" + b"\0\0\1\0meta" + bytes(100)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", Reason.EMPTY),
        (b"\0", Reason.NOT_AN_IMAGE),
        (bytes(5000), Reason.NOT_AN_IMAGE),
        (b"<!DOCTYPE html><html>", Reason.NOT_AN_IMAGE),
        (b'{"error": "no such key"}', Reason.NOT_AN_IMAGE),
        (b"a.jpg\nb.jpg\n", Reason.NOT_AN_IMAGE),
        (b"PK\x03\x04", Reason.NOT_AN_IMAGE),
        (box(b"heic"), Reason.TRUNCATED),
        (box(b"mif1"), Reason.TRUNCATED),
        (box(b"crx "), Reason.UNSUPPORTED_FORMAT),
        (b"\0\0\0\x0cjP  \r\n\x87\n", Reason.TRUNCATED),
        (b"\xff\x0a" + bytes(50), Reason.CORRUPT),
        (b"8BPS\0\1", Reason.UNSUPPORTED_FORMAT),
        (b"IIU\0\x08\0\0\0", Reason.UNSUPPORTED_FORMAT),
        (b"FUJIFILMCCD-RAW 0201", Reason.UNSUPPORTED_FORMAT),
        (b"\0\0\0\x18ftypcrx \0\0\0\1", Reason.UNSUPPORTED_FORMAT),
        (bytes(128) + b"DICM\2\0\0\0", Reason.UNSUPPORTED_FORMAT),
        (b"%PDF-1.7\n", Reason.UNSUPPORTED_FORMAT),
        (b'<svg xmlns="http://www.w3.org/2000/svg"/>', Reason.UNSUPPORTED_FORMAT),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", Reason.NOT_AN_IMAGE),
        (b"\xff\xd8\xff", Reason.TRUNCATED),
        (b"\x89PNG\r\n\x1a\n", Reason.TRUNCATED),
        (b"RIFF\xff\0\0\0WEBP", Reason.TRUNCATED),
        (b"BM", Reason.TRUNCATED),
        (box(b"avif"), Reason.TRUNCATED),
        (b"GIF89a", Reason.CORRUPT),
        (b"II*\0", Reason.CORRUPT),
        (b"\xff\xd8\xff\xd9", Reason.CORRUPT),
    ],
)
def test_what_is_no_image(data, reason):
    assert reason_of(data) is reason


def noisy(image_format, **options):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (120, 160, 3), np.uint8)
    return encoded(Image.fromarray(pixels), image_format, **options)


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "AVIF", "GIF"])
@pytest.mark.parametrize("tenth", range(1, 10))
def test_files_that_are_cut_off(image_format, tenth):
    data = noisy(image_format)
    assert reason_of(data[: len(data) * tenth // 10]) in (Reason.TRUNCATED, Reason.CORRUPT)


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "BMP", "AVIF"])
@pytest.mark.parametrize("tenth", range(1, 10))
def test_files_that_mark_their_end_are_called_truncated(image_format, tenth):
    data = noisy(image_format)
    assert reason_of(data[: len(data) * tenth // 10]) is Reason.TRUNCATED


def test_a_png_with_a_damaged_checksum():
    data = bytearray(noisy("PNG"))
    data[len(data) // 2] ^= 0xFF
    assert reason_of(bytes(data)) is Reason.CORRUPT


def with_png_size(width, height):
    """A PNG whose header claims a size."""
    data = bytearray(encoded(picture(), "PNG"))
    data[16:24] = struct.pack(">II", width, height)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return bytes(data)


@pytest.mark.parametrize(
    ("width", "height"),
    [(10000, 10000), (1, DEFAULT_LIMITS.max_image_pixels + 1), (100000, 100000), (2**31 - 1, 2)],
)
def test_a_decompression_bomb_is_refused_by_its_header(width, height):
    assert reason_of(with_png_size(width, height)) is Reason.TOO_MANY_PIXELS


def test_an_avif_whose_data_is_damaged():
    data = bytearray(noisy("AVIF"))
    at = data.index(b"mdat") + 4
    data[at : at + 8] = b"\xff" * 8
    assert reason_of(bytes(data)) is Reason.CORRUPT


def test_a_png_with_much_text():
    info = PngImagePlugin.PngInfo()
    info.add_text("workflow", "x" * 5_000_000, zip=True)
    assert decode(encoded(picture(), "PNG", pnginfo=info), 24, 32).width == 60


def test_an_image_that_is_decoded_alone_for_its_size():
    image = Image.new("L", (5000, 4000), 77)
    decoded = decode(encoded(image, "PNG"), 24, 32)
    assert (decoded.width, decoded.height) == (5000, 4000)
    assert (decoded.pixels == 77).all()


def test_fewer_pixels_can_be_allowed():
    data = encoded(picture(), "PNG")
    assert decode(data, 24, 32, max_pixels=60 * 40).width == 60
    with pytest.raises(ImageError, match="60 × 40 pixels; at most 2,399 are decoded") as caught:
        decode(data, 24, 32, max_pixels=60 * 40 - 1)
    assert caught.value.reason is Reason.TOO_MANY_PIXELS


@pytest.mark.parametrize("image_format", ["PNG", "TIFF", "GIF", "JPEG"])
def test_more_pixels_can_be_allowed_than_pillow_does(image_format):
    side = 13_400  # more than twice Pillow's limit, where it would raise an error of its own
    options = {"compression": "tiff_adobe_deflate"} if image_format == "TIFF" else {}
    data = encoded(Image.new("L", (side, side), 77), image_format, **options)
    assert reason_of(data) is Reason.TOO_MANY_PIXELS
    decoded = decode(data, 24, 32, max_pixels=200_000_000)
    assert (decoded.width, decoded.height) == (side, side)
    assert close(decoded.pixels[12, 16], (77,) * 3)
