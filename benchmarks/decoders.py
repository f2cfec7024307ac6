"""Compares decoders and resizers: CPU time per image, and whether the labels stay the same.

    python benchmarks/decoders.py PHOTOS MODEL [RESULTS.json]

``PHOTOS`` is a folder of ImageNet photographs with ``truth.csv``, ``MODEL`` the folder of
MobileNetV2 as a SavedModel. The images: the photographs, and of each four crops between half and
nine tenths of its sides, saved again as JPEG at quality 95, so that a thousand different images are
compared; and twelve photographs enlarged to 12 megapixels. Every way of decoding is one function
from a file's bytes to uint8 ``[224, 224, 3]``, run in one thread; the ways take turns, and the
median of three rounds counts. Agreement is the part of the images whose most probable class is
that of Pillow's full decode with its bicubic resize.
"""

from __future__ import annotations

import io
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import photographs
import pyvips
import simplejpeg
from contenders.common import BATCH_SIZE, SIZE, load
from cykooz_resizer import FilterType, ImageData, PixelType, ResizeAlg, ResizeOptions, Resizer
from PIL import Image

from pipeline.images import decode as images

ROUNDS = 3
LARGE_IMAGES = 12

cv2.setNumThreads(1)
pyvips.voperation.cache_set_max(0)

Way = Callable[[bytes], np.ndarray]


def pillow(draft: int = 0, resample: Image.Resampling = Image.Resampling.BICUBIC) -> Way:
    """Pillow alone; ``draft``: the least size in pixels that the JPEG is decoded at, 0 for full."""

    def decode(data: bytes) -> np.ndarray:
        return np.asarray(_open(data, draft).resize((SIZE, SIZE), resample))

    return decode


def pillow_cykooz(draft: int = 0, kind: FilterType = FilterType.catmull_rom) -> Way:
    """Decoded by Pillow, resized by fast_image_resize, columns first as Pillow does."""
    options = ResizeOptions(resize_alg=ResizeAlg.convolution(kind), use_alpha=False)

    def decode(data: bytes) -> np.ndarray:
        resized = Image.new("RGB", (SIZE, SIZE))
        image = _open(data, draft)
        narrowed = Image.new("RGB", (SIZE, image.height))
        Resizer().resize_pil(image, narrowed, options)
        Resizer().resize_pil(narrowed, resized, options)
        return np.asarray(resized)

    return decode


def pillow_cykooz_rows_first(data: bytes) -> np.ndarray:
    """As fast_image_resize does it by itself, in one call."""
    options = ResizeOptions(resize_alg=ResizeAlg.convolution(FilterType.catmull_rom))
    resized = Image.new("RGB", (SIZE, SIZE))
    Resizer().resize_pil(_open(data, 0), resized, options)
    return np.asarray(resized)


def simplejpeg_pillow(least: int = 0, fast: bool = False) -> Way:
    """Decoded by libjpeg-turbo through simplejpeg, resized by Pillow."""

    def decode(data: bytes) -> np.ndarray:
        pixels = _turbo(data, least, fast, fast)
        resized = Image.fromarray(pixels).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
        return np.asarray(resized)

    return decode


def simplejpeg_cykooz(least: int = 0, fast_dct: bool = False, fast_upsampling: bool = False) -> Way:
    """Decoded by libjpeg-turbo through simplejpeg, resized by fast_image_resize."""

    def decode(data: bytes) -> np.ndarray:
        return _cykooz(_turbo(data, least, fast_dct, fast_upsampling))

    return decode


def opencv(interpolation: int) -> Way:
    """OpenCV alone, which has no antialiased bicubic filter."""

    def decode(data: bytes) -> np.ndarray:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
        return cv2.resize(pixels, (SIZE, SIZE), interpolation=interpolation)

    return decode


def opencv_cykooz(data: bytes) -> np.ndarray:
    """Decoded by OpenCV, resized by fast_image_resize."""
    return _cykooz(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB))


def vips(data: bytes) -> np.ndarray:
    """Libvips' thumbnail, which decodes at a reduced scale by itself."""
    thumbnail = pyvips.Image.thumbnail_buffer(data, SIZE, height=SIZE, size="force")
    return np.asarray(thumbnail.colourspace("srgb"))[:, :, :3]


def _open(data: bytes, draft: int) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    if draft:
        image.draft(None, (draft, draft))
    return image.convert("RGB")


def _turbo(data: bytes, least: int, fast_dct: bool, fast_upsampling: bool) -> np.ndarray:
    """``least``: as ``draft``; the scale is a power of two, for which there is SIMD code."""
    height, width, _, _ = simplejpeg.decode_jpeg_header(data)
    divisor = 1
    while least and divisor < 8 and min(height, width) // (2 * divisor) >= least:
        divisor *= 2
    return simplejpeg.decode_jpeg(
        data,
        min_height=-(-height // divisor),
        min_width=-(-width // divisor),
        fastdct=fast_dct,
        fastupsample=fast_upsampling,
    )


def _cykooz(pixels: np.ndarray) -> np.ndarray:
    height, width, _ = pixels.shape
    options = ResizeOptions(resize_alg=ResizeAlg.convolution(FilterType.catmull_rom))
    source = ImageData(width, height, PixelType.U8x3, pixels.tobytes())
    narrowed = ImageData(SIZE, height, PixelType.U8x3)
    resized = ImageData(SIZE, SIZE, PixelType.U8x3)
    Resizer().resize(source, narrowed, options)
    Resizer().resize(narrowed, resized, options)
    return np.frombuffer(resized.get_buffer(), np.uint8).reshape(SIZE, SIZE, 3)


REFERENCE = "Pillow full, Pillow bicubic"
WAYS: dict[str, Way] = {
    REFERENCE: pillow(),
    "Pillow ≥2×, Pillow bicubic": pillow(2 * SIZE),
    "Pillow ≥1×, Pillow bicubic": pillow(SIZE),
    "Pillow full, Pillow bilinear": pillow(0, Image.Resampling.BILINEAR),
    "Pillow full, fast_image_resize bicubic": pillow_cykooz(),
    "Pillow ≥2×, fast_image_resize bicubic": pillow_cykooz(2 * SIZE),
    "Pillow ≥1×, fast_image_resize bicubic": pillow_cykooz(SIZE),
    "Pillow full, fast_image_resize bicubic, rows first": pillow_cykooz_rows_first,
    "Pillow full, fast_image_resize bilinear": pillow_cykooz(0, FilterType.bilinear),
    "simplejpeg full, Pillow bicubic": simplejpeg_pillow(),
    "simplejpeg full fast, Pillow bicubic": simplejpeg_pillow(fast=True),
    "simplejpeg full, fast_image_resize bicubic": simplejpeg_cykooz(),
    "simplejpeg ≥2×, fast_image_resize bicubic": simplejpeg_cykooz(2 * SIZE),
    "simplejpeg ≥1×, fast_image_resize bicubic": simplejpeg_cykooz(SIZE),
    "simplejpeg ≥2× fast upsampling, fast_image_resize": simplejpeg_cykooz(
        2 * SIZE, fast_upsampling=True
    ),
    "simplejpeg ≥2× fast DCT, fast_image_resize": simplejpeg_cykooz(2 * SIZE, fast_dct=True),
    "OpenCV full, fast_image_resize bicubic": opencv_cykooz,
    "OpenCV full, area": opencv(cv2.INTER_AREA),
    "OpenCV full, bilinear, not antialiased": opencv(cv2.INTER_LINEAR),
    "libvips thumbnail": vips,
    "this package": lambda data: images.decode(data, SIZE, SIZE).pixels,
}


def cpu_milliseconds(way: Way, files: list[bytes]) -> tuple[float, list[np.ndarray]]:
    """Measure the whole process's CPU time per image; return it and what was decoded."""
    started = time.process_time()
    decoded = [way(data) for data in files]
    return (time.process_time() - started) / len(files) * 1000, decoded


def main() -> None:
    """Measure, print the table, write it as JSON."""
    originals, truth = photographs.read(Path(sys.argv[1]))
    files = originals + photographs.crops(originals, each=4)
    enlarged = photographs.enlarged(originals[:LARGE_IMAGES])
    predict = load(sys.argv[2])
    times: dict[str, list[float]] = {way: [] for way in WAYS}
    large: dict[str, list[float]] = {way: [] for way in WAYS}
    classes: dict[str, np.ndarray] = {}
    for round_ in range(ROUNDS):
        for name, way in WAYS.items():
            milliseconds, decoded = cpu_milliseconds(way, files)
            times[name].append(milliseconds)
            large[name].append(cpu_milliseconds(way, enlarged)[0])
            if round_ == 0:
                batches = range(0, len(decoded), BATCH_SIZE)
                classes[name] = np.concatenate(
                    [predict(decoded[at : at + BATCH_SIZE]) for at in batches]
                )
            print(f"round {round_ + 1}: {name}: {milliseconds:.2f} ms", file=sys.stderr)
    rows = [
        {
            "way": name,
            "cpu_milliseconds": round(statistics.median(times[name]), 2),
            "cpu_milliseconds_12_megapixels": round(statistics.median(large[name]), 1),
            "top_1": round(float(np.mean(classes[name][: len(truth)] == truth)), 3),
            "agreement": round(float(np.mean(classes[name] == classes[REFERENCE])), 4),
        }
        for name in WAYS
    ]
    print(f"| decode, resize ({len(files):,} images) | CPU ms | of 12 MP | top-1 | agreement |")
    print("| --- | --- | --- | --- | --- |")
    for row in sorted(rows, key=lambda row: row["cpu_milliseconds"]):
        print("| " + " | ".join(str(value) for value in row.values()) + " |")
    if len(sys.argv) > 3:
        Path(sys.argv[3]).write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
