"""JPEG files, including the MPO files that many cameras write."""

from __future__ import annotations

import re
import struct
from typing import NamedTuple

from pipeline.errors import ImageError
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
_END = b"\xff\xd9"
_HUFFMAN = (0xC0, 0xC1, 0xC2)
_DEFINE_HIERARCHY = 0xDE
# Tables, the frame, and which color space the samples are in: JFIF (APP0) or Adobe's (APP14).
_KEPT_SEGMENTS = _FRAMES | {0xC4, 0xCC, 0xDB, 0xDC, 0xDD, 0xDE, 0xDF, 0xE0, 0xEE, 0xF7, 0xF8}


def reduce_jpeg(data: bytes, max_pixels: int) -> Essentials:
    """A JPEG without its metadata, previews and further images.

    Markers are looked for as libjpeg does it.
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
        if marker == 0xD9 or marker < 0xC0:  # the end, or what is no marker
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
    kind = kind_of(b"".join(kept))
    kept.append(memoryview(data)[at - 2 :])
    if frame in _PROGRESSIVE or components != data[at + 2]:
        _check_scans(data, at - 2, width * height)
    elif frame in _HUFFMAN:
        # An end, in case it is missing: where no pixel is, the decoder then has nothing to say.
        kept.append(_END)
    is_everyday = kind is not None and kind.everyday
    return Essentials(b"".join(kept), orientation, is_everyday=is_everyday)


def _check_scans(data: bytes, at: int, pixels: int) -> None:
    """Refuse a JPEG whose scans are so many that decoding them would take long."""
    most = _MAX_SCANS
    if pixels * _MAX_SCANS > _MAX_PIXELS_TIMES_SCANS:
        most = max(_USUAL_SCANS, _MAX_PIXELS_TIMES_SCANS // pixels)
    if data.count(b"\xff\xda", at) <= most:
        return
    # The two bytes may be elsewhere too, as in the film behind a photograph that moves.
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
    """What a JPEG's frame header says of how its pixels are coded.

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
    """The kind of a JPEG; None if it has no frame header before its first scan.

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
    """Whether the marker that every JPEG ends with is missing; previews have one of their own."""
    return data.rfind(_END) <= data.rfind(b"\xff\xda")
