"""Reads HEIF files: the HEIC of phones, and AVIF. ISO/IEC 23008-12."""

from __future__ import annotations

import math
import re
import struct
from fractions import Fraction
from typing import NamedTuple

from PIL import Image

from pipeline.errors import ImageError
from pipeline.images.codecs import Opened, library, open_with_pillow
from pipeline.images.containers.boxes import boxes
from pipeline.images.containers.common import Essentials, check_size
from pipeline.records import Reason

# Of images, and of their sequences; there are videos that begin in the same way.
_IMAGE_BRANDS = frozenset(
    (
        *(b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1"),
        *(b"mif2", b"miaf", b"msf1", b"avif", b"avis", b"avci", b"jpeg", b"j2ki", b"vvic"),
    )
)
_SEQUENCE_BRANDS = frozenset([b"msf1", b"avis", b"hevc", b"hevx", b"hevm", b"hevs"])

# How an image is coded; what is put together from others is as they are.
CODECS = {
    **{b"hvc1": "HEVC", b"hev1": "HEVC", b"av01": "AV1", b"avc1": "AVC", b"vvc1": "VVC"},
    **{b"jpeg": "JPEG", b"j2k1": "JPEG 2000", b"unci": "uncompressed", b"evc1": "EVC"},
}
_PUT_TOGETHER = (b"grid", b"iden", b"iovl")
_MAX_DEPTH = 8

_EXIF_ITEM = re.compile(rb"(infe\x02.{7}|infe\x03.{9})Exif", re.DOTALL)


class Primary(NamedTuple):
    """The image in a file that viewers show.

    ``codec``: a key of ``CODECS``, or whatever else the file says. ``width`` and ``height`` are
    before ``crop``, which is None or ``(left, top, right, bottom)``; rotation and mirroring come
    after it.
    """

    codec: bytes
    width: int
    height: int
    crop: tuple[int, int, int, int] | None


def reduce_heif(data: bytes, max_pixels: int) -> Essentials:
    """Hide the EXIF data of a HEIF: rotation and mirroring are properties of the format."""
    (size,) = struct.unpack_from(">I", data)
    brands = {data[at : at + 4] for at in (8, *range(16, min(size, len(data), 4096), 4))}
    if not brands & _IMAGE_BRANDS:
        raise ImageError(Reason.NOT_AN_IMAGE, f"the file begins with {data[:16]!r}")
    primary = primary_image(data)
    if primary is not None:
        check_size(primary.width, primary.height, max_pixels)
    elif not brands & _SEQUENCE_BRANDS:
        raise ImageError(
            Reason.TRUNCATED if ends_early(data) else Reason.CORRUPT,
            "the file does not say which of its images is to be shown",
        )
    return Essentials(_EXIF_ITEM.sub(rb"\1none", data), None)


def ends_early(data: bytes) -> bool:
    """Tell whether the file lacks a part of one of its boxes."""
    end = 0
    for box in boxes(data):
        end = box.end
    return end > len(data)


def primary_image(data: bytes) -> Primary | None:
    """Read what the file says about its primary image; None if it names none.

    Raises:
      struct.error: it ends too early.
      ImageError: what it says is contradictory.
    """
    parts = {}
    for outer in boxes(data):
        if outer.kind == b"meta":
            parts = {box.kind: box for box in boxes(data, outer.start + 4, outer.end)}
            break
    if b"pitm" not in parts or b"iinf" not in parts:
        return None
    at = parts[b"pitm"].start
    (primary,) = struct.unpack_from(">I" if data[at] else ">H", data, at + 4)
    kinds = _kinds(data, parts[b"iinf"].start, parts[b"iinf"].end)
    made_of = {}
    if b"iref" in parts:
        made_of = _first_parts(data, parts[b"iref"].start, parts[b"iref"].end)
    item = primary
    for _ in range(_MAX_DEPTH):
        if kinds.get(item) not in _PUT_TOGETHER or item not in made_of:
            break
        item = made_of[item]
    width = height = 0
    aperture: tuple[int, ...] | None = None
    if b"iprp" in parts:
        for kind, start in _properties(data, parts[b"iprp"].start, parts[b"iprp"].end, primary):
            if kind == b"ispe":
                width, height = struct.unpack_from(">II", data, start + 4)
            elif kind == b"clap":
                aperture = struct.unpack_from(">IIIIiIiI", data, start)
    crop = _crop(width, height, aperture) if aperture else None
    return Primary(kinds.get(item, b"none"), width, height, crop)


def _kinds(data: bytes, start: int, end: int) -> dict[int, bytes]:
    """Item → its kind."""
    kinds: dict[int, bytes] = {}
    for box in boxes(data, start + (8 if data[start] else 6), end):
        if box.kind != b"infe":
            continue
        if data[box.start] == 2:
            item, kind = struct.unpack_from(">H2x4s", data, box.start + 4)
        elif data[box.start] == 3:
            item, kind = struct.unpack_from(">I2x4s", data, box.start + 4)
        else:
            continue
        kinds.setdefault(item, kind)
    return kinds


def _first_parts(data: bytes, start: int, end: int) -> dict[int, int]:
    """Item that is put together from others → the first of those."""
    first: dict[int, int] = {}
    for box in boxes(data, start + 4, end):
        if box.kind == b"dimg":
            item, _, part = struct.unpack_from(">IHI" if data[start] else ">HHH", data, box.start)
            first[item] = part
    return first


def _properties(data: bytes, start: int, end: int, wanted: int) -> list[tuple[bytes, int]]:
    """Yield the kinds of an item's properties, and the positions of their contents."""
    known: list[tuple[bytes, int]] = []
    own: list[int] = []
    for outer in boxes(data, start, end):
        if outer.kind == b"ipco":
            known = [(box.kind, box.start) for box in boxes(data, outer.start, outer.end)]
        if outer.kind != b"ipma":
            continue
        version, flags, entries = struct.unpack_from(">BxxBI", data, outer.start)
        at = outer.start + 8
        for _ in range(entries):
            item, count = struct.unpack_from(">IB" if version else ">HB", data, at)
            at += 5 if version else 3
            numbers = struct.unpack_from(f">{count}{'H' if flags & 1 else 'B'}", data, at)
            at += count * (2 if flags & 1 else 1)
            if item == wanted:
                own += [number & (0x7FFF if flags & 1 else 0x7F) for number in numbers]
    return [known[number - 1] for number in own if 0 < number <= len(known)]


def _crop(width: int, height: int, aperture: tuple[int, ...]) -> tuple[int, int, int, int]:
    """Compute the box of a clean aperture from its size and its center's offset."""
    if 0 in aperture[1::2]:
        raise ImageError(Reason.CORRUPT, "its crop box is a fraction of zero")
    across, down, right, below = (
        Fraction(aperture[n], aperture[n + 1]) for n in range(0, len(aperture), 2)
    )
    left = math.floor(right + (width - across) / 2)
    top = math.floor(below + (height - down) / 2)
    box = (left, top, left + round(across), top + round(down))
    if left < 0 or top < 0 or not (left < box[2] <= width and top < box[3] <= height):
        raise ImageError(Reason.CORRUPT, f"its crop box {box} is not within its pixels")
    return box


def open_heif(data: bytes) -> Opened:
    """Open the primary image of a HEIC or AVIF, cropped, rotated and mirrored as it says.

    Raises:
      ImageError: it is coded in a way that is not read.
    """
    primary = primary_image(data)
    if primary is None or primary.codec == b"av01":
        opened = open_with_pillow(data, plugin="AVIF")
        return opened if primary is None or primary.crop is None else _cropped(opened, primary.crop)
    if primary.codec not in (b"hvc1", b"hev1"):
        codec = CODECS.get(primary.codec, repr(primary.codec))
        raise ImageError(
            Reason.UNSUPPORTED_FORMAT, f"the HEIF file holds an image that is coded as {codec}"
        )
    pi_heif = library("pi_heif", "HEIC")
    pi_heif.options.THUMBNAILS = pi_heif.options.DEPTH_IMAGES = pi_heif.options.AUX_IMAGES = False
    pi_heif.options.DECODE_THREADS = 1
    file = pi_heif.open_heif(data)
    width, height = file.size

    def load(_: int) -> Image.Image:
        image: Image.Image = file.to_pillow()
        image.info.clear()
        return image

    return Opened(width, height, load, lambda _: width * height)


def _cropped(opened: Opened, box: tuple[int, int, int, int]) -> Opened:
    def load(least: int) -> Image.Image:
        return opened.load(least).crop(box)

    return opened._replace(width=box[2] - box[0], height=box[3] - box[1], load=load)
