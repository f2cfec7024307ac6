"""Refuses a truth that does not fit the images or the model, before the run changes anything.

The run finds out the same of any number of images, but only once it has begun.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable
from typing import TypeVar

from pipeline.inputs.find import list_images, only_images
from pipeline.inputs.truth import parent
from pipeline.inputs.truth_table import read_truth
from pipeline.label import truth, truth_classes
from pipeline.label.runs import Run
from pipeline.label.truth_classes import ClassCounts
from pipeline.records import ImageRef

T = TypeVar("T")

# So many images, and rows of the table, are looked at, and for so long; more are left to the run.
_MOST = 20_000
_SECONDS = 5.0


def look_ahead(run: Run) -> list[str]:
    """Compare the truth with the images and the model, unless there are many or a query is to run.

    Args:
      run: what shall begin.

    Returns:
      Lines for people.

    Raises:
      InputError: no image has a true class, or none that the model knows.
    """
    given, multi_label = run.config.truth, run.spec.is_multi_label
    sources = [*run.listed, *([] if run.truth is None else [run.truth])]
    if given is None or any(source.kind.check is not None for source in sources):
        return []
    deadline = time.monotonic() + _SECONDS
    refs = first_images(run)
    rows = [] if run.truth is None else _all(read_truth(run.truth), deadline)
    if refs is None or rows is None:
        return []
    said: list[str] = []
    if run.truth is None:
        refs = [ref._replace(truth=parent(ref.uri)) for ref in refs]
    else:
        refs, counts = truth.join_all(refs, rows, run.spec.labels, multi_label)
        said += truth.judge(run.truth, counts)
    classes = ClassCounts()
    for ref in refs:
        classes.add_image(ref, run.spec.labels, multi_label)
    return [*said, *truth_classes.judge(given, classes, run.spec.labels)]


def first_images(run: Run) -> list[ImageRef] | None:
    """List all images of a run; None if they are too many, take too long, or a query has them."""
    if any(source.kind.check is not None for source in run.listed):
        return None
    listed = itertools.chain.from_iterable(map(list_images, run.listed))
    return _all(only_images(listed), time.monotonic() + _SECONDS)


def _all(some: Iterable[T], deadline: float) -> list[T] | None:
    """List all of them; None if they are too many, or take too long."""
    found: list[T] = []
    for one in some:
        if len(found) == _MOST or time.monotonic() > deadline:
            return None
        found.append(one)
    return found
