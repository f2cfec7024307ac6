"""Registers the image formats: a row says how a file is recognized, verified and decoded.

Common formats that this package does not read have a row as well, so that a failure names them, and
so that a folder's files with their suffixes fail visibly and are not skipped.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

from pipeline.errors import ImageError
from pipeline.images import codecs
from pipeline.images.codecs import Opened
from pipeline.images.containers import (
    bmp,
    gif,
    heif,
    jpeg,
    jpeg_2000,
    jpeg_xl,
    png,
    tiff,
    webp,
)
from pipeline.images.containers.common import Essentials
from pipeline.records import Reason


@dataclasses.dataclass(frozen=True)
class ImageFormat:
    """A format of image files.

    Attributes:
      name: for people.
      signatures: what its files begin with, each with its offset.
      suffixes: of the files in a folder that are taken for images, lower case.
      reduce: from a file and the most pixels that are decoded to what a decoder is given. Raises an
        ``ImageError`` for what is not decoded, and ``struct.error`` where the file ends too early.
        None for a format that is not read.
      open: from that to an image that can be loaded. None where ``reduce`` makes one.
      ends_early: whether a file lacks its end, as its format marks it.
    """

    name: str
    signatures: tuple[tuple[int, bytes], ...]
    suffixes: tuple[str, ...] = ()
    reduce: Callable[[bytes, int], Essentials] | None = None
    open: Callable[[bytes], Opened] | None = None
    ends_early: Callable[[bytes], bool] = lambda data: False

    def matches(self, data: bytes) -> bool:
        """Tell whether a file begins like one of this format."""
        return any(data.startswith(signature, offset) for offset, signature in self.signatures)


def _with_pillow(plugin: str) -> Callable[[bytes], Opened]:
    return functools.partial(codecs.open_with_pillow, plugin=plugin)


FORMATS = (
    ImageFormat(
        "JPEG",
        ((0, b"\xff\xd8"),),
        (".jpg", ".jpeg", ".jpe", ".jfif"),
        jpeg.reduce_jpeg,
        jpeg.open_jpeg,
        jpeg.ends_early,
    ),
    ImageFormat(
        "PNG",
        ((0, b"\x89PNG"),),
        (".png",),
        png.reduce_png,
        _with_pillow("PNG"),
        png.ends_early,
    ),
    ImageFormat(
        "GIF",
        ((0, b"GIF87a"), (0, b"GIF89a")),
        (".gif",),
        gif.reduce_gif,
        _with_pillow("GIF"),
    ),
    ImageFormat(
        "TIFF",
        tuple((0, s) for s in (b"II*\0", b"MM\0*", b"II\0*", b"MM*\0", b"II+\0", b"MM\0+")),
        (".tif", ".tiff"),
        tiff.reduce_tiff,
    ),
    ImageFormat(
        "WebP",
        ((8, b"WEBP"),),
        (".webp",),
        webp.reduce_webp,
        _with_pillow("WEBP"),
        webp.ends_early,
    ),
    ImageFormat(
        "BMP",
        ((0, b"BM"), *((0, bytes([size, 0, 0, 0])) for size in bmp.BMP_HEADER_SIZES)),
        (".bmp", ".dib"),
        bmp.reduce_bmp,
        ends_early=bmp.ends_early,
    ),
    # Of those cameras whose files are no TIFFs; tiff.py knows the others.
    ImageFormat(
        "camera raw",
        (
            *((0, signature) for signature in (b"IIRO", b"IIRS", b"MMOR", b"IIU\0")),
            *((0, signature) for signature in (b"FUJIFILMCCD-RAW", b"\0MRM", b"FOVb")),
            *((6, b"HEAPCCDR"), (4, b"ftypcrx ")),
        ),
    ),
    ImageFormat(
        "HEIC or AVIF",
        ((4, b"ftyp"),),
        (".heic", ".heif", ".hif", ".avif"),
        heif.reduce_heif,
        heif.open_heif,
        heif.ends_early,
    ),
    ImageFormat(
        "JPEG 2000",
        ((0, jpeg_2000.JP2_SIGNATURE), (0, jpeg_2000.CODESTREAM_SIGNATURE)),
        (".jp2", ".j2k", ".jpx"),
        jpeg_2000.reduce_jpeg_2000,
        _with_pillow("JPEG2000"),
    ),
    ImageFormat(
        "JPEG XL",
        ((0, jpeg_xl.JXL_SIGNATURE), (0, jpeg_xl.CODESTREAM_SIGNATURE)),
        (".jxl",),
        jpeg_xl.reduce_jpeg_xl,
        jpeg_xl.open_jpeg_xl,
    ),
    ImageFormat("JPEG XR", ((0, b"II\xbc\1"),)),
    ImageFormat("DICOM", ((128, b"DICM"),)),
    ImageFormat("OpenEXR", ((0, b"v/1\1"),)),
    ImageFormat("Photoshop", ((0, b"8BPS"),), (".psd",)),
    ImageFormat("icon", ((0, b"\0\0\1\0"),), (".ico",)),
    ImageFormat("PDF", ((0, b"%PDF"),)),
    ImageFormat("SVG", ((0, b"<svg"),), (".svg",)),
)

# Suffixes by which a folder's files are taken for images.
SUFFIXES = tuple(sorted({suffix for row in FORMATS for suffix in row.suffixes}))


def recognize(data: bytes) -> ImageFormat:
    """Find the format of a file by its first bytes.

    Raises:
      ImageError: the format is not read, or unknown.
    """
    for row in FORMATS:
        if row.matches(data):
            if row.reduce is None:
                raise ImageError(
                    Reason.UNSUPPORTED_FORMAT,
                    f"{row.name} files are not read; convert it to JPEG or PNG",
                )
            return row
    raise ImageError(Reason.NOT_AN_IMAGE, f"the file begins with {data[:16]!r}")
