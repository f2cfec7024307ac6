"""Reads JPEG files, including the MPO files that many cameras write."""

from __future__ import annotations

import re
import struct
from typing import NamedTuple

import simplejpeg
from PIL import Image, ImageChops

from pipeline.errors import ImageError
from pipeline.images.codecs import Opened, image_of, library
from pipeline.images.containers.common import Essentials, check_size, exif_orientation
from pipeline.records import Reason

# No honest file has nearly as many.
_MAX_JPEG_SEGMENTS = 100_000

# Each scan of a JPEG goes over all pixels, at a third of a nanosecond each. Encoders write up to a
# dozen scans; libtiff allows 100 of them, the fuzzers of libjpeg-turbo 500.
_MAX_SCANS = 500
_USUAL_SCANS = 50
_MAX_PIXELS_TIMES_SCANS = 4_000_000_000

_MARKER = re.compile(rb"\xff[^\xff\x00]")  # neither padding nor a stuffed zero
_MARKER_IN_SCAN = re.compile(rb"\xff[^\xff\x00\xd0-\xd7]")
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = (0xC2, 0xC6, 0xCA, 0xCE)
# What the frame's marker says, as in ITU-T T.81, table B.1; those of JPEG-LS are ITU-T T.87's.
_PROCESSES = {
    **{0xC0: "baseline", 0xC1: "extended sequential", 0xC2: "progressive", 0xC3: "lossless"},
    **{0xC5: "hierarchical", 0xC6: "hierarchical", 0xC7: "hierarchical", 0xDE: "hierarchical"},
    **{0xC9: "arithmetic-coded", 0xCA: "arithmetic-coded", 0xCB: "arithmetic-coded lossless"},
    **{0xCD: "hierarchical", 0xCE: "hierarchical", 0xCF: "hierarchical"},
    **{0xF7: "JPEG-LS"},
}
_HUFFMAN = (0xC0, 0xC1, 0xC2)
_DEFINE_HIERARCHY = 0xDE
# Tables, the frame, and which color space the samples are in: JFIF (APP0) or Adobe's (APP14).
_KEPT_SEGMENTS = _FRAMES | {0xC4, 0xCC, 0xDB, 0xDC, 0xDD, 0xDE, 0xDF, 0xE0, 0xEE, 0xF7, 0xF8}

_SCAN, _END = b"\xff\xda", b"\xff\xd9"
_ADOBE = re.compile(rb"\xff\xee..Adobe.{7}", re.DOTALL)  # who inverts CMYK; ends with the transform
_JFIF = re.compile(rb"(\xff\xe0..JFIF\0).", re.DOTALL)  # ends with the version

# Cameras and web servers leave a byte or two behind a scan; more is what remains of damaged pixels.
_EXTRANEOUS = re.compile(r"(\d+) extraneous bytes")
_MOST_EXTRANEOUS = 2
# What libjpeg says of files whose pixels are right all the same.
_HARMLESS = ("Invalid SOS parameters", "Inconsistent progression")
_NOT_IMPLEMENTED = ("nsupported", "not implemented", "not supported")


def reduce_jpeg(data: bytes, max_pixels: int) -> Essentials:
    """Remove metadata, previews and further images from a JPEG.

    This looks for markers as libjpeg does.
    """
    kept: list[bytes | memoryview] = [b"\xff\xd8"]
    orientation = 1
    frame, shape = 0, b""
    at = 2
    for _ in range(_MAX_JPEG_SEGMENTS):
        match = _MARKER.search(data, at)
        if match is None:
            return Essentials(b"".join(kept), orientation)
        at = match.end()
        marker = data[at - 1]
        if 0xD0 <= marker <= 0xD8:  # restarts and starts have no content
            continue
        if marker == 0xD9 or marker < 0xC0:  # the end, or not a marker
            return Essentials(b"".join([*kept, match.group()]), orientation)
        (length,) = struct.unpack_from(">H", data, at)
        if marker == 0xDA:
            break
        segment = data[at : at + length]
        if marker in _KEPT_SEGMENTS:
            kept.append(match.group() + segment)
        if marker in _PROCESSES:
            frame, shape = marker, segment[3:8]
        if marker == 0xE1 and segment.startswith(b"Exif\0\0", 2) and orientation == 1:
            orientation = exif_orientation(segment[2:])
        at += max(length, 2)
    else:
        raise ImageError(Reason.CORRUPT, f"it has more than {_MAX_JPEG_SEGMENTS:,} segments")
    if len(shape) < 5:
        raise ImageError(Reason.CORRUPT, "its pixels come before the header that says how many")
    height, width, components = struct.unpack(">HHB", shape)
    check_size(width, height, max_pixels)
    header = _without_oddities(b"".join(kept), components)
    kind = kind_of(header)
    kept = [header, memoryview(data)[at - 2 :]]
    if frame in _PROGRESSIVE or components != data[at + 2]:
        _check_scans(data, at - 2, width * height)
    elif kind is not None and kind.everyday:
        # An end, in case it is missing: where no pixel is, the decoder then has nothing to say.
        kept.append(_END)
    is_everyday = kind is not None and kind.everyday
    return Essentials(b"".join(kept), orientation, is_everyday=is_everyday)


def _without_oddities(header: bytes, components: int) -> bytes:
    """Remove from a header what libjpeg would warn about although it affects no pixel.

    That is, versions of JFIF that do not exist, and color transforms that Adobe's marker does not
    have for so many components: those are taken for what libjpeg takes them for.
    """
    known = {3: b"\0\1", 4: b"\0\2"}.get(components)
    adobe = _ADOBE.search(header)
    if adobe and known and header[adobe.end() - 1] not in known:
        header = header[: adobe.end() - 1] + known[1:] + header[adobe.end() :]
    return _JFIF.sub(rb"\g<1>" + b"\1", header)


def _check_scans(data: bytes, at: int, pixels: int) -> None:
    """Refuse a JPEG whose scans are so many that decoding them would take long."""
    most = _MAX_SCANS
    if pixels * _MAX_SCANS > _MAX_PIXELS_TIMES_SCANS:
        most = max(_USUAL_SCANS, _MAX_PIXELS_TIMES_SCANS // pixels)
    if data.count(b"\xff\xda", at) <= most:
        return
    # The two bytes may occur elsewhere, as in the film behind a moving photograph.
    scans = 0
    while match := _MARKER_IN_SCAN.search(data, at):
        at, marker = match.end(), data[match.end() - 1]
        if marker == 0xD9:
            return
        if marker == 0xDA:
            scans += 1
            if scans > most:
                raise ImageError(
                    Reason.CORRUPT, f"it has more than {most} scans, for {pixels:,} pixels"
                )
        if marker >= 0xC0 and at + 2 <= len(data):
            at += struct.unpack_from(">H", data, at)[0]


class Kind(NamedTuple):
    """What a JPEG's frame header says about the coding of its pixels.

    ``name``: for people, with bits and components: "a lossless JPEG of 8 bits and 3 components".

    ``everyday``: Huffman-coded, baseline, extended or progressive, with 8 bits and 1, 3 or 4
    components: what decoders are used to, and may decode at a smaller scale.

    ``process``: a value of those in ``_PROCESSES``, as "progressive". ``bits``: of each sample.
    """

    name: str
    everyday: bool
    process: str
    bits: int
    width: int
    height: int
    components: int


def kind_of(data: bytes) -> Kind | None:
    """Find the kind of a JPEG; None if it has no frame header before its first scan.

    Only the segments in front of the first scan are looked at, as libjpeg does it. A second frame
    header makes a file odd, whatever the first one says.
    """
    frames: list[int] = []
    shape = b""
    at = 2
    for _ in range(_MAX_JPEG_SEGMENTS):
        match = _MARKER.search(data, at)
        if match is None or match.end() + 2 > len(data):
            break
        at = match.end()
        marker = data[at - 1]
        if 0xD0 <= marker <= 0xD8:
            continue
        if marker in (0xD9, 0xDA) or marker < 0xC0:
            break
        (length,) = struct.unpack_from(">H", data, at)
        if marker in _PROCESSES:
            frames.append(marker)
            shape = shape or data[at + 2 : at + length]
        at += max(length, 2)
    if not frames or len(shape) < 6:
        return None
    bits, height, width, components = struct.unpack_from(">BHHB", shape)
    process = "hierarchical" if _DEFINE_HIERARCHY in frames else _PROCESSES[frames[0]]
    ordinary = len(frames) == 1 and frames[0] in _HUFFMAN and bits == 8 and height > 0
    factors = shape[7 : 6 + 3 * components : 3]  # of each component, across and down
    across, down = [factor >> 4 for factor in factors], [factor & 15 for factor in factors]
    whole = all(
        parts and all(part and max(parts) % part == 0 for part in parts) for parts in (across, down)
    )
    well_formed = whole and len(shape) == 6 + 3 * components and components in (1, 3, 4)
    noun = process if process == "JPEG-LS" else f"{process} JPEG"
    name = f"{noun} of {bits} bits and {components} component" + "s" * (components != 1)
    if not height:
        name += ", whose height is given after its pixels"
    article = "an" if name[0] in "aeiou" else "a"
    everyday = ordinary and well_formed
    return Kind(f"{article} {name}", everyday, process, bits, width, height, components)


def ends_early(data: bytes) -> bool:
    """Tell whether the marker that every JPEG ends with is missing; previews have their own."""
    return data.rfind(_END) <= data.rfind(_SCAN)


def open_jpeg(data: bytes) -> Opened:
    """Open a JPEG of any kind.

    Raises:
      ValueError: it has no frame.
      ImageError: it has one of a kind that is not read.
    """
    kind = kind_of(data)
    if kind is None:
        raise ValueError("it has no header that says how many pixels it has")
    if not kind.everyday:
        return _open_rare_jpeg(data, kind)
    width, height = kind.width, kind.height
    mode = {1: "GRAY", 4: "CMYK"}.get(kind.components, "RGB")

    def scaled(least: int) -> tuple[int, int]:
        scale = next(n for n in (8, 4, 2, 1) if n == 1 or min(width, height) >= n * least)
        return -(-width // scale), -(-height // scale)

    def load(least: int) -> Image.Image:
        return _load_jpeg(data, mode, *scaled(least))

    def kept(least: int) -> int:
        # Of a progressive JPEG all coefficients are kept, however small it is decoded.
        across, down = (width, height) if kind.process == "progressive" else scaled(least)
        return across * down

    return Opened(width, height, load, kept)


def _load_jpeg(data: bytes, mode: str, width: int, height: int) -> Image.Image:
    """Decode an everyday JPEG at the scale that gives this size.

    Raises:
      ValueError: pixels are missing, or wrong.
    """
    decode = simplejpeg.decode_jpeg
    try:
        pixels = decode(data, mode, min_width=width, min_height=height)
    except ValueError as error:
        if not _is_harmless(str(error), data):
            raise
        pixels = decode(data, mode, min_width=width, min_height=height, strict=False)
    if mode == "GRAY":
        return Image.fromarray(pixels[..., 0])
    if mode == "CMYK":
        image = Image.fromarray(pixels, "CMYK")
        return ImageChops.invert(image) if _ADOBE.search(data[: data.find(_SCAN)]) else image
    return Image.fromarray(pixels)


def _is_harmless(said: str, data: bytes) -> bool:
    """Tell whether libjpeg's first warning about a file does not affect its pixels."""
    extraneous = _EXTRANEOUS.search(said)
    if extraneous is not None:
        count = int(extraneous[1])
        end = data.find(b"\xff\xd9")
        return count <= _MOST_EXTRANEOUS or data[:end].endswith(bytes(count))
    return any(words in said for words in _HARMLESS)


def _open_rare_jpeg(data: bytes, kind: Kind) -> Opened:
    """Open a JPEG of 12 bits, a lossless or an arithmetic-coded one, or a JPEG-LS."""
    if _END not in data[data.find(_SCAN) :]:
        raise ImageError(Reason.TRUNCATED, f"the file, {kind.name}, ends before its pixels do")
    imagecodecs = library("imagecodecs", kind.name)

    is_ls = kind.process == "JPEG-LS"

    def load(_: int) -> Image.Image:
        decode = imagecodecs.jpegls_decode if is_ls else imagecodecs.jpeg8_decode
        try:
            pixels = decode(data)
        except RuntimeError as error:
            is_known = any(words in str(error) for words in _NOT_IMPLEMENTED)
            reason = Reason.UNSUPPORTED_FORMAT if is_known else Reason.CORRUPT
            raise ImageError(reason, f"{kind.name}: {error}") from error
        image = image_of(pixels, 2**kind.bits - 1, "CMYK")
        if image.mode == "CMYK" and _ADOBE.search(data[: data.find(_SCAN)]):
            return ImageChops.invert(image)
        return image

    pixels = kind.width * kind.height
    return Opened(kind.width, kind.height, load, lambda _: pixels)
