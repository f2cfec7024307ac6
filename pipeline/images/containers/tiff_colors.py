"""Turns the samples of a TIFF into 8-bit gray, RGB, RGBA or CMYK."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from PIL import Image

from pipeline.images.containers.tiff_layout import (
    CIE_LAB,
    FLOAT,
    IMAGE_FILES,
    UNSIGNED,
    WHITE_IS_ZERO,
    Layout,
)

# What stands for no data by custom, without a word of it in the file, where nothing is less.
_CUSTOMARY = (
    *(-9999.0, -99999.0, -999999.0, -32767.0, -32768.0, -1e38),
    *(float(np.finfo(kind).min) for kind in (np.float16, np.float32, np.float64)),
)


# The first row of a part, and the samples of its bands ``[rows, width, bands]``, as
# ``tiff_segments.samples_of`` yields them; of all parts, each time.
Parts = Callable[[], Iterable[tuple[int, np.ndarray]]]


def colors_of(layout: Layout, parts: Parts) -> Image.Image:
    """Make an image of samples: L, RGB, RGBA or CMYK.

    Unsigned samples of up to 16 bits use their full range. Others have no agreed one: integers up
    to 65535 are taken for 16-bit, those that take up more than half of their range for all of it,
    floats in [0, 1] for intensities; anything else is stretched from its least to its greatest
    value. What stands for no data does not count, and becomes black.

    Raises:
      ImageError: they cannot be decoded.
    """
    scale = _scale(layout, parts)
    with_alpha = layout.alpha is not None
    mode = "RGBA" if with_alpha else {"gray": "L", "CMYK": "CMYK"}.get(layout.model, "RGB")
    image = Image.new(mode, (layout.width, layout.height))
    for top, samples in parts():
        if with_alpha:
            colors = _COLORS[layout.model](layout, samples[..., :-1], scale)
            part = _with_alpha(layout, colors, samples[..., -1:])
        else:
            part = _COLORS[layout.model](layout, samples, scale)
        image.paste(Image.fromarray(part[..., 0] if mode == "L" else part, mode), (0, top))
    return image


_Scale = Callable[[np.ndarray], np.ndarray]


def _scale(layout: Layout, parts: Parts) -> _Scale:
    """Choose how samples become 8-bit ones; if their range is open, look at all of them."""
    if layout.sample_format == UNSIGNED and layout.bits <= 16:
        return _by_table(layout.bits, inverted=layout.photometric == WHITE_IS_ZERO)
    low, high = _range(layout, parts)
    inverted = layout.photometric == WHITE_IS_ZERO

    def scale(samples: np.ndarray) -> np.ndarray:
        numbers = np.where(_has_data(layout, samples), samples, low).astype(np.float64)
        # Of halves, as the difference of two floats may be more than a float can be.
        scaled = (numbers / 2 - low / 2) / ((high / 2 - low / 2) or 1.0)
        scaled = (scaled * 255.0).round().clip(0, 255)
        return (255 - scaled if inverted else scaled).astype(np.uint8)

    return scale


def _by_table(bits: int, *, inverted: bool = False) -> _Scale:
    most = 2**bits - 1
    values = np.arange(most + 1, dtype=np.uint64)
    table = ((values * 510 + most) // (2 * most)).astype(np.uint8)
    if inverted:
        table = table[::-1]
    return lambda samples: samples if bits == 8 and not inverted else table[samples]


def _range(layout: Layout, parts: Parts) -> tuple[float, float]:
    """Find the samples that become 0 and 255."""
    low, high, lowest = np.inf, -np.inf, np.inf
    for _, samples in parts():
        colors = samples[..., :-1] if layout.alpha is not None else samples
        valid = colors[_has_data(layout, colors)]
        if valid.size:
            lowest = min(lowest, float(valid.min()))
            high = max(high, float(valid.max()))
            real = valid[~np.isin(valid, _CUSTOMARY)]
            low = min(low, float(real.min()) if real.size else np.inf)
    if lowest not in _CUSTOMARY or low == np.inf:
        low = lowest
    if not low <= high:  # there are no data at all
        return 0.0, 1.0
    if layout.sample_format == FLOAT:
        return (0.0, 1.0) if low >= 0 and high <= 1 else (low, high)
    if low >= 0 and high <= 255:  # bytes in a wider type, as programs write them
        return 0.0, 255.0
    if low >= 0 and high <= 65535:
        return 0.0, 65535.0
    least = 0.0 if layout.sample_format == UNSIGNED else -(2.0 ** (layout.bits - 1))
    most = least + 2.0**layout.bits - 1
    return (least, most) if high - low > (most - least) / 2 else (low, high)


def _has_data(layout: Layout, samples: np.ndarray) -> np.ndarray:
    valid = np.isfinite(samples)
    if layout.nodata is not None:
        with np.errstate(over="ignore"):
            valid &= samples != layout.nodata
    return valid


# Color models


def _same(layout: Layout, samples: np.ndarray, scale: _Scale) -> np.ndarray:
    return scale(samples)


def _from_palette(layout: Layout, samples: np.ndarray, scale: _Scale) -> np.ndarray:
    entries = 1 << layout.bits
    table = np.array(layout.color_map[: 3 * entries], np.uint16).reshape(3, entries).T
    # Some programs write 8-bit values; whoever reads them looks whether there is a larger one.
    eight_bit = table if table.max() < 256 else table >> 8
    return eight_bit.astype(np.uint8)[samples[..., 0]]


def _from_ycbcr(layout: Layout, samples: np.ndarray, scale: _Scale) -> np.ndarray:
    if layout.compression in IMAGE_FILES:  # whose decoder has made it RGB
        return samples
    red, green, blue = layout.coefficients
    blacks, whites = np.array(layout.reference, np.float32).reshape(3, 2).T
    ranges = np.array([255, 127, 127], np.float32)
    spans = np.where(whites == blacks, 1, whites - blacks)
    luma, cb, cr = np.moveaxis((samples - blacks) * (ranges / spans), -1, 0)
    r = luma + cr * np.float32(2 - 2 * red)
    b = luma + cb * np.float32(2 - 2 * blue)
    g = (luma - np.float32(red) * r - np.float32(blue) * b) / np.float32(green)
    return np.stack([r, g, b], -1).round().clip(0, 255).astype(np.uint8)


def _from_lab(layout: Layout, samples: np.ndarray, scale: _Scale) -> np.ndarray:
    lab = samples
    if layout.bits == 16:
        signed = layout.photometric == CIE_LAB
        colors = samples[..., 1:].view(np.int16) if signed else samples[..., 1:]
        luma = samples[..., :1] / (257 if signed else 256)
        whole = np.concatenate([luma, colors / 256], -1).round()
        limits = ([0, -128, -128], [255, 127, 127]) if signed else (0, 255)
        lab = whole.clip(*limits).astype(np.int16).astype(np.uint8)
    if layout.photometric != CIE_LAB:
        lab = lab ^ np.array([0, 128, 128], np.uint8)
    height, width = lab.shape[:2]
    image = Image.frombytes("LAB", (width, height), np.ascontiguousarray(lab).tobytes())
    return np.asarray(image.convert("RGB"))


_COLORS = {
    **{"gray": _same, "RGB": _same, "CMYK": _same},
    **{"palette": _from_palette, "YCbCr": _from_ycbcr, "Lab": _from_lab},
}


def _with_alpha(layout: Layout, colors: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Combine colors with alpha, which is never stretched, into 8-bit RGBA."""
    if layout.sample_format == UNSIGNED:
        opacity = _by_table(layout.bits)(alpha)
    else:
        opacity = (np.nan_to_num(alpha).clip(0, 1) * 255).round().astype(np.uint8)
    if layout.model == "CMYK":
        colors = np.asarray(Image.fromarray(colors, "CMYK").convert("RGB"))
    rgb = np.broadcast_to(colors, (*colors.shape[:2], 3))
    rgba = np.concatenate([rgb, opacity], axis=2)
    return np.asarray(Image.fromarray(rgba, "RGBa").convert("RGBA")) if layout.associated else rgba
