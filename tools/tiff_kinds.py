"""Which kinds of TIFF are decoded: a table, made by decoding one file of each kind.

Each file is written here, decoded by the pipeline, and read by tifffile with imagecodecs, whose
samples are turned into colors as the TIFF specification has it. A kind is decoded right if both
differ by at most 2/255 on average; or it is refused by name. There must be nothing else.

    python -m tools.tiff_kinds > docs/tiff-kinds.md     # in the environment of the tests
"""

from __future__ import annotations

import io
import itertools
import struct
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import imagecodecs
import numpy as np
import tifffile
from PIL import Image

from pipeline.errors import ImageError
from pipeline.images.decode import decode
from pipeline.records import Reason

HEAD = """\
# Kinds of TIFF

`python -m tools.tiff_kinds` writes this table. It encodes one file of each kind, decodes it, and
compares the pixels with those of tifffile. A number is the mean difference in 255ths. A dash is a
kind that is refused, as `unsupported_format`, with a message that names it. An empty cell is a kind
that does not exist.

"""

WIDTH, HEIGHT = 52, 37  # neither is a multiple of a strip's or tile's
TOLERANCE = 2.0

GRAYS = {0: "min-is-white", 1: "min-is-black"}
PHOTOMETRICS = GRAYS | {
    2: "RGB",
    3: "palette",
    5: "CMYK",
    6: "YCbCr",
    8: "CIE L\\*a\\*b\\*",
    9: "ICC L\\*a\\*b\\*",
}
COLORS = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4, 6: 3, 8: 3, 9: 3}
FORMATS = {1: "unsigned", 2: "signed", 3: "float", 6: "complex"}
COMPRESSIONS = {
    **{1: "none", 5: "LZW", 8: "deflate", 32773: "PackBits", 34925: "LZMA", 50000: "Zstandard"},
    **{4: "CCITT G4", 7: "JPEG", 50001: "WebP"},
    **{34712: "JPEG 2000", 50002: "JPEG XL", 34887: "LERC", 34933: "PNG", 34934: "JPEG XR"},
}
_PER_SEGMENT: dict[int, Any] = {
    7: lambda samples: imagecodecs.jpeg8_encode(samples, 98, subsampling="444"),
    50001: lambda samples: imagecodecs.webp_encode(samples, lossless=True),
    34712: imagecodecs.jpeg2k_encode,
    50002: imagecodecs.jpegxl_encode,
    34887: imagecodecs.lerc_encode,
    34933: imagecodecs.png_encode,
    34934: imagecodecs.jpegxr_encode,
}


@dataclass(frozen=True)
class Kind:
    """What a TIFF's tags say of its pixels.

    ``extra``: what the bands are that come after those of the colors: 0 unspecified, 1 associated
    alpha, 2 unassociated alpha.

    ``tile``: its side in pixels; 0 for strips of 10 rows.
    """

    photometric: int
    bits: int
    sample_format: int = 1
    extra: tuple[int, ...] = ()
    planar: bool = False
    compression: int = 1
    predictor: int = 1
    order: str = "<"
    big: bool = False
    tile: int = 0
    fill_order: int = 1
    subsampling: tuple[int, int] = (1, 1)

    @property
    def samples(self) -> int:
        """How many bands it has."""
        return COLORS[self.photometric] + len(self.extra)


# The photograph, and its samples


def photograph() -> np.ndarray:
    """Float RGB ``[HEIGHT, WIDTH, 3]`` in [0, 1]: soft, with black, white and gray in it."""
    y, x = np.mgrid[0 : 1 : HEIGHT * 1j, 0 : 1 : WIDTH * 1j]
    rgb = np.stack([x, (x + y) / 2, 1 - y * x], -1)
    return rgb * (0.75 + 0.25 * np.cos(9 * x * y))[..., None]


def opacity() -> np.ndarray:
    """Float ``[HEIGHT, WIDTH]`` in [0, 1]."""
    return np.mgrid[0 : 1 : HEIGHT * 1j, 0.25 : 1 : WIDTH * 1j][1]


def color_map(bits: int) -> np.ndarray:
    """``[3, 2 ** bits]`` 16-bit colors."""
    ramp = np.linspace(0, 1, 2**bits)
    return (np.stack([ramp, ramp**2, 1 - ramp]) * 65535).round().astype(np.uint16)


_TO_XYZ = np.array(  # sRGB → XYZ, adapted to D50 (IEC 61966-2-1, with Bradford's matrix)
    [
        [0.4360747, 0.3850649, 0.1430804],
        [0.2225045, 0.7168786, 0.0606169],
        [0.0139322, 0.0971045, 0.7141733],
    ]
)
_D50 = np.array([0.9642, 1.0, 0.8249])


def lab_of(rgb: np.ndarray) -> np.ndarray:
    """CIE L*a*b*, of D50 as in a print's profile."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = linear @ _TO_XYZ.T / _D50
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz * (29 / 6) ** 2 / 3 + 4 / 29)
    return np.stack(
        [116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], -1
    )


def rgb_of_lab(lab: np.ndarray) -> np.ndarray:
    """What ``lab_of`` was given."""
    fy = (lab[..., 0] + 16) / 116
    f = np.stack([fy + lab[..., 1] / 500, fy, fy - lab[..., 2] / 200], -1)
    xyz = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * _D50
    linear = (xyz @ np.linalg.inv(_TO_XYZ).T).clip(0, 1)
    return np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)


def intensities(kind: Kind) -> np.ndarray:
    """The samples in [0, 1], ``[HEIGHT, WIDTH, samples]``, but for L*a*b*."""
    rgb = photograph()
    gray = rgb @ np.array([0.299, 0.587, 0.114])
    if kind.photometric in (0, 3):
        colors = (1 - gray if kind.photometric == 0 else gray)[..., None]
    elif kind.photometric == 1:
        # With two further bands of nothing, min-is-black is what GDAL calls RGB.
        as_rgb = sum(meaning == 0 for meaning in kind.extra) == 2
        colors = rgb[..., :1] if as_rgb else gray[..., None]
    elif kind.photometric == 5:
        black = 1 - rgb.max(-1, keepdims=True)
        colors = np.concatenate([(1 - rgb - black) / (1 - black).clip(1e-9), black], -1)
    elif kind.photometric == 6:
        chroma = (rgb[..., [2, 0]] - gray[..., None]) / np.array([1.772, 1.402]) + 0.5
        colors = np.concatenate([gray[..., None], chroma], -1)
    else:
        colors = rgb
    bands = [colors]
    others = iter([rgb[..., 1:2], rgb[..., 2:3]])
    for meaning in kind.extra:
        if meaning:
            bands.append(opacity()[..., None])
        else:
            bands.append(next(others, gray[..., None]))
    if 1 in kind.extra:
        bands[0] = bands[0] * opacity()[..., None]
    return np.concatenate(bands, -1)


def samples_of(kind: Kind) -> np.ndarray:
    """What is stored, ``[HEIGHT, WIDTH, samples]``."""
    values = intensities(kind)
    if kind.sample_format == 3:
        return values.astype(f"f{kind.bits // 8}")
    if kind.sample_format == 6:
        return values.astype(f"c{kind.bits // 8}")
    size = next(size for size in (8, 16, 32, 64) if size >= kind.bits)
    if kind.photometric in (8, 9):
        lab = lab_of(photograph())
        scale = 2 ** (kind.bits - 8)
        lightness = lab[..., :1] * (
            255 * scale / 100 if kind.photometric == 9 else (2**kind.bits - 1) / 100
        )
        colors = lab[..., 1:] * scale + (128 * scale if kind.photometric == 9 else 0)
        stored = np.concatenate([lightness, colors], -1).round().astype(np.int64)
        extra = (values[..., 3:] * (2**kind.bits - 1)).astype(np.int64)
        return np.concatenate([stored, extra], -1).astype(f"u{size // 8}")
    if kind.sample_format == 2:
        return ((values - 0.5) * (2.0**kind.bits - 2)).round().astype(f"i{size // 8}")
    most = np.nextafter(2.0**kind.bits, 0)  # of 64 bits, a float knows only the highest 53
    return (values * (2.0**kind.bits - 1)).round().clip(0, most).astype(f"u{size // 8}")


# Files


def encode(kind: Kind) -> bytes:
    """A TIFF of the photograph."""
    samples = samples_of(kind)
    planes = [samples[..., n : n + 1] for n in range(kind.samples)] if kind.planar else [samples]
    parts = [part for plane in planes for part in _divided(kind, plane)]
    fields: dict[int, tuple[str, list[int]]] = {
        **{256: ("H", [WIDTH]), 257: ("H", [HEIGHT]), 258: ("H", [kind.bits] * kind.samples)},
        **{259: ("H", [kind.compression]), 262: ("H", [kind.photometric])},
        **{266: ("H", [kind.fill_order]), 277: ("H", [kind.samples])},
        **{284: ("H", [1 + kind.planar]), 339: ("H", [kind.sample_format] * kind.samples)},
    }
    if kind.tile:
        fields |= {322: ("H", [kind.tile]), 323: ("H", [kind.tile])}
    else:
        fields[278] = ("H", [10])
    if kind.extra:
        fields[338] = ("H", list(kind.extra))
    if kind.predictor != 1:
        fields[317] = ("H", [kind.predictor])
    if kind.photometric == 3:
        fields[320] = ("H", color_map(min(kind.bits, 16)).reshape(-1).tolist())
    if kind.photometric == 6:
        fields[530] = ("H", list(kind.subsampling))
    offsets, counts = (324, 325) if kind.tile else (273, 279)
    fields |= {offsets: ("I", [0] * len(parts)), counts: ("I", [len(part) for part in parts])}
    starts = len(_directory(kind, fields)) + np.cumsum([0, *map(len, parts)])
    fields[offsets] = ("I", starts[:-1].tolist())
    return b"".join([_directory(kind, fields), *parts])


def _directory(kind: Kind, fields: dict[int, tuple[str, list[int]]]) -> bytes:
    """The header, the directory and the values that are not in it."""
    order, pointer, room = kind.order, "Q" if kind.big else "I", 8 if kind.big else 4
    start = 16 if kind.big else 8
    mark = b"II" if order == "<" else b"MM"
    entries, values = b"", b""
    end = start + (8 if kind.big else 2) + len(fields) * (20 if kind.big else 12) + room
    for tag in sorted(fields):
        letter, numbers = fields[tag]
        packed = struct.pack(f"{order}{len(numbers)}{letter}", *numbers)
        if len(packed) > room:
            where = struct.pack(order + pointer, end + len(values))
            values += packed + bytes(len(packed) % 2)
        else:
            where = packed.ljust(room, b"\0")
        entries += (
            struct.pack(order + "HH" + pointer, tag, {"H": 3, "I": 4}[letter], len(numbers)) + where
        )
    head = (
        struct.pack(order + "HHHQ", 43, 8, 0, 16) if kind.big else struct.pack(order + "HI", 42, 8)
    )
    count = struct.pack(order + ("Q" if kind.big else "H"), len(fields))
    return b"".join([mark, head, count, entries, bytes(room), values])


def _divided(kind: Kind, plane: np.ndarray) -> Iterator[bytes]:
    """The strips or tiles of a plane."""
    across, down = (kind.tile, kind.tile) if kind.tile else (WIDTH, 10)
    for top, left in itertools.product(range(0, HEIGHT, down), range(0, WIDTH, across)):
        part = plane[top : top + down, left : left + across]
        if kind.tile:
            missing = (down - part.shape[0], across - part.shape[1])
            part = np.pad(part, ((0, missing[0]), (0, missing[1]), (0, 0)))
        yield _compressed(kind, part)


def _compressed(kind: Kind, part: np.ndarray) -> bytes:
    if kind.compression in _PER_SEGMENT:
        squeezed = np.ascontiguousarray(part[..., 0] if part.shape[2] == 1 else part)
        return _PER_SEGMENT[kind.compression](squeezed)
    if kind.predictor == 2:
        unsigned = part.view(f"u{part.itemsize}")
        part = np.diff(unsigned, axis=1, prepend=np.zeros_like(unsigned[:, :1]))
    raw = _packed(kind, part)
    if kind.predictor == 3:
        raw = imagecodecs.floatpred_encode(
            part.astype(_ordered(kind, part.dtype)), axis=1
        ).tobytes()
    encoders: dict[int, Any] = {
        **{1: bytes, 5: imagecodecs.lzw_encode, 8: zlib.compress, 34925: imagecodecs.lzma_encode},
        **{32773: imagecodecs.packbits_encode, 50000: imagecodecs.zstd_encode},
    }
    if kind.compression == 4:
        return _fax(part[..., 0])
    stored = encoders[kind.compression](raw)
    if kind.fill_order == 2:
        return bytes(int(f"{byte:08b}"[::-1], 2) for byte in stored)
    return stored


def _ordered(kind: Kind, dtype: np.dtype) -> np.dtype:
    return np.dtype(f"{kind.order}{dtype.kind}{dtype.itemsize}")


def _packed(kind: Kind, part: np.ndarray) -> bytes:
    if kind.subsampling != (1, 1):
        return _chroma_blocks(kind, part)
    if kind.bits in (8, 16, 32, 64, 128):
        return part.astype(_ordered(kind, part.dtype)).tobytes()
    if kind.bits == 24:
        four = part.astype(f"{kind.order}u4")[..., None].view(np.uint8)
        return (four[..., :3] if kind.order == "<" else four[..., 1:]).tobytes()
    rows = part.reshape(len(part), -1)
    bits = rows[..., None].astype(np.uint64) >> np.arange(kind.bits, dtype=np.uint64)[
        ::-1
    ] & np.uint64(1)
    return np.packbits(bits.reshape(len(part), -1).astype(np.uint8), axis=1).tobytes()


def _chroma_blocks(kind: Kind, part: np.ndarray) -> bytes:
    """YCbCr as it is stored with less chroma: the luma of a block, then the block's chroma."""
    across, down = kind.subsampling
    missing = (-part.shape[0] % down, -part.shape[1] % across)
    padded = np.pad(part, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="edge")
    rows, columns = padded.shape[0] // down, padded.shape[1] // across
    blocks = padded.reshape(rows, down, columns, across, 3).swapaxes(1, 2)
    luma = blocks[..., 0].reshape(rows, columns, -1)
    chroma = blocks[..., 1:].mean((2, 3)).round().astype(np.uint8)
    return np.concatenate([luma, chroma], -1).tobytes()


def _fax(bits: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(bits.astype(bool)).save(file, "TIFF", compression="group4", tiffinfo={262: 1})
    file.seek(0)
    with tifffile.TiffFile(file) as written:
        page = written.pages[0]
        return file.getvalue()[page.dataoffsets[0] :][: page.databytecounts[0]]


# What is right, and what comes out


def reference(data: bytes) -> np.ndarray:
    """Float RGB ``[HEIGHT, WIDTH, 3]`` in [0, 255], by tifffile, on white."""
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages[0]
        samples = page.asarray()
        photometric, planar = int(page.photometric), int(page.planarconfig) == 2
        extra = tuple(int(meaning) for meaning in page.extrasamples)
        bits, table = page.bitspersample, page.colormap
        compression = int(page.compression)
        float_range = page.sampleformat == 3
    if samples.ndim == 2:
        samples = samples[..., None]
    elif planar and samples.shape[-1] != page.samplesperpixel:
        samples = np.moveaxis(samples, 0, -1)
    if photometric == 6 and compression in (7, 50001):
        photometric = 2  # tifffile has made it RGB
    colors, alpha = samples, np.ones(samples.shape[:2])
    if float_range:
        values = samples.astype(float)
        low, high = (
            (0, 1) if samples.min() >= 0 and samples.max() <= 1 else (samples.min(), samples.max())
        )
    elif samples.dtype.kind == "i" or bits > 16:
        values = samples.astype(float)
        low, high = values.min(), values.max()
        least = -(2.0 ** (bits - 1)) if samples.dtype.kind == "i" else 0.0
        if low >= 0 and high <= 65535:
            low, high = 0, 65535
        elif high - low > 2.0 ** (bits - 1):
            low, high = least, least + 2.0**bits - 1
    else:
        values, low, high = samples.astype(float), 0, 2.0**bits - 1
    intensity = (values - low) / ((high - low) or 1)
    transparent = [n for n, meaning in enumerate(extra) if meaning in (1, 2)]
    count = COLORS[photometric]
    if transparent:
        place = samples.shape[-1] - len(extra) + transparent[0]
        alpha = intensity[..., place]
        intensity = np.delete(intensity, place, -1)
    if photometric == 1 and intensity.shape[-1] == 3:
        photometric, count = 2, 3
    colors = intensity[..., :count]
    if photometric == 0:
        colors = 1 - colors
    if photometric in (0, 1):
        rgb = np.repeat(colors, 3, -1)
    elif photometric == 3:
        rgb = np.moveaxis(table, 0, -1)[samples[..., 0].astype(int)] / 65535
    elif photometric == 5:
        rgb = (1 - colors[..., :3]) * (1 - colors[..., 3:])
    elif photometric == 6:
        cb, cr = colors[..., 1] - 128 / 255, colors[..., 2] - 128 / 255
        red, blue = colors[..., 0] + 1.402 * cr, colors[..., 0] + 1.772 * cb
        green = (colors[..., 0] - 0.299 * red - 0.114 * blue) / 0.587
        rgb = np.stack([red, green, blue], -1)
    elif photometric in (8, 9):
        rgb = _from_stored_lab(samples[..., :3], bits, photometric)
    else:
        rgb = colors
    premultiplied = bool(transparent) and extra[transparent[0]] == 1
    covered = rgb if premultiplied else rgb * alpha[..., None]
    return ((covered + 1 - alpha[..., None]) * 255).clip(0, 255)


def _from_stored_lab(stored: np.ndarray, bits: int, photometric: int) -> np.ndarray:
    scale = 2.0 ** (bits - 8)
    if photometric == 9:
        lab = stored / scale * [100 / 255, 1, 1] - [0, 128, 128]
    else:
        chroma = stored[..., 1:].astype(f"u{bits // 8}").view(f"i{bits // 8}") / scale
        lab = np.concatenate([stored[..., :1] * (100 / (2.0**bits - 1)), chroma], -1)
    return rgb_of_lab(lab)


@dataclass(frozen=True)
class Outcome:
    """``difference``: of what is decoded from what is right, in 255ths; None if it is refused.

    ``message``: of the refusal.
    """

    difference: float | None
    message: str = ""

    def __str__(self) -> str:
        return "–" if self.difference is None else f"{self.difference:.1f}"


def outcome(kind: Kind) -> Outcome:
    """Decode a TIFF of this kind.

    Raises:
      AssertionError: it is decoded wrongly, or refused for another reason than its kind.
    """
    data = encode(kind)
    try:
        decoded = decode(data, HEIGHT, WIDTH)
    except ImageError as error:
        assert error.reason is Reason.UNSUPPORTED_FORMAT, (kind, error)
        assert f"{kind.samples} band" in error.message, (kind, error)
        assert f"{kind.bits}-bit" in error.message, (kind, error)
        return Outcome(None, error.message)
    difference = float(np.abs(decoded.pixels - reference(data)).mean())
    assert difference <= TOLERANCE, (kind, difference)
    return Outcome(difference)


# All of them


def rows() -> Iterator[Kind]:
    """The rows of the table: uncompressed kinds."""
    depths = {
        1: (1, 2, 4, 6, 8, 10, 12, 14, 16, 24, 32, 64),
        2: (8, 16, 32),
        3: (16, 32, 64),
        6: (64,),
    }
    extras: dict[int, list[tuple[int, ...]]] = {
        **{
            0: [(), (2,), (0, 0)],
            1: [(), (0,), (1,), (2,), (0, 0), (0, 0, 2), (0, 0, 0), (0,) * 4],
        },
        **{2: [(), (0,), (1,), (2,), (0, 0), (0, 2)], 3: [(), (2,)], 5: [(), (0,), (2,)]},
        **{6: [(), (0,)], 8: [(), (2,)], 9: [()]},
    }
    for photometric, sample_format in itertools.product(PHOTOMETRICS, depths):
        for bits, extra in itertools.product(depths[sample_format], extras[photometric]):
            if photometric == 3 and (bits > 16 or sample_format != 1):
                continue
            if photometric in (8, 9) and (bits not in (8, 16) or sample_format != 1):
                continue
            kind = Kind(photometric, bits, sample_format, extra)
            yield kind
            if kind.samples > 1:
                yield replace(kind, planar=True)


def compressed(kind: Kind) -> Iterator[Kind]:
    """A kind in each compression that can have it."""
    for compression in COMPRESSIONS:
        if compression == 4 and (kind.bits, kind.samples) != (1, 1):
            continue
        if compression in _PER_SEGMENT and not _has_codec(kind, compression):
            continue
        yield replace(kind, compression=compression)


def _has_codec(kind: Kind, compression: int) -> bool:
    """Whether there are such files: image files within a TIFF have limits of their own."""
    bands = 1 if kind.planar else kind.samples
    eight_bit = (kind.bits, kind.sample_format) == (8, 1)
    if kind.photometric in (3, 8, 9):
        return False
    if compression == 7:
        return eight_bit and bands in (1, 3, 4) and not (kind.planar and kind.photometric == 6)
    if compression == 50001:
        return eight_bit and bands in (3, 4) and kind.photometric == 2
    if compression == 34887:
        return (kind.bits, kind.sample_format) in ((8, 1), (16, 1), (32, 3)) and bands == 1
    return (
        kind.bits in (8, 16)
        and kind.sample_format == 1
        and bands in (1, 3)
        and kind.photometric in (1, 2)
    )


def table() -> str:
    """The table, in Markdown."""
    heads = ["colors", "bits", "bands", *COMPRESSIONS.values()]
    lines = [heads, ["---"] * len(heads)]
    decoded = refused = 0
    for row in rows():
        cells = dict.fromkeys(COMPRESSIONS, "")
        for kind in compressed(row):
            result = outcome(kind)
            cells[kind.compression] = str(result)
            refused += result.difference is None
            decoded += result.difference is not None
        meanings = {0: "+ 1", 1: "+ alpha (associated)", 2: "+ alpha"}
        bands = " ".join(
            [str(COLORS[row.photometric]), *(meanings[meaning] for meaning in row.extra)]
        )
        depth = f"{row.bits} {FORMATS[row.sample_format]}"
        lines.append(
            [PHOTOMETRICS[row.photometric], depth, bands + ", planar" * row.planar, *cells.values()]
        )
    text = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"{text}\n\n{decoded} kinds decoded, {refused} refused by name, none else.\n"


if __name__ == "__main__":
    sys.stdout.write(HEAD + table())
