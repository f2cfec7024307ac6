"""Takes only some of the images, in turn from each class, so that no class is without."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

from pipeline.finetune import splits
from pipeline.finetune.dataset import identity, list_with_truth
from pipeline.inputs.find import only_images
from pipeline.inputs.kinds import Input


def some_of_each_class(inputs: Sequence[Input], limit: int) -> list[Input]:
    """Make inputs that list at most so many images, not counting duplicates.

    They are the first of each class, and of each part if the images come with a split, in the order
    of the listing; folders are in the order of their files' names.
    """
    in_order = [dataclasses.replace(source, in_order=True) for source in inputs]
    groups: dict[tuple[str, str], dict[tuple[object, ...], None]] = {}
    for ref in only_images(itertools.chain.from_iterable(map(list_with_truth, in_order))):
        if ref.problem is not None:
            continue
        group = ref.truth or "", str(ref.carried[splits.COLUMN])
        groups.setdefault(group, {})[identity(ref)] = None
    in_turn = itertools.chain.from_iterable(
        itertools.zip_longest(*(groups[group] for group in sorted(groups)))
    )
    taken = frozenset(itertools.islice((image for image in in_turn if image is not None), limit))
    return [dataclasses.replace(source, only=taken) for source in in_order]
