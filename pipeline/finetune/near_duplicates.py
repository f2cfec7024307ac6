"""Finds images that show the same picture: saved anew, resized or mirrored, or cropped a little.

An image is reduced to 64 bits, the signs of its lowest 8 × 8 frequencies apart from its mean. Two
images show the same picture if at most ``MOST_BITS`` of these differ, once one may be mirrored.
``benchmarks/near_duplicates.py`` measures this.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image

MOST_BITS = 7

# The side of the square that an image is reduced to, and that of its frequencies.
_SIDE, _KEPT = 32, 8

# Images whose frequencies are weaker than that, on average, in values of [0, 255], are all alike.
_FLAT = 0.5

# Bits of a part of a hash. Of four parts, one has at most one of seven bits that differ.
_PART = 16
_NEAR = [0, *(1 << bit for bit in range(_PART))]

# Pairs that are compared at a time.
_BLOCK = 4_000_000

_PLACES = np.arange(_SIDE)
_FREQUENCIES = np.arange(1, _KEPT + 1)
_COSINES = np.cos(np.pi * np.outer(_FREQUENCIES, 2 * _PLACES + 1) / (2 * _SIDE)) * (2 / _SIDE)
_BITS = 1 << np.arange(_KEPT * _KEPT, dtype=np.uint64)
# Mirroring an image changes the signs of its odd horizontal frequencies.
MIRROR = np.uint64(sum(int(bit) for bit in _BITS.reshape(_KEPT, _KEPT)[:, ::2].ravel()))


def hash_of_pixels(pixels: np.ndarray) -> int | None:
    """Reduce an image to 64 bits; None if it has nothing to tell it by.

    Args:
      pixels: uint8 ``[height, width, 3]``.
    """
    image = Image.fromarray(pixels).convert("L").resize((_SIDE, _SIDE), Image.Resampling.BOX)
    found = _COSINES @ np.asarray(image, np.float64) @ _COSINES.T
    if np.abs(found).mean() < _FLAT:
        return None
    return int(_BITS[found.ravel() > 0].sum())


def groups_of(hashes: Sequence[int | None]) -> list[int]:
    """Group images that show the same picture.

    Args:
      hashes: of the images.

    Returns:
      For each image the position of the first of its group. Groups are joined if they share one.
    """
    known = [at for at, value in enumerate(hashes) if value is not None]
    values = np.array([hashes[at] for at in known], np.uint64)
    distinct, first, place = np.unique(values, return_index=True, return_inverse=True)
    parent = list(range(len(distinct)))

    def root(at: int) -> int:
        while parent[at] != at:
            parent[at] = parent[parent[at]]
            at = parent[at]
        return at

    for one, other in _pairs(distinct):
        # The root is the image that comes first.
        a, b = sorted((root(one), root(other)), key=lambda at: int(first[at]))
        parent[b] = a
    groups = list(range(len(hashes)))
    for at, group in zip(known, place, strict=True):
        groups[at] = known[first[root(int(group))]]
    return groups


def _pairs(hashes: np.ndarray) -> Iterator[tuple[int, int]]:
    """Yield the places of hashes that differ little, as they are or mirrored; some pairs twice."""
    for shift in range(0, 64, _PART):
        parts = (hashes >> np.uint64(shift)).astype(np.int64) & (2**_PART - 1)
        order = np.argsort(parts, kind="stable")
        starts = np.searchsorted(parts[order], np.arange(2**_PART + 1))
        for mirror in (np.uint64(0), MIRROR):
            wanted = hashes ^ mirror
            wanted_parts = (wanted >> np.uint64(shift)).astype(np.int64) & (2**_PART - 1)
            for mask in _NEAR:
                yield from _joined(hashes, wanted, order, starts, wanted_parts ^ mask)


def _joined(
    hashes: np.ndarray, wanted: np.ndarray, order: np.ndarray, starts: np.ndarray, parts: np.ndarray
) -> Iterator[tuple[int, int]]:
    """Compare each hash with those that have a certain part."""
    counts = starts[parts + 1] - starts[parts]
    ends = np.cumsum(counts)
    blocks = np.searchsorted(ends, np.arange(_BLOCK, ends[-1] if len(ends) else 0, _BLOCK))
    for some in np.split(np.arange(len(hashes)), blocks):
        ones = np.repeat(some, counts[some])
        before = np.cumsum(counts[some]) - counts[some]
        at = np.arange(len(ones)) - np.repeat(before, counts[some])
        others = order[np.repeat(starts[parts[some]], counts[some]) + at]
        near = np.bitwise_count(wanted[ones] ^ hashes[others]) <= MOST_BITS
        near &= ones < others
        yield from zip(ones[near].tolist(), others[near].tolist(), strict=True)
