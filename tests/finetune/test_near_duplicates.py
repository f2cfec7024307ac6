"""Which images show the same picture, and that these are all in one part."""

import hashlib
import io

import numpy as np
import pytest
from PIL import Image

from pipeline.finetune.dataset import split_of
from pipeline.finetune.near_duplicates import MIRROR, MOST_BITS, groups_of, hash_of_pixels
from pipeline.finetune.parts import assign
from pipeline.finetune.splits import TEST, TRAIN, VALIDATION


def picture(seed, size=(224, 224)):
    """A picture with as much structure as a photograph has, whatever its size."""
    noise = np.random.default_rng(seed).integers(0, 256, (10, 10, 3), np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)


def saved_anew(image):
    file = io.BytesIO()
    image.save(file, "JPEG", quality=40)
    return Image.open(file).convert("RGB")


def looks_of(image):
    return hash_of_pixels(np.asarray(image))


@pytest.mark.parametrize(
    "change",
    [
        saved_anew,
        lambda image: image.resize((97, 61)),
        lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        lambda image: saved_anew(
            image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).resize((150, 90))
        ),
        lambda image: image.crop((2, 1, 222, 223)),
        lambda image: image.point(lambda value: 20 + value * 0.8),
    ],
)
def test_what_is_found(change):
    images = [picture(seed) for seed in range(8)]
    looks = [looks_of(one) for one in [*images, *map(change, images)]]
    assert groups_of(looks) == [*range(8), *range(8)]


def test_images_without_structure_are_not_alike():
    flat = [Image.new("RGB", (60, 40), color) for color in ("white", "#fefefe", "black")]
    looks = [looks_of(image) for image in flat]
    assert looks == [None] * 3
    assert groups_of(looks) == [0, 1, 2]
    assert groups_of([]) == []


def test_all_pairs_within_so_many_bits_are_found():
    rng = np.random.default_rng(0)
    hashes = [int(value) for value in rng.integers(0, 2**64, 600, np.uint64)]
    for n in range(300):
        flips = sum(1 << int(bit) for bit in rng.choice(64, rng.integers(0, 10), replace=False))
        hashes.append(hashes[n] ^ flips ^ (int(MIRROR) if n % 2 else 0))
    groups = groups_of(hashes)
    for n in range(300):
        difference = hashes[n] ^ hashes[600 + n] ^ (int(MIRROR) if n % 2 else 0)
        assert groups[600 + n] == (n if difference.bit_count() <= MOST_BITS else 600 + n)
    a, b, c = hashes[0], hashes[0] ^ 0b1111, hashes[0] ^ 0b11111111  # a chain
    assert groups_of([hashes[1], c, a, None, b]) == [0, 1, 1, 3, 1]


def contents(count):
    return [hashlib.sha256(bytes([n])).hexdigest() for n in range(count)]


def test_one_checksum_decides_for_all_images_of_a_picture():
    files = contents(12)  # 6 and 7 test, 1 validates
    looks: list[int | None] = [None] * 12
    looks[1] = looks[6] = looks[0] = 5
    found = assign(files, looks, [""] * 12, ())
    part = split_of(min(files[0], files[1], files[6]))
    assert found.parts == [part if n in (0, 1, 6) else split_of(files[n]) for n in range(12)]
    assert (found.groups, found.alike, found.moved, found.left_out) == (1, 3, 2, 0)
    alone = assign(files, [None] * 12, [""] * 12, ())
    assert alone.parts == [split_of(file) for file in files]
    assert alone.in_words() == []


def test_with_a_given_split_a_picture_is_kept_from_training():
    files = [*contents(5), contents(1)[0]]  # the last is the same file as the first
    given = [TRAIN, TRAIN, VALIDATION, TEST, TEST, VALIDATION]
    found = assign(files, [None, 7, 7, 7, 7, None], given, ())
    assert found.parts == [None, None, None, TEST, TEST, VALIDATION]
    assert found.left_out == 3
    assert "3 images are left out of a part: the same pictures" in found.in_words()[-1]
