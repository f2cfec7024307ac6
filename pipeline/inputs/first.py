"""Takes only the first images of the inputs."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import time
from collections.abc import Iterator, Sequence

from pipeline.inputs.find import have_only_files, identity, list_images
from pipeline.inputs.kinds import Input, InputKind
from pipeline.inputs.passed_over import PassedOver
from pipeline.records import ImageRef
from pipeline.redaction import name_of

# How long images are counted that are not taken.
_SECONDS_TO_COUNT = 1.0


def first(inputs: Sequence[Input], limit: int | None) -> list[Input]:
    """Make one input that lists the first images of several, one input after the other.

    Folders on this machine are listed in the order of their names, and buckets are anyway; a table
    or list has its own order. So they are the same images every time.

    Args:
      inputs: what to list.
      limit: how many images, not counting duplicates; None for all, which leaves the inputs as they
        are.
    """
    if limit is None:
        return list(inputs)
    in_order = tuple(dataclasses.replace(source, in_order=True) for source in inputs)
    listed = functools.partial(_first, in_order, limit)
    kind = InputKind(
        recognize=_never,
        images=listed,
        lists_versions=True,
        has_only_files=functools.partial(_have_only_files, in_order),
    )
    return [dataclasses.replace(in_order[0], kind=kind)]


def describe(inputs: Sequence[Input], limit: int, seconds: float = _SECONDS_TO_COUNT) -> str:
    """Say how many images a limit takes of how many; "" if it takes all.

    Args:
      inputs: what is listed.
      limit: how many images are taken.
      seconds: how long to count; what has been counted by then is said as "at least".
    """
    deadline = time.monotonic() + seconds
    images: set[tuple[object, ...]] = set()
    least = ""
    for one in itertools.chain.from_iterable(map(list_images, inputs)):
        if isinstance(one, ImageRef):
            images.add(_identity(one))
        if time.monotonic() > deadline and images:
            least = "at least "
            break
    if len(images) > limit:
        return f"limited to the first {limit:,} of {least}{len(images):,} images"
    return f"limited to the first {limit:,} images" if least else ""


def _never(given: str) -> str | None:
    return None


def _have_only_files(inputs: Sequence[Input], _: Input) -> bool:
    return have_only_files(inputs)


def _first(inputs: Sequence[Input], limit: int, _: Input) -> Iterator[ImageRef | PassedOver]:
    taken: set[tuple[object, ...]] = set()
    for one in itertools.chain.from_iterable(map(list_images, inputs)):
        if isinstance(one, ImageRef):
            image = _identity(one)
            if image not in taken and len(taken) == limit:
                return
            taken.add(image)
        yield one


def _identity(ref: ImageRef) -> tuple[object, ...]:
    return name_of(ref.uri, ref.naming), identity(ref)
