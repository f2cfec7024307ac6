"""Assigns images to the parts that train, validate and test: all of one picture to one part."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import NamedTuple

from pipeline.finetune.dataset import part_of
from pipeline.finetune.near_duplicates import groups_of
from pipeline.finetune.splits import PARTS


class Assigned(NamedTuple):
    """Where images belong.

    ``parts``: that of each image; None if it is left out, since an image of the same picture is in
    a part that is kept further from training. ``groups`` and ``alike``: numbers of pictures that
    several images show, and of those images. ``moved``: number of images that are in another part
    than they would be alone. ``pictures``: of each image the number of its picture, which all
    images of that picture have.
    """

    parts: list[str | None]
    groups: int
    alike: int
    moved: int
    pictures: list[int]

    @property
    def left_out(self) -> int:
        """Number of images that are in no part."""
        return self.parts.count(None)

    def in_words(self) -> list[str]:
        """Say in a line or two what was done with images of the same picture."""
        lines = []
        if self.groups:
            lines.append(
                f"{self.alike:,} images show {self.groups:,} pictures, saved anew, resized or "
                f"mirrored; {self.moved:,} of them were moved to the part of the others"
            )
        if self.left_out:
            lines.append(
                f"{self.left_out:,} images are left out of a part: the same pictures are in test "
                "or validation"
            )
        return lines


def assign(
    contents: Sequence[str],
    looks: Sequence[int | None],
    given: Sequence[str],
    absent: Collection[str],
) -> Assigned:
    """Assign images to parts.

    Args:
      contents: of each image the SHA-256 of its file, in hexadecimal.
      looks: of each its ``near_duplicates.hash_of_pixels``.
      given: of each the part that it comes with; empty if it comes with none.
      absent: see ``dataset.part_of``.
    """
    first = {content: at for at, content in reversed(list(enumerate(contents)))}
    groups = groups_of(looks)
    groups = [groups[first[content]] for content in contents]  # flat images have no looks
    sizes = Counter(groups)
    # The checksum of one image decides for all of its picture.
    least: dict[int, str] = {}
    for group, content in zip(groups, contents, strict=True):
        least[group] = min(content, least.get(group, content))
    parts: list[str | None] = []
    moved = 0
    for group, content, own in zip(groups, contents, given, strict=True):
        parts.append(part_of(own, least[group], absent))
        moved += parts[-1] != part_of(own, content, absent)
    taken: set[int] = set()
    for part in reversed(PARTS):
        there = [at for at, one in enumerate(parts) if one == part]
        for at in there:
            if groups[at] in taken:
                parts[at] = None
        taken.update(groups[at] for at in there)
    shared = [size for size in sizes.values() if size > 1]
    return Assigned(parts, len(shared), sum(shared), moved, groups)
