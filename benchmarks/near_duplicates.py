"""Measures how well images of the same picture are found among photographs, and how fast.

    .venv/bin/python benchmarks/near_duplicates.py PHOTOGRAPHS

Of 500 of the photographs, copies are made: a quarter saved anew, a quarter resized, a quarter
cropped by up to 10 % on each side, and a quarter mirrored. A pair of a copy and a photograph is
right if the copy was made of it. Other photographs that are like it count as mistakes, whatever
they show.
"""

from __future__ import annotations

import io
import random
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.finetune.near_duplicates import MIRROR, MOST_BITS, groups_of, hash_of_pixels

COPIES = 500
IMAGES = 100_000


def saved_anew(image: Image.Image, rng: random.Random) -> Image.Image:
    """Save as a JPEG of low quality."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=rng.choice([30, 50, 70]))
    return Image.open(file).convert("RGB")


def resized(image: Image.Image, rng: random.Random) -> Image.Image:
    """Resize to between 30 and 150 %."""
    factor = rng.uniform(0.3, 1.5)
    size = (int(image.width * factor), int(image.height * factor))
    return image.resize(size, Image.Resampling.BICUBIC)


def cropped(image: Image.Image, rng: random.Random) -> Image.Image:
    """Cut off up to 10 % on each side."""
    left, top, right, bottom = (rng.uniform(0, 0.1) for _ in range(4))
    width, height = image.size
    return image.crop(
        (int(width * left), int(height * top), int(width * (1 - right)), int(height * (1 - bottom)))
    )


def mirrored(image: Image.Image, _: random.Random) -> Image.Image:
    """Turn sideways."""
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


def main(folder: str) -> None:
    """Print recall by kind of copy, precision, and times."""
    rng = random.Random(0)
    paths = sorted(path for path in Path(folder).rglob("*.jpg"))
    images = [Image.open(path).convert("RGB") for path in paths]
    started = time.thread_time()
    found = [hash_of_pixels(np.asarray(image)) for image in images]
    each = (time.thread_time() - started) / len(images)
    groups = groups_of(found)
    shared = [at for at, group in enumerate(groups) if groups.count(group) > 1]
    pictures = len({groups[at] for at in shared})
    print(f"{len(images):,} photographs; {len(shared)} of them show {pictures} pictures")
    for at in shared:
        print(f"    picture {groups[at]}: {paths[at]}")
    looks = np.array([look or 0 for look in found], np.uint64)
    hits: dict[str, list[bool]] = {}
    pairs = 0
    kinds = (saved_anew, resized, cropped, mirrored)
    for number, at in enumerate(rng.sample(range(len(images)), COPIES)):
        make = kinds[number % len(kinds)]
        copy = np.uint64(hash_of_pixels(np.asarray(make(images[at], rng))) or 0)
        bits = [np.bitwise_count(looks ^ copy), np.bitwise_count(looks ^ copy ^ MIRROR)]
        near = np.minimum(*bits) <= MOST_BITS
        hits.setdefault(make.__name__, []).append(bool(near[at]))
        pairs += int(near.sum())
    for name, ones in hits.items():
        print(f"recall, {name}: {np.mean(ones):.3f} of {len(ones)}")
    right = sum(map(sum, hits.values()))
    print(f"recall {right / COPIES:.3f}, precision {right / pairs:.3f}")
    print(f"{1000 * each:.2f} ms of a core to hash an image, {IMAGES * each:.0f} s for {IMAGES:,}")
    # As many, of the photographs' bits with some changed, so that they are as unevenly spread.
    many = looks[np.arange(IMAGES) % len(looks)]
    for column in np.random.default_rng(0).integers(0, 64, (16, IMAGES), np.uint64):
        many = many ^ (np.uint64(1) << column)
    started = time.perf_counter()
    groups_of(many.tolist())
    print(f"{time.perf_counter() - started:.1f} s to compare {IMAGES:,}")


if __name__ == "__main__":
    main(sys.argv[1])
