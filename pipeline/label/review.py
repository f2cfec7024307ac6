"""Chooses the images of a run that a person looks at, and writes them for spreadsheets and tools.

The files for Label Studio are what its documentation says of pre-annotated tasks
(https://labelstud.io/guide/predictions) and of choices (https://labelstud.io/tags/choices).
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from typing import Any, NamedTuple
from xml.etree import ElementTree

from pipeline import storage
from pipeline.errors import ImageError, StoreError
from pipeline.formats import tables
from pipeline.formats.schema import BadRow, as_text
from pipeline.inputs.column_names import CORRECTED
from pipeline.inputs.label_studio import CHOICE, IMAGE, task_image
from pipeline.models.spec import ModelSpec
from pipeline.outputs import layout
from pipeline.records import Labeled, is_by_person
from pipeline.redaction import name_of
from pipeline.report.sampling import Least
from pipeline.tally import CombineTallies, hash_of

# Why an image is in the queue.
BELOW_THRESHOLD = "below_threshold"
SAMPLE = "sample"

# The part of the queue that is a random sample of the images that have a label.
SAMPLED = 0.1

COLUMNS = ("image", "label", "score", "why", CORRECTED, "truth")


class Queued(NamedTuple):
    """An image in the queue.

    ``labels``: what the model says, best first; below a threshold its most probable class, if that
    is known. ``score``: of the best class, in [0, 1]. ``why``: ``BELOW_THRESHOLD`` or ``SAMPLE``.
    ``truth``: as in the row.
    """

    image: str
    labels: tuple[str, ...]
    score: float
    why: str
    truth: str | None


class Queue:
    """The images to look at, of those that were offered; a tally.

    Args:
      size: the number of images at most. A tenth is a random sample of the images with a label;
        the others are those without one that have the lowest scores. What the one part does not
        need, the other one gets.
      multi_label: whether an image may have several labels.
    """

    def __init__(self, size: int, multi_label: bool = False):
        self._size = size
        self._multi_label = multi_label
        self._below = Least[Queued](size)
        self._sample = Least[Queued](size)

    def add(self, row: Labeled) -> None:
        """Offer one more image, as its row is written; a person's label needs no second look."""
        if is_by_person(row.carried):
            return
        number = hash_of(row.image)
        if row.label is None:
            if self._below.wants((row.score, number)):
                self._below.offer((row.score, number), self._queued(row, BELOW_THRESHOLD))
        elif self._sample.wants(number):
            self._sample.offer(number, self._queued(row, SAMPLE))

    def _queued(self, row: Labeled, why: str) -> Queued:
        said = row.predictions if self._multi_label else row.predictions[:1]
        labels = tuple(dict.fromkeys(one.label for one in said))
        return Queued(row.image, labels, row.score, why, row.truth)

    def merge(self, other: Queue) -> None:
        """Add the images of another queue."""
        for one in other._below.items():
            self._below.offer((one.score, hash_of(one.image)), one)
        for one in other._sample.items():
            self._sample.offer(hash_of(one.image), one)

    def images(self) -> list[Queued]:
        """Return the images, those below a threshold first, the lowest scores first."""
        below, sample = self._below.items(), self._sample.items()
        sampled = max(_share(self._size), self._size - len(below))
        sample = sorted(sample[:sampled], key=lambda one: (one.score, one.image))
        return [*below[: self._size - len(sample)], *sample]


def _share(size: int) -> int:
    return max(1, round(SAMPLED * size))


class QueueForReview(CombineTallies):
    """``Labeled``s, as they are written → the ``Queued``s to look at.

    Args:
      size: see ``Queue``.
      multi_label: likewise.
    """

    def __init__(self, size: int, multi_label: bool):
        super().__init__()
        self._size = size
        self._multi_label = multi_label

    def create_accumulator(self) -> Queue:  # noqa: D102
        return Queue(self._size, self._multi_label)

    def add_input(self, queue: Queue, row: Labeled) -> Queue:  # noqa: D102
        queue.add(row)
        return queue

    def extract_output(self, queue: Queue) -> list[Queued]:  # noqa: D102
        return queue.images()


def write(folder: str, images: Sequence[Queued], spec: ModelSpec) -> dict[str, int]:
    """Write ``review.csv``, and ``review.json`` and ``review.xml`` for Label Studio.

    Args:
      folder: the run's.
      images: of the queue, in their order.
      spec: of the model.

    Returns:
      The numbers of images by why they are in it, as ``summary.json`` has them.

    Raises:
      StoreError: a file cannot be written.
    """
    table = io.StringIO()
    # Cells with a part of the line terminator are quoted, so it must be that of both systems.
    writer = csv.writer(table, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for one in images:
        label = json.dumps(one.labels) if spec.is_multi_label else "".join(one.labels)
        cells = (one.image, label, one.score, one.why, None, one.truth)
        writer.writerow([as_text(cell) for cell in cells])
    model = f"{name_of(spec.handle)} {spec.fingerprint}"
    tasks = [_task(one, model) for one in images]
    contents = {
        layout.REVIEW: table.getvalue().encode(),
        layout.REVIEW_TASKS: json.dumps(tasks, indent=1).encode() + b"\n",
        layout.REVIEW_CONFIG: _config(spec.labels, spec.is_multi_label),
    }
    for name, content in contents.items():
        storage.write_file(storage.join(folder, name), content)
    whys = [one.why for one in images]
    return {why: whys.count(why) for why in (BELOW_THRESHOLD, SAMPLE)}


def is_filled_in(path: str) -> bool:
    """Tell whether somebody has written a class into a ``review.csv``.

    Args:
      path: of the file, which spreadsheets may have changed in other ways.
    """
    try:
        rows = tables.read_table(path, [CORRECTED])
        return any(isinstance(row, BadRow) or (row[CORRECTED] or "").strip() for row in rows)
    except (ImageError, StoreError, ValueError):
        return True


def _task(one: Queued, model: str) -> dict[str, Any]:
    data = {IMAGE: task_image(one.image), "score": one.score, "why": one.why}
    if one.truth is not None:
        data["truth"] = one.truth
    result = {
        "from_name": CHOICE,
        "to_name": IMAGE,
        "type": "choices",
        "value": {"choices": list(one.labels)},
    }
    prediction = {
        "model_version": model,
        "score": one.score,
        "result": [result] if one.labels else [],
    }
    return {"data": data, "predictions": [prediction]}


def _config(classes: Sequence[str], multi_label: bool) -> bytes:
    """Make the labeling configuration of the project that the tasks are for."""
    view = ElementTree.Element("View")
    ElementTree.SubElement(view, "Image", name=IMAGE, value=f"${IMAGE}")
    choice = "multiple" if multi_label else "single"
    choices = ElementTree.SubElement(view, "Choices", name=CHOICE, toName=IMAGE, choice=choice)
    for name in dict.fromkeys(classes):
        ElementTree.SubElement(choices, "Choice", value=name)
    ElementTree.indent(view)
    return bytes(ElementTree.tostring(view, "utf-8")) + b"\n"
