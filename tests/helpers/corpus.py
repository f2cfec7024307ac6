"""Image files with every kind of damage and oddity, made in code.

Always the same, but for dates in AVIF files and a few bytes that libtiff leaves as they were.

``python -m tests.helpers.corpus FOLDER`` writes them into a folder.
"""

from __future__ import annotations

import io
import json
import struct
import sys
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import imagecodecs
import numpy as np
import pillow_heif
from PIL import Image, PngImagePlugin

pillow_heif.register_heif_opener()

SUFFIXES = {
    **{"JPEG": "jpg", "PNG": "png", "WEBP": "webp", "GIF": "gif"},
    **{"BMP": "bmp", "TIFF": "tif", "AVIF": "avif", "HEIF": "heic"},
    **{"JPEG2000": "jp2", "JXL": "jxl"},
}
LABELED = "labeled"


class Case(NamedTuple):
    """``name``: of the file, unique.

    ``expected``: the reason of its failure, ``labeled``, or None where either will do.
    """

    kind: str
    name: str
    data: bytes
    expected: str | None


def corpus() -> Iterator[Case]:
    """All cases, kind by kind."""
    for part in (_damaged, _no_images, _absurd, _jpegs, _pngs, _gifs, _bmps, _tiffs, _others):
        numbers: dict[str, int] = {}
        for kind, suffix, data, expected in part():
            numbers[kind] = numbers.get(kind, 0) + 1
            yield Case(kind, f"{kind}-{numbers[kind]:02}.{suffix}", data, expected)


# Parts of files


def encoded(image, image_format, **options) -> bytes:
    if image_format == "JXL":
        mode = image.mode if image.mode in ("L", "RGBA") else "RGB"
        return imagecodecs.jpegxl_encode(np.asarray(image.convert(mode)), effort=3, **options)
    file = io.BytesIO()
    image.save(file, image_format, **options)
    return file.getvalue()


def photo(width=160, height=120, mode="RGB"):
    """Noise on a ramp: something that does not compress to nothing."""
    rng = np.random.default_rng(width)
    ramp = np.linspace(0, 150, width)[None, :, None]
    pixels = (rng.integers(0, 100, (height, width, 3)) + ramp).astype(np.uint8)
    return Image.fromarray(pixels).convert(mode)


def small_files() -> dict[str, bytes]:
    """One intact file of each format."""
    return {image_format: encoded(photo(48, 36), image_format) for image_format in SUFFIXES}


def segment(marker: int, content: bytes) -> bytes:
    """A segment of a JPEG."""
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def chunk(kind: bytes, content: bytes) -> bytes:
    """A chunk of a PNG."""
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def png(width, height, content, bits=8, color=0, interlaced=0, before=b"") -> bytes:
    """A PNG of these scan lines."""
    header = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, interlaced)
    pixels = chunk(b"IDAT", zlib.compress(content, 1))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + before + pixels + chunk(b"IEND", b"")


def gif(width, height, before=b"", frame=(0, 0, 1, 1)) -> bytes:
    """A GIF of one black pixel on a screen of this size."""
    screen = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes(6)
    image = b"," + struct.pack("<HHHHB", *frame, 0) + b"\x02\x02\x44\x01\x00"
    return screen + before + image + b";"


def bmp(width, height, content, bits=8, compression=0, header=40) -> bytes:
    """A BMP; ``content`` begins with the palette, if there is one."""
    colors = 4 << bits if bits <= 8 else 0
    info = struct.pack("<IiiHHIIiiII", header, width, height, 1, bits, compression, *[0] * 5)
    start = struct.pack("<IHHI", 54 + len(content), 0, 0, 54 + colors)
    return b"BM" + start + info + content


def tiff(entries: dict[int, tuple[int, int, int]], content=b"", following=0) -> bytes:
    """A TIFF of one directory: tag → type, count, value or offset. The content is at 1024."""
    parts = [struct.pack("<2sHIH", b"II", 42, 8, len(entries))]
    parts += [struct.pack("<HHII", tag, *entries[tag]) for tag in sorted(entries)]
    directory = b"".join([*parts, struct.pack("<I", following)])
    return directory.ljust(1024, b"\0") + content


def gray_tiff(width, height, content, more=None, bits=8, compression=1) -> bytes:
    """A gray TIFF in one strip."""
    fields = {
        **{256: (4, 1, width), 257: (4, 1, height), 258: (3, 1, bits), 259: (3, 1, compression)},
        **{262: (3, 1, 1), 273: (4, 1, 1024), 277: (3, 1, 1), 278: (4, 1, height)},
        279: (4, 1, len(content)),
    }
    return tiff(fields | (more or {}), content)


def exif(orientation, order="<") -> bytes:
    """EXIF data with an orientation and nothing else."""
    start = b"II*\0" if order == "<" else b"MM\0*"
    entry = struct.pack(order + "HHIHH", 0x112, 3, 1, orientation, 0)
    return b"Exif\0\0" + start + struct.pack(order + "IH", 8, 1) + entry + bytes(4)


def greedy_exif() -> bytes:
    """EXIF data of a thousand entries, each of which claims all of it."""
    entries = [struct.pack("<HHII", 1000 + n, 7, 50_000, 0) for n in range(1000)]
    return b"Exif\0\0" + b"".join([b"II*\0", struct.pack("<IH", 8, 1000), *entries, bytes(40_000)])


# Damage that every format can have

_OWN_MODES = ("AVIF", "HEIF", "JPEG2000", "JXL")


def _damaged():
    files = {name: encoded(photo(), name) for name in SUFFIXES}
    rng = np.random.default_rng(1)
    for name, data in files.items():
        suffix = SUFFIXES[name]
        for tenth in range(1, 10):
            yield f"{suffix}-truncated", suffix, data[: len(data) * tenth // 10], "truncated"
        for flips in (1, 1, 1, 2, 4, 8, 16, 32):
            damaged = bytearray(data)
            for at in rng.integers(0, len(data), flips):
                damaged[at] ^= 1 << int(rng.integers(8))
            yield f"{suffix}-bit-flips", suffix, bytes(damaged), None
        for start in rng.integers(100, len(data) - 600, 3):
            damaged = data[:start] + bytes(512) + data[start + 512 :]
            yield f"{suffix}-zeroed-block", suffix, damaged, None
        yield f"{suffix}-zeros-from-the-middle", suffix, data[:300].ljust(len(data), b"\0"), None
        yield f"{suffix}-trailing-garbage", suffix, data + rng.bytes(5000), LABELED
        yield f"{suffix}-concatenated", suffix, data + data, LABELED
        for other in SUFFIXES.values():
            if other != suffix:
                yield f"{suffix}-named-otherwise", other, data, LABELED
        sizes = [(1, 1), (2, 1), (1, 2), (3, 5), (17, 1)]
        for size in sizes if name != "HEIF" else ():  # the encoder makes none
            yield f"{suffix}-tiny", suffix, encoded(photo(*size), name), LABELED
        modes = {"JPEG": ["L"], "WEBP": ["RGBA"], **{key: ["L", "RGBA"] for key in _OWN_MODES}}
        for mode in modes.get(name, ["L", "1", "P", "RGBA"]):
            yield f"{suffix}-{mode}", suffix, encoded(photo(mode=mode), name), LABELED
    for name, size in [("GIF", 4), ("BMP", 1), ("TIFF", 6), ("AVIF", 12), ("WEBP", 12)]:
        expected = "not_an_image" if len(files[name][:size]) < 2 else None
        yield "signature-only", SUFFIXES[name], files[name][:size], expected


# What is no image, or of a format that is not read


def _no_images():
    yield "empty", "jpg", b"", "empty"
    for size in (1, 2, 16, 5000):
        yield "zeros", "png", bytes(size), "not_an_image"
    for size in (1, 100, 10_000):
        yield "random", "jpg", b"x" + np.random.default_rng(size).bytes(size), "not_an_image"
    page = b"<!DOCTYPE html><html><title>404 Not Found</title></html>"
    yield "html", "jpg", page, "not_an_image"
    yield "html", "jpg", b"\xef\xbb\xbf\r\n" + page, "not_an_image"
    yield "json", "png", json.dumps({"error": "access denied"}).encode(), "not_an_image"
    yield (
        "xml",
        "png",
        b'<?xml version="1.0"?><Error><Code>NoSuchKey</Code></Error>',
        "not_an_image",
    )
    yield "text", "gif", b"hello, world\n", "not_an_image"
    yield "text", "bmp", "GÉANT".encode("utf-16"), "not_an_image"
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n"
    yield "git-lfs-pointer", "jpg", pointer, "not_an_image"
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(zipfile.ZipInfo("a.png"), small_files()["PNG"])
    yield "zip", "webp", file.getvalue(), "not_an_image"
    yield "gzip", "png", b"\x1f\x8b\x08\0\0\0\0\0" + zlib.compress(bytes(100)), "not_an_image"
    yield "base64", "jpg", b"data:image/jpeg;base64,/9j/4AAQSkZJRg==", "not_an_image"
    yield "mp4", "jpg", b"\0\0\0\x18ftypmp42" + bytes(200), "not_an_image"
    yield "riff-of-sound", "webp", b"RIFF\x24\0\0\0WAVEfmt " + bytes(24), None
    yield "postscript", "jpg", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not_an_image"
    yield "ppm", "jpg", b"P6 2 2 255 " + bytes(12), "unsupported_format"
    yield (
        "tga",
        "png",
        bytes([0, 0, 2, *[0] * 9, 2, 0, 2, 0, 24, 0, *[0] * 12]),
        "unsupported_format",
    )
    foreign = {
        "pdf": b"%PDF-1.7\n" + bytes(100),
        "svg": b'<svg xmlns="http://www.w3.org/2000/svg"/>',
        "photoshop": b"8BPS\0\1" + bytes(100),
        "icon": b"\0\0\1\0\1\0" + bytes(100),
    }
    for kind, data in foreign.items():
        yield kind, "jpg", data, "unsupported_format"
    nothing = {
        "heic": b"\0\0\0\x18ftypheic" + bytes(200),
        "heif": b"\0\0\0\x18ftypmif1" + bytes(200),
        "jpeg-2000": b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(100),
        "jpeg-xl": b"\xff\x0a" + bytes(50),
    }
    for kind, data in nothing.items():
        yield f"{kind}-signature-only", "jpg", data, None


# Sizes


def _absurd():
    large = (2**31 - 1, 60_000)
    for size in [(60_000, 60_000), large, large[::-1], (10_000, 10_000), (2**32 - 1,) * 2]:
        yield "png-bomb-in-the-header", "png", png(*size, bytes(100)), "too_many_pixels"
    yield "png-bomb-within-limits", "png", png(9000, 9000, bytes(9001 * 9000)), LABELED
    bits = bytes((9000 // 8 + 1) * 9000)
    yield "png-bomb-within-limits", "png", png(9000, 9000, bits, bits=1), LABELED
    yield "png-more-pixels-than-its-header", "png", png(5, 5, bytes(50_000_000)), LABELED
    yield "png-fewer-pixels-than-its-header", "png", png(900, 900, bytes(5000)), "truncated"
    yield "png-one-long-row", "png", png(2_000_000, 1, bytes(2_000_001)), "too_many_pixels"
    yield "png-one-long-row", "png", png(900_000, 1, bytes(900_001)), LABELED
    yield "png-one-long-column", "png", png(1, 900_000, bytes(1_800_000)), LABELED
    for size in [(0, 0), (0, 5), (5, 0)]:
        yield "png-of-no-pixels", "png", png(*size, b""), None
        yield "gif-of-no-pixels", "gif", gif(*size, frame=(0, 0, *size)), None
        yield "bmp-of-no-pixels", "bmp", bmp(*size, bytes(1024)), None
        yield "tiff-of-no-pixels", "tif", gray_tiff(*size, b""), "corrupt"
    for name, suffix in SUFFIXES.items():
        # 16383 is the most that a WebP may have.
        length = {"WEBP": 16_383, "HEIF": 8000}.get(name, 30_000)
        short = 64 if name == "HEIF" else 1
        for size in [(short, length), (length, short)]:
            image = Image.new("RGB", size, (200, 30, 40))
            yield f"{suffix}-narrow", suffix, encoded(image, name), LABELED
    yield "gif-huge-screen", "gif", gif(65_535, 65_535), "too_many_pixels"
    yield "gif-large-screen", "gif", gif(9000, 9000), LABELED
    large_frame = gif(9, 9, b"!\xf9\4\x08\0\0\0\0", (0, 0, 65_535, 65_535))
    yield "gif-huge-frame", "gif", large_frame, "too_many_pixels"
    yield "gif-frame-beyond-its-screen", "gif", gif(1, 1, frame=(60, 60, 1, 1)), LABELED
    for size in [(60_000, 60_000), (2**31 - 1, 2), (5, -(2**31)), (-5, 5)]:
        yield "bmp-huge", "bmp", bmp(*size, bytes(1024)), "too_many_pixels"
    yield "bmp-without-its-pixels", "bmp", bmp(9000, 9000, b"", bits=24), "truncated"
    for size in [(60_000, 60_000), (2**32 - 1, 2**32 - 1)]:
        yield "tiff-huge", "tif", gray_tiff(*size, bytes(100)), "too_many_pixels"
    yield "tiff-without-its-pixels", "tif", gray_tiff(9000, 9000, bytes(100)), "truncated"
    jpeg = encoded(photo(), "JPEG")
    at = jpeg.index(b"\xff\xc0") + 5
    for size, expected in [((65_500, 65_500), "too_many_pixels"), ((0, 0), None), ((9, 0), None)]:
        data = jpeg[:at] + struct.pack(">HH", *size[::-1]) + jpeg[at + 4 :]
        yield "jpeg-other-size-in-the-header", "jpg", data, expected
    yield "jpeg-largest-side", "jpg", encoded(Image.new("L", (65_500, 8)), "JPEG"), LABELED
    webp = bytearray(encoded(photo(), "WEBP", exif=exif(1)))
    webp[24:30] = b"\xff\xff\xff" * 2
    yield "webp-huge-canvas", "webp", bytes(webp), "too_many_pixels"


# One format after the other


def _jpegs():
    image = photo()
    plain = encoded(image, "JPEG")
    for orientation in (*range(10), 300):
        for order in "<>":
            data = encoded(image, "JPEG", exif=exif(orientation, order))
            yield "jpeg-orientation", "jpg", data, LABELED
    broken = [b"", b"Exif\0\0", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff garbage", exif(6)[:-9]]
    broken += [b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0XX*\0\x08\0\0\0", exif(6)[:14] + b"\xff"]
    for content in broken:
        yield "jpeg-broken-exif", "jpg", plain[:2] + segment(0xE1, content) + plain[2:], LABELED
    yield "jpeg-greedy-exif", "jpg", plain[:2] + segment(0xE1, greedy_exif()) + plain[2:], LABELED
    parts = segment(0xE1, b"Exif\0\0II*\0\x08\0\0\0\0\0") * 50_000
    yield "jpeg-exif-in-many-parts", "jpg", plain[:2] + parts + plain[2:], LABELED
    parts = segment(0xFE, b"") * 200_000
    yield "jpeg-too-many-segments", "jpg", plain[:2] + parts + plain[2:], "corrupt"
    for profile in (b"garbage", bytes(128), b"\xff" * 200_000):
        data = encoded(image, "JPEG", icc_profile=profile)
        yield "jpeg-garbage-as-icc-profile", "jpg", data, LABELED
    data = plain[:2] + segment(0xE2, b"ICC_PROFILE\0") + plain[2:]
    yield "jpeg-garbage-as-icc-profile", "jpg", data, LABELED
    for content in (b"MPF\0", b"MPF\0II*\0\x08\0\0\0\0\0\0\0", b"MPF\0" + bytes(100)):
        yield "jpeg-broken-mpo", "jpg", plain[:2] + segment(0xE2, content) + plain[2:], LABELED
    yield "mpo", "jpg", encoded(image, "MPO", save_all=True, append_images=[photo(99)]), LABELED
    app = b"Photoshop 3.0\x008BIM\x03\xed\0\0\xff\xff\xff\xff"
    yield "jpeg-broken-photoshop", "jpg", plain[:2] + segment(0xED, app) + plain[2:], LABELED
    yield (
        "jpeg-huge-comment",
        "jpg",
        plain[:2] + segment(0xFE, bytes(65_000)) * 40 + plain[2:],
        LABELED,
    )
    yield "jpeg-junk-before-its-header", "jpg", plain[:2] + b"\0junk" * 99 + plain[2:], None
    yield "jpeg-junk-within-its-header", "jpg", plain[:20] + b"junk" + plain[20:], LABELED
    yield "jpeg-padding", "jpg", plain[:2] + b"\xff" * 1_000_000 + plain[2:], LABELED
    yield "jpeg-zeros-behind-its-signature", "jpg", b"\xff\xd8\xff" + bytes(2_000_000), "truncated"
    yield "jpeg-signature-only", "jpg", b"\xff\xd8\xff", "truncated"
    yield "jpeg-without-image", "jpg", b"\xff\xd8\xff\xd9", "corrupt"
    yield "jpeg-without-tables", "jpg", plain[:2] + plain[plain.index(b"\xff\xc0") :], "corrupt"
    yield "jpeg-without-end", "jpg", plain[:-2], LABELED
    yield "jpeg-film-behind-it", "jpg", plain + b"\0\0\0\x18ftypmp42" + b"\xff\xda" * 5000, LABELED
    yield (
        "jpeg-12-bit",
        "jpg",
        plain.replace(b"\xff\xc0\0\x11\x08", b"\xff\xc0\0\x11\x0c"),
        LABELED,
    )

    yield "jpeg-progressive", "jpg", encoded(image, "JPEG", progressive=True), LABELED
    large = encoded(Image.new("L", (9000, 9000), 77), "JPEG", progressive=True)
    yield "jpeg-large-progressive", "jpg", large, LABELED
    small = encoded(photo(400, 300), "JPEG", progressive=True)
    for data, scans, expected in [
        *[(small, 30, LABELED), (small, 400, LABELED), (small, 600, "corrupt")],
        *[(small, 5000, "corrupt"), (large, 20, LABELED), (large, 1000, "corrupt")],
    ]:
        at = data.rindex(b"\xff\xda")
        # Only the last scan's head: what is missing in it counts as zeros.
        scan = data[at : at + 30] if data is small else data[at:-2]
        many = data[:-2] + scan * scans + b"\xff\xd9"
        yield "jpeg-many-scans", "jpg", many, expected
    at = plain.rindex(b"\xff\xda")
    heads = [segment(0xDA, bytes([1, n, 0x11 * (n > 1), 0, 63, 0])) for n in (1, 2, 3)]
    sequential = plain[:at] + b"".join(heads) * 300 + b"\xff\xd9"
    yield "jpeg-many-sequential-scans", "jpg", sequential, "corrupt"

    for quality in (1, 100):
        yield "jpeg-quality", "jpg", encoded(image, "JPEG", quality=quality), LABELED
    for subsampling in ("4:4:4", "4:2:2", "4:2:0"):
        yield "jpeg-subsampling", "jpg", encoded(image, "JPEG", subsampling=subsampling), LABELED
    yield "jpeg-restarts", "jpg", encoded(image, "JPEG", restart_marker_blocks=1), LABELED
    yield "jpeg-rgb", "jpg", encoded(image, "JPEG", keep_rgb=True), LABELED
    cmyk = encoded(image.convert("CMYK"), "JPEG")
    yield "jpeg-cmyk-adobe", "jpg", cmyk, LABELED
    at = cmyk.index(b"\xff\xee")
    yield "jpeg-cmyk", "jpg", cmyk[:at] + cmyk[at + 16 :], LABELED
    yield (
        "jpeg-cmyk-progressive",
        "jpg",
        encoded(image.convert("CMYK"), "JPEG", progressive=True),
        LABELED,
    )


def _pngs():
    image = photo()
    plain = encoded(image, "PNG")
    head, rest = plain[:33], plain[33:]
    for orientation in range(1, 9):
        yield "png-orientation", "png", encoded(image, "PNG", exif=exif(orientation)), LABELED
    for content in (b"", b"garbage", greedy_exif(), exif(6)[6:-9]):
        yield "png-broken-exif", "png", head + chunk(b"eXIf", content) + rest, LABELED
    rows = b"".join(bytes([n % 5]) + bytes(range(40)) for n in range(40))
    yield "png-filters", "png", png(40, 40, rows), LABELED
    yield "png-unknown-filter", "png", png(40, 40, b"\x09" + rows[1:]), None
    # Adam7 takes more rows than there are, each with a filter byte.
    yield "png-interlaced", "png", png(40, 40, bytes(4000), interlaced=1), LABELED
    yield "png-interlaced-and-cut", "png", png(40, 40, bytes(700), interlaced=1), "truncated"
    for bits, color, samples in [
        (1, 0, 1),
        (2, 0, 1),
        (4, 0, 1),
        (16, 0, 1),
        (16, 2, 3),
        (16, 4, 2),
        (16, 6, 4),
    ]:
        content = bytes((40 * bits * samples // 8 + 1) * 40)
        yield "png-depths", "png", png(40, 40, content, bits, color), LABELED
    for bits, color in [(3, 0), (16, 3), (8, 1), (8, 7), (0, 0)]:
        yield "png-impossible-depths", "png", png(40, 40, bytes(9000), bits, color), "corrupt"
    yield "png-without-palette", "png", png(40, 40, bytes(1640), color=3), None
    short = chunk(b"PLTE", bytes(3))
    indices = (b"\0" + b"\x09" * 40) * 40
    yield "png-short-palette", "png", png(40, 40, indices, color=3, before=short), None
    yield (
        "png-odd-palette",
        "png",
        png(40, 40, bytes(1640), color=3, before=chunk(b"PLTE", bytes(4))),
        None,
    )
    transparent = chunk(b"PLTE", bytes(range(30))) + chunk(b"tRNS", bytes(range(0, 250, 25)))
    yield (
        "png-palette-with-transparency",
        "png",
        png(40, 40, indices, color=3, before=transparent),
        LABELED,
    )
    for color, samples, content in [
        (0, 1, b"\0\0"),
        (2, 3, bytes(6)),
        (0, 1, b"\0"),
        (2, 3, b""),
        (4, 2, b"\0\0"),
    ]:
        body = bytes((40 * samples + 1) * 40)
        expected = LABELED if len(content) in (2, 6) else None
        data = png(40, 40, body, color=color, before=chunk(b"tRNS", content))
        yield "png-transparent-color", "png", data, expected
    yield "png-la", "png", encoded(photo(mode="L").convert("LA"), "PNG"), LABELED
    text = PngImagePlugin.PngInfo()
    for n in range(50):
        text.add_text(f"key {n}", "x" * 20_000, zip=n % 2 == 0)
        text.add_itxt(f"other key {n}", "ü" * 20_000, zip=n % 2 == 0)
    yield "png-much-text", "png", encoded(image, "PNG", pnginfo=text), LABELED
    bomb = zlib.compress(bytes(100_000_000), 1)
    yield "png-text-bomb", "png", head + chunk(b"zTXt", b"a\0\0" + bomb) + rest, LABELED
    yield "png-text-bomb", "png", head + chunk(b"iTXt", b"a\0\1\0\0\0" + bomb) + rest, LABELED
    yield (
        "png-text-bomb",
        "png",
        plain[:-12] + chunk(b"zTXt", b"a\0\0" + bomb) + plain[-12:],
        LABELED,
    )
    yield "png-icc-bomb", "png", head + chunk(b"iCCP", b"a\0\0" + bomb) * 5 + rest, LABELED
    for content in (b"", b"a\0\1", b"name\0\0garbage"):
        yield "png-broken-icc-profile", "png", head + chunk(b"iCCP", content) + rest, LABELED
    for kind in (b"pHYs", b"gAMA", b"cHRM", b"sRGB", b"tEXt", b"iTXt", b"zTXt", b"acTL", b"fcTL"):
        yield "png-empty-chunks", "png", head + chunk(kind, b"") + rest, LABELED
    yield "png-many-chunks", "png", head + chunk(b"tEXt", b"a\0b") * 50_000 + rest, LABELED
    yield "png-too-many-chunks", "png", head + chunk(b"abCd", b"") * 1_100_000 + rest, "corrupt"
    content = zlib.compress(bytes(101 * 100))
    tiny = b"".join(chunk(b"IDAT", content[n : n + 1]) for n in range(len(content)))
    data = png(100, 100, b"")
    yield "png-one-byte-at-a-time", "png", data[:33] + tiny + data[-12:], LABELED
    yield "png-without-pixels", "png", head + chunk(b"IEND", b""), "corrupt"
    yield "png-without-end", "png", plain[:-12], LABELED
    yield "png-without-header", "png", plain[:8] + rest, "corrupt"
    yield "png-two-headers", "png", head + png(9, 9, b"")[8:33] + rest, None
    yield "png-wrong-checksum", "png", plain[:30] + b"\0\0" + plain[32:], "corrupt"
    damaged = bytearray(plain)
    damaged[len(plain) // 2] ^= 0xFF
    yield "png-damaged-pixels", "png", bytes(damaged), "corrupt"
    frames = [photo(), photo().rotate(180)]
    yield (
        "png-animated",
        "png",
        encoded(frames[0], "PNG", save_all=True, append_images=frames[1:]),
        LABELED,
    )
    hidden = encoded(image, "PNG", save_all=True, append_images=frames, default_image=True)
    yield "png-animated", "png", hidden, LABELED
    yield "png-line-endings-converted", "png", plain.replace(b"\r\n", b"\n"), None


def _gifs():
    image = photo(mode="P")
    plain = encoded(image, "GIF")
    frames = [photo(mode="P"), photo(mode="P").rotate(180)]
    for disposal in (0, 1, 2, 3):
        data = encoded(image, "GIF", save_all=True, append_images=frames, disposal=disposal)
        yield "gif-animated", "gif", data, LABELED
    yield "gif-interlaced", "gif", encoded(image, "GIF", interlace=True), LABELED
    yield "gif-not-interlaced", "gif", encoded(image, "GIF", interlace=False), LABELED
    yield "gif-transparent", "gif", encoded(image, "GIF", transparency=7), LABELED
    comment = b"!\xfe" + (b"\xff" + b"c" * 255) * 10_000 + b"\0"
    yield "gif-huge-comment", "gif", gif(1, 1, comment), LABELED
    yield "gif-many-comments", "gif", gif(1, 1, b"!\xfe\1c\0" * 100_000), LABELED
    yield "gif-too-many-blocks", "gif", gif(1, 1, b"x" * 1_100_000), "corrupt"
    yield "gif-empty-extensions", "gif", gif(1, 1, b"!\xf9\0!\xff\0!\x01\0"), LABELED
    yield "gif-cut-within-a-comment", "gif", gif(1, 1, comment)[:5000], "truncated"
    yield "gif-header-only", "gif", b"GIF89a", "corrupt"
    yield "gif-without-image", "gif", plain[:13] + b";", None
    start = plain.index(b",", 13 + 768) + 10
    for bits in (0, 1, 12, 13, 255):
        data = plain[:start] + bytes([bits]) + plain[start + 1 :]
        yield "gif-code-size", "gif", data, None
    yield "gif-codes-that-do-not-exist", "gif", plain[: start + 1] + b"\xff" * 900, None


def _bmps():
    image = photo()
    plain = encoded(image, "BMP")
    yield "bmp-upside-down", "bmp", bmp(40, -40, bytes(1024 + 1600)), LABELED
    for bits in (1, 4, 8, 16, 24, 32):
        colors = 4 << bits if bits <= 8 else 0
        yield "bmp-depths", "bmp", bmp(40, 40, bytes(colors + 40 * 160), bits), LABELED
    for bits in (0, 2, 3, 64):
        yield "bmp-impossible-depths", "bmp", bmp(40, 40, bytes(9000), bits), None
    for compression in (3, 4, 5, 99):
        yield "bmp-compressions", "bmp", bmp(40, 40, bytes(9000), 8, compression), None
    palette = bytes(range(256)) * 4
    runs = palette + b"\x28\x07\0\0" * 40
    yield "bmp-run-lengths", "bmp", bmp(40, 40, runs, 8, 1), LABELED
    yield "bmp-run-lengths-cut", "bmp", bmp(40, 40, runs[:-60], 8, 1), None
    yield (
        "bmp-run-lengths-of-4-bits",
        "bmp",
        bmp(40, 40, palette[:64] + b"\x28\x17\0\0" * 40, 4, 2),
        LABELED,
    )
    yield (
        "bmp-run-lengths-bomb",
        "bmp",
        bmp(89_000, 1000, palette + b"\0\2\0\xff" * 9, 8, 1),
        "corrupt",
    )
    yield (
        "bmp-run-lengths-bomb",
        "bmp",
        bmp(66_000, 200, palette + b"\0\2\0\xff" * 9, 8, 1),
        "corrupt",
    )
    # As many runs as there may be, of no pixels.
    slow = palette + b"\0\2\0\0" * 6_000_000
    yield "bmp-run-lengths-slow", "bmp", bmp(40, 40, slow, 8, 1), "too_many_pixels"
    yield (
        "bmp-run-lengths-large",
        "bmp",
        bmp(3900, 4000, palette + b"\1\0\0\0" * 4000, 8, 1),
        LABELED,
    )
    yield (
        "bmp-offset-beyond-its-end",
        "bmp",
        plain[:10] + b"\xff\xff\xff\x7f" + plain[14:],
        "truncated",
    )
    yield "bmp-header-size", "bmp", plain[:14] + struct.pack("<I", 41) + plain[18:], None
    for header in (12, 40, 52, 56, 64, 108, 124):
        yield "dib-header", "bmp", struct.pack("<I", header) + plain[18:], None
    yield "dib", "bmp", encoded(image, "DIB"), LABELED


def _tiffs():
    image = photo()
    for orientation in (*range(1, 10), 300):
        data = encoded(image, "TIFF", tiffinfo={274: orientation})
        yield "tiff-orientation", "tif", data, LABELED
    compressions = [None, "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"]
    for compression in compressions:
        data = encoded(image, "TIFF", compression=compression)
        yield "tiff-compressions", "tif", data, LABELED
        for tenth in (3, 6, 9):
            cut = data[: len(data) * tenth // 10]
            yield "tiff-compressed-and-cut", "tif", cut, None
    for compression in ("group3", "group4", "tiff_ccitt"):
        fax = encoded(photo(mode="1"), "TIFF", compression=compression)
        yield "tiff-fax", "tif", fax, LABELED
        # libtiff fills what it cannot read with white, and says so to nobody.
        yield "tiff-damaged-fax", "tif", fax[:200] + bytes(200) + fax[400:], None
    for mode in ("CMYK", "LAB", "LA", "I;16"):
        if mode == "I;16":
            odd = Image.fromarray(np.arange(4800, dtype=np.uint16).reshape(60, 80) * 13)
        elif mode == "LAB":
            odd = Image.frombytes("LAB", (8, 8), bytes(192))
        else:
            odd = image.convert("L").convert(mode) if mode == "LA" else image.convert(mode)
        yield f"tiff-{mode.replace(';', '')}", "tif", encoded(odd, "TIFF"), LABELED
    integers = np.linspace(-(2**31), 2**31 - 1, 4800).astype(np.int32).reshape(60, 80)
    yield "tiff-32-bit-integers", "tif", encoded(Image.fromarray(integers), "TIFF"), LABELED
    for values in [(0, 1), (-5, 1e30), (-3e38, 3e38), (1e-45, 2e-45), (7, 7)]:
        floats = np.linspace(*values, 4800).astype(np.float32).reshape(60, 80)
        yield "tiff-floats", "tif", encoded(Image.fromarray(floats), "TIFF"), LABELED
    for value in (np.nan, np.inf, -np.inf, -9999):
        floats = np.full((60, 80), 0.5, np.float32)
        floats[30, 40] = value
        yield "tiff-floats-without-data", "tif", encoded(Image.fromarray(floats), "TIFF"), LABELED
    pages = encoded(image, "TIFF", save_all=True, append_images=[photo(99), photo(33)])
    yield "tiff-pages", "tif", pages, LABELED
    body = bytes(1600)
    fields = {256: (4, 1, 40), 257: (4, 1, 40), 258: (3, 1, 8), 259: (3, 1, 1), 262: (3, 1, 1)}
    fields |= {273: (4, 1, 0), 277: (3, 1, 1), 278: (4, 1, 40), 279: (4, 1, 1600)}
    yield "tiff-directory-loop", "tif", tiff(fields, body, following=8), LABELED
    loop = {330: (4, 1, 8), 34665: (4, 1, 8), 34853: (4, 1, 8), 40965: (4, 1, 8)}
    yield "tiff-directories-within-themselves", "tif", gray_tiff(40, 40, body, loop), LABELED
    many = {1000 + n: (3, 1, n) for n in range(60)}
    yield "tiff-unknown-tags", "tif", gray_tiff(40, 40, body, many), LABELED
    greedy = fields | {1000 + n: (7, 600_000, 0) for n in range(50_000)}
    yield "tiff-greedy-tags", "tif", tiff(greedy), LABELED
    rationals = {282: (5, 60_000, 0), 283: (5, 60_000, 0)}
    yield "tiff-many-rationals", "tif", gray_tiff(40, 40, bytes(500_000), rationals), LABELED
    for tag in (256, 258, 259, 273, 277, 278, 279, 322, 338, 339, 530):
        for count in (2, 30_000, 2**32 - 1):
            data = gray_tiff(40, 40, bytes(130_000), {tag: (4, count, 1024)})
            yield "tiff-counts", "tif", data, None
        yield "tiff-tag-beyond-its-end", "tif", gray_tiff(40, 40, body, {tag: (4, 9, 2**31)}), None
        yield "tiff-values", "tif", gray_tiff(40, 40, body, {tag: (4, 1, 0)}), None
        yield "tiff-values", "tif", gray_tiff(40, 40, body, {tag: (4, 1, 2**32 - 1)}), None
        yield "tiff-types", "tif", gray_tiff(40, 40, body, {tag: (2, 4, 0x41414141)}), None
    strips = struct.pack("<I", 1024) * 50_000
    overlap = {273: (4, 50_000, 1024), 278: (4, 1, 999), 279: (4, 50_000, 1024)}
    yield "tiff-strips-on-each-other", "tif", gray_tiff(1000, 1000, strips, overlap), "corrupt"
    for tile in [(16, 16), (0, 16), (65_536, 65_536)]:
        tiled = {322: (4, 1, tile[0]), 323: (4, 1, tile[1]), 324: (4, 1, 1024), 325: (4, 1, 256)}
        yield "tiff-tiles", "tif", gray_tiff(16, 16, bytes(256), tiled), None
    tiled = {322: (4, 1, 65_536), 323: (4, 1, 65_536), 324: (4, 1, 1024), 325: (4, 1, 99)}
    bomb = gray_tiff(16, 16, zlib.compress(bytes(9999)), tiled, compression=8)
    yield "tiff-tile-bomb", "tif", bomb, "too_many_pixels"
    yield (
        "tiff-deflate-bomb",
        "tif",
        gray_tiff(40, 40, zlib.compress(bytes(9**8)), compression=8),
        LABELED,
    )
    yield (
        "tiff-unknown-compression",
        "tif",
        gray_tiff(40, 40, body, compression=999),
        "unsupported_format",
    )
    yield "tiff-unknown-depth", "tif", gray_tiff(40, 40, body, bits=7), LABELED
    yield "tiff-unknown-depth", "tif", gray_tiff(40, 40, body, bits=17), "unsupported_format"
    yield "tiff-header-only", "tif", b"II*\0", "corrupt"
    yield "tiff-directory-beyond-its-end", "tif", b"MM\0*\xff\xff\xff\xf0" + bytes(99), "truncated"
    yield "tiff-empty-directory", "tif", tiff({}), "corrupt"
    yield "tiff-big", "tif", encoded(image, "TIFF", big_tiff=True), LABELED
    yield "tiff-big-and-big-endian", "tif", b"MM\0+\0\x08\0\0" + bytes(99), "corrupt"
    progressive = encoded(Image.new("L", (400, 300), 77), "JPEG", progressive=True)
    at = progressive.rindex(b"\xff\xda")
    scans = progressive[:-2] + progressive[at:-2] * 3000 + b"\xff\xd9"
    yield "tiff-many-scans", "tif", gray_tiff(400, 300, scans, compression=7), "corrupt"


def _others():
    image = photo()
    frames = [photo(), photo().rotate(180)]
    for name in ("WEBP", "AVIF"):
        suffix = SUFFIXES[name]
        for orientation in range(1, 9):
            data = encoded(image, name, exif=exif(orientation)[6:])
            yield f"{suffix}-orientation", suffix, data, LABELED
        yield f"{suffix}-greedy-exif", suffix, encoded(image, name, exif=greedy_exif()[6:]), LABELED
        animated = encoded(image, name, save_all=True, append_images=frames, duration=9)
        yield f"{suffix}-animated", suffix, animated, LABELED
        yield f"{suffix}-animated-and-cut", suffix, animated[: len(animated) * 9 // 10], None
        profile = encoded(image, name, icc_profile=bytes(100_000))
        yield f"{suffix}-garbage-as-icc-profile", suffix, profile, LABELED
    for options in ({"lossless": True}, {"quality": 1}, {"exact": True}):
        yield "webp-kinds", "webp", encoded(photo(mode="RGBA"), "WEBP", **options), LABELED
    plain = encoded(image, "WEBP", exif=exif(1)[6:])
    body = plain[12:] + b"abcd\0\0\0\0" * 100_000
    data = b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body
    yield "webp-many-chunks", "webp", data, LABELED
    yield "webp-without-image", "webp", b"RIFF\x0c\0\0\0WEBPVP8 \0\0\0\0", None
    avif = encoded(image, "AVIF")
    for subsampling in ("4:0:0", "4:4:4"):
        yield "avif-subsampling", "avif", encoded(image, "AVIF", subsampling=subsampling), LABELED
    at = avif.index(b"ispe") + 8
    for size in [(0, 0), (1, 1), (60_000, 60_000), (2**32 - 1,) * 2]:
        data = avif[:at] + struct.pack(">II", *size) + avif[at + 8 :]
        yield "avif-other-size-in-the-header", "avif", data, None
    at = avif.index(b"mdat") + 4
    yield "avif-damaged-pixels", "avif", avif[:at] + b"\xff" * 8 + avif[at + 8 :], "corrupt"
    yield "avif-only-its-brand", "avif", avif[:32], None
    yield "avif-box-of-no-size", "avif", avif[:32] + bytes(4) + avif[36:], None
    yield "avif-huge-box", "avif", avif[:32] + b"\xff" * 4 + avif[36:], None


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for case in corpus():
        (folder / case.name).write_bytes(case.data)
