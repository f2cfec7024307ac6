"""Test images of several sizes, made from a folder of photographs with ``truth.csv``."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
from PIL import Image

LARGE = (4000, 3000)  # 12 megapixels


def read(folder: Path) -> tuple[list[bytes], list[int]]:
    """The JPEG files of the photographs, and their classes."""
    with (folder / "truth.csv").open(newline="") as file:
        truth = {row["file"]: int(row["class_id"]) for row in csv.DictReader(file)}
    paths = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in (".jpeg", ".jpg")]
    return [path.read_bytes() for path in paths], [truth[path.name] for path in paths]


def crops(files: list[bytes], each: int) -> list[bytes]:
    """So many crops of each image, half to nine tenths of its sides, as JPEG files."""
    random = np.random.default_rng(0)
    return [_crop(data, random) for data in files for _ in range(each)]


def enlarged(files: list[bytes]) -> list[bytes]:
    """The images at ``LARGE``, as JPEG files."""
    return [_save(_open(data).resize(LARGE, Image.Resampling.LANCZOS), 90) for data in files]


def _crop(data: bytes, random: np.random.Generator) -> bytes:
    image = _open(data)
    width, height = (int(side * random.uniform(0.5, 0.9)) for side in image.size)
    left = random.integers(image.width - width)
    top = random.integers(image.height - height)
    return _save(image.crop((left, top, left + width, top + height)), 95)


def _open(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data)).convert("RGB")


def _save(image: Image.Image, quality: int) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return file.getvalue()
