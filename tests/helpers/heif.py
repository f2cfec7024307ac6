"""Writes HEIF files, HEIC and AVIF, around images that an encoder has made."""

import io
import struct
from typing import NamedTuple

import pillow_heif
from PIL import Image

from pipeline.images.containers.boxes import boxes


class Item(NamedTuple):
    """``refers``: kinds of references → the places of the items that they point at.

    ``properties``: kinds → contents; those that change an image are applied in this order.
    """

    kind: bytes
    data: bytes
    properties: dict[bytes, bytes]
    refers: dict[bytes, list[int]] = {}  # noqa: RUF012 (never changed)


def hevc(image, bits=8, **options) -> Item:
    """An image encoded as HEVC."""
    file = io.BytesIO()
    if bits > 8:
        samples = image.convert("RGB").tobytes()
        deep = b"".join(struct.pack("<H", sample * 257) for sample in samples)
        heif = pillow_heif.from_bytes(mode="RGB;16", size=image.size, data=deep)
        heif.save(file, quality=90, **options)
    else:
        pillow_heif.from_pillow(image).save(file, quality=90, **options)
    return _primary(file.getvalue())


def av1(image) -> Item:
    """An image encoded as AV1."""
    file = io.BytesIO()
    image.save(file, "AVIF", quality=90)
    return _primary(file.getvalue())


def rotated(quarters) -> tuple[bytes, bytes]:
    """Turned counterclockwise so often."""
    return b"irot", bytes([quarters])


def mirrored(axis) -> tuple[bytes, bytes]:
    """Top and bottom exchanged (0), or left and right (1)."""
    return b"imir", bytes([axis])


def cropped(size, box) -> tuple[bytes, bytes]:
    """The clean aperture of what is within a box."""
    numbers = [box[2] - box[0], 1, box[3] - box[1], 1]
    numbers += [box[0] + box[2] - size[0], 2, box[1] + box[3] - size[1], 2]
    return b"clap", struct.pack(">IIIIiIiI", *numbers)


def size(width, height) -> tuple[bytes, bytes]:
    return b"ispe", struct.pack(">III", 0, width, height)


def grid(columns, rows, width, height) -> Item:
    """What is put together from the items that follow it, row by row."""
    data = struct.pack(">BBBBHH", 0, 0, rows - 1, columns - 1, width, height)
    parts = list(range(1, 1 + rows * columns))
    return Item(b"grid", data, dict([size(width, height)]), {b"dimg": parts})


def exif(orientation) -> Item:
    """EXIF data, which is nothing to go by in a HEIF."""
    entry = struct.pack(">HHIHH", 0x112, 3, 1, orientation, 0)
    data = b"MM\0*" + struct.pack(">IH", 8, 1) + entry + bytes(4)
    return Item(b"Exif", bytes(4) + data, {}, {b"cdsc": [0]})


def auxiliary(image, urn) -> Item:
    """A depth map, a gain map, a mask: an image that belongs to the first one."""
    item = hevc(image.convert("L"))
    kind = (b"auxC", bytes(4) + urn.encode() + b"\0")
    return item._replace(properties={**item.properties, **dict([kind])}, refers={b"auxl": [0]})


def heif(*items, brand=b"heic", primary=0) -> bytes:
    """A file of these items."""
    known: list[tuple[bytes, bytes]] = []
    associations = b""
    for number, item in enumerate(items, 1):
        known += [p for p in item.properties.items() if p not in known]
        places = [known.index(p) + 1 for p in item.properties.items()]
        essential = [
            0x80 * (known[n - 1][0] in (b"hvcC", b"av1C", b"irot", b"imir", b"clap"))
            for n in places
        ]
        marks = bytes(n | e for n, e in zip(places, essential, strict=True))
        associations += struct.pack(">HB", number, len(marks)) + marks
    hidden = {place for item in items for place in item.refers.get(b"dimg", [])}
    entries = b"".join(
        _full(b"infe", struct.pack(">HH4sB", n, 0, item.kind, 0), version=2, flags=n - 1 in hidden)
        for n, item in enumerate(items, 1)
    )
    references = b"".join(
        _box(kind, struct.pack(f">HH{len(to)}H", n, len(to), *(place + 1 for place in to)))
        for n, item in enumerate(items, 1)
        for kind, to in item.refers.items()
    )
    head = _box(b"ftyp", brand + bytes(4) + b"mif1" + brand + b"miaf")
    properties = _box(b"ipco", b"".join(_box(*p) for p in known))
    properties += _full(b"ipma", struct.pack(">I", len(items)) + associations)

    def meta(start):
        places = struct.pack(">BBH", 0x44, 0, len(items))
        for n, item in enumerate(items, 1):
            places += struct.pack(">HHHII", n, 0, 1, start, len(item.data))
            start += len(item.data)
        content = _full(b"hdlr", bytes(4) + b"pict" + bytes(13))
        content += _full(b"pitm", struct.pack(">H", primary + 1)) + _full(b"iloc", places)
        content += _full(b"iinf", struct.pack(">H", len(items)) + entries)
        content += _full(b"iref", references) + _box(b"iprp", properties)
        return _full(b"meta", content)

    start = len(head) + len(meta(0)) + 8
    return head + meta(start) + _box(b"mdat", b"".join(item.data for item in items))


def _box(kind, content) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


def _full(kind, content, version=0, flags=0) -> bytes:
    return _box(kind, bytes([version, 0, 0, flags]) + content)


def _primary(data) -> Item:
    """The primary image of a file by libheif or libavif."""
    [outer] = [box for box in boxes(data) if box.kind == b"meta"]
    parts = {box.kind: box for box in boxes(data, outer.start + 4, outer.end)}
    at = parts[b"pitm"].start
    (primary,) = struct.unpack_from(">I" if data[at] else ">H", data, at + 4)
    at = parts[b"iloc"].start
    version, sizes, base_size = data[at], data[at + 4], data[at + 5]
    assert version < 2
    assert sizes == 0x44
    at += 8
    while True:
        item = struct.unpack_from(">H", data, at)[0]
        at += 2 + 2 * version + 2
        base = int.from_bytes(data[at : at + (base_size >> 4)], "big")
        at += base_size >> 4
        (extents,) = struct.unpack_from(">H", data, at)
        if item == primary:
            break
        at += 2 + 8 * extents
    assert extents == 1
    offset, length = struct.unpack_from(">II", data, at + 2)
    [ipco] = [
        box for box in boxes(data, parts[b"iprp"].start, parts[b"iprp"].end) if box.kind == b"ipco"
    ]
    properties = {
        box.kind: data[box.start : box.end]
        for box in boxes(data, ipco.start, ipco.end)
        if box.kind in (b"hvcC", b"av1C", b"ispe", b"pixi", b"colr")
    }
    kind = b"hvc1" if b"hvcC" in properties else b"av01"
    start = base + offset
    return Item(kind, data[start : start + length], properties)


def picture(data) -> Image.Image:
    """What libheif makes of the primary image."""
    return pillow_heif.open_heif(io.BytesIO(data)).to_pillow()
