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
      looks_so: recognizes other beginnings than the signatures.
    """

    name: str
    signatures: tuple[tuple[int, bytes], ...]
    suffixes: tuple[str, ...] = ()
    reduce: Callable[[bytes, int], Essentials] | None = None
    open: Callable[[bytes], Opened] | None = None
    ends_early: Callable[[bytes], bool] = lambda data: False
    looks_so: Callable[[bytes], bool] = lambda data: False

    def matches(self, data: bytes) -> bool:
        """Tell whether a file begins like one of this format."""
        return self.looks_so(data) or any(
            data.startswith(signature, offset) for offset, signature in self.signatures
        )


def _with_pillow(plugin: str) -> Callable[[bytes], Opened]:
    return functools.partial(codecs.open_with_pillow, plugin=plugin)


def _is_svg(data: bytes) -> bool:
    """Recognize an SVG that begins as any XML does."""
    head = data[:1000].lstrip(b"\xef\xbb\xbf \t\r\n")
    return head.startswith((b"<?xml", b"<!--", b"<!DOCTYPE svg")) and b"<svg" in head


FORMATS = (
    ImageFormat(
        "JPEG",
        ((0, b"\xff\xd8"),),
        (
            ".jpg",
            ".jpeg",
            ".jpe",
            ".jfif",
            ".jif",
            ".jfi",
            ".pjpeg",
            ".pjp",
            ".mpo",
            ".jps",
            ".jls",
        ),
        jpeg.reduce_jpeg,
        jpeg.open_jpeg,
        jpeg.ends_early,
    ),
    ImageFormat(
        "PNG",
        ((0, b"\x89PNG"),),
        (".png", ".apng"),
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
        (".tif", ".tiff", ".btf"),
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
        (".heic", ".heif", ".hif", ".heics", ".heifs", ".avif", ".avifs"),
        heif.reduce_heif,
        heif.open_heif,
        heif.ends_early,
    ),
    ImageFormat(
        "JPEG 2000",
        ((0, jpeg_2000.JP2_SIGNATURE), (0, jpeg_2000.CODESTREAM_SIGNATURE)),
        (".jp2", ".j2k", ".jpx", ".jpf", ".j2c", ".jpc"),
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
    ImageFormat("JPEG XR", ((0, b"II\xbc\1"),), (".jxr", ".wdp", ".hdp")),
    ImageFormat("DICOM", ((128, b"DICM"),), (".dcm",)),
    ImageFormat("OpenEXR", ((0, b"v/1\1"),), (".exr",)),
    ImageFormat("Photoshop", ((0, b"8BPS"),), (".psd", ".psb")),
    ImageFormat("icon", ((0, b"\0\0\1\0"), (0, b"icns")), (".ico", ".icns")),
    ImageFormat("PDF", ((0, b"%PDF"),)),
    ImageFormat("SVG", ((0, b"<svg"),), (".svg",), looks_so=_is_svg),
    ImageFormat(
        "Netpbm",
        tuple((0, f"P{kind}{space}".encode()) for kind in "1234567Ff" for space in "\n\r\t #"),
        (".ppm", ".pgm", ".pbm", ".pnm", ".pam", ".pfm"),
    ),
    ImageFormat("QOI", ((0, b"qoif"),), (".qoi",)),
    ImageFormat("DirectDraw Surface", ((0, b"DDS "),), (".dds",)),
    ImageFormat("Radiance", ((0, b"#?RADIANCE"), (0, b"#?RGBE"))),
    ImageFormat("FITS", ((0, b"SIMPLE  ="),), (".fits",)),
    ImageFormat("GIMP", ((0, b"gimp xcf"),), (".xcf",)),
    ImageFormat("DjVu", ((0, b"AT&TFORM"),), (".djvu", ".djv")),
    ImageFormat("FLIF", ((0, b"FLIF"),), (".flif",)),
    ImageFormat("BPG", ((0, b"BPG\xfb"),), (".bpg",)),
    ImageFormat("X pixmap", ((0, b"/* XPM */"),), (".xpm",)),
    ImageFormat(
        "PCX", tuple((0, bytes([10, version, 1])) for version in (0, 2, 3, 4, 5)), (".pcx",)
    ),
    ImageFormat("SGI", ((0, b"\1\xda\0"), (0, b"\1\xda\1")), (".sgi", ".rgb", ".rgba", ".bw")),
    # Its files begin with the length of a comment, 0 in most; a Windows cursor looks the same.
    ImageFormat(
        "Targa",
        tuple((0, bytes([0, 0, kind])) for kind in (2, 3, 10, 11))
        + tuple((0, bytes([0, 1, kind])) for kind in (1, 9)),
        (".tga",),
    ),
)

# Suffixes by which a folder's files are taken for images.
SUFFIXES = tuple(sorted({suffix for row in FORMATS for suffix in row.suffixes}))

# Of cameras' raw files, which often lie beside a JPEG of the same picture. A folder's are passed
# over, and counted; one that is named fails.
RAW_SUFFIXES = (
    *(".3fr", ".ari", ".arw", ".bay", ".cap", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf"),
    *(".fff", ".gpr", ".iiq", ".k25", ".kdc", ".mdc", ".mef", ".mos", ".mrw", ".nef", ".nrw"),
    *(".orf", ".pef", ".ptx", ".raf", ".raw", ".rw2", ".rwl", ".rwz", ".sr2", ".srf", ".srw"),
    ".x3f",
)


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
