"""Takes over the rows that this job has kept before its runner began it again.

Flink begins a job again if it loses a machine, with all images: also with those whose rows it has
kept by then.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np

from pipeline import progress, storage
from pipeline.errors import RunError
from pipeline.formats.shards import read_rows
from pipeline.inputs.apart import is_numbered
from pipeline.label.resume import DAMAGED, taken_over
from pipeline.outputs.layout import FAILURES, LABELS
from pipeline.records import Failure, ImageRef, Labeled, from_row
from pipeline.redaction import name_of
from pipeline.tally import hash_of

# Parts whose rows are in memory. Flink sorts the images, so neighbors were labeled together.
_MOST_PARTS = 8


class NotKept(NamedTuple):
    """What ``TakeOverKept`` outputs; each image is in exactly one of them."""

    new: beam.PCollection[ImageRef]
    labeled: beam.PCollection[Labeled]
    failed: beam.PCollection[Failure]


class TakeOverKept(beam.PTransform):
    """Expects the ``ImageRef``s to label, outputs ``NotKept``.

    Args:
      folder: of the kept rows.
      token: of the parts that this job has kept, see ``KeepRows``.
    """

    def __init__(self, folder: str, token: str):
        super().__init__()
        self._folder = folder
        self._token = token

    def expand(self, new: beam.PCollection[ImageRef]) -> NotKept:
        """One step."""
        outputs = new | beam.ParDo(_TakeOverKept(self._folder, self._token)).with_outputs(
            "labeled", "failed", main="new"
        )
        return NotKept(*(outputs[tag] for tag in NotKept._fields))


class _TakeOverKept(beam.DoFn):
    def __init__(self, folder: str, token: str):
        self._rows = KeptRows(folder, token)

    def start_bundle(self) -> None:
        self._rows.look()

    def process(self, ref: ImageRef) -> Iterator[Any]:
        row = self._rows.row_of(ref)
        if row is None:
            yield ref
        elif isinstance(row, Labeled):
            progress.add(done=1)
            yield beam.pvalue.TaggedOutput("labeled", row)
        else:
            progress.add(failed=1)
            yield beam.pvalue.TaggedOutput("failed", row)


class KeptRows:
    """The rows that a job has kept, by image.

    In memory are 12 bytes for each, and the rows of some parts.

    Args:
      folder: of the kept rows.
      token: of the job's parts.
    """

    def __init__(self, folder: str, token: str):
        self._folder = folder
        self._token = token
        self._parts: list[str] = []
        self._hashes = np.empty(0, np.uint64)
        self._part_of = np.empty(0, np.uint32)
        self._rows: OrderedDict[int, dict[str, Labeled | Failure]] = OrderedDict()

    def look(self) -> None:
        """Find the rows that have been kept since the last look.

        Raises:
          RunError: they cannot be read.
        """
        patterns = (f"{name}-{self._token}-*.jsonl" for name in (LABELS, FAILURES))
        known = set(self._parts)
        hashes, part_of = [self._hashes], [self._part_of]
        for path in storage.find(self._folder, *patterns):
            if path in known:
                continue
            found = np.array([hash_of(name) for name in _read(path)], np.uint64)
            hashes.append(found)
            part_of.append(np.full(len(found), len(self._parts), np.uint32))
            self._parts.append(path)
        if len(hashes) > 1:
            together = np.concatenate(hashes)
            order = np.argsort(together, kind="stable")
            self._hashes = together[order]
            self._part_of = np.concatenate(part_of)[order]

    def row_of(self, ref: ImageRef) -> Labeled | Failure | None:
        """Return the row of an image, if one was kept that need not be made again.

        Raises:
          RunError: it cannot be read.
        """
        name = name_of(ref.uri, ref.naming)
        number = np.uint64(hash_of(name))
        first, last = np.searchsorted(self._hashes, number, "left"), 0
        if first < len(self._hashes) and self._hashes[first] == number:
            last = int(np.searchsorted(self._hashes, number, "right"))
        rows = (self._part(int(part)).get(name) for part in self._part_of[first:last])
        return taken_over([row for row in rows if row is not None], ref)

    def _part(self, number: int) -> dict[str, Labeled | Failure]:
        """Return the rows of a part, by image; read it if it is none of the latest."""
        if number not in self._rows:
            self._rows[number] = _read(self._parts[number])
            if len(self._rows) > _MOST_PARTS:
                self._rows.popitem(last=False)
        self._rows.move_to_end(number)
        return self._rows[number]


def _read(path: str) -> dict[str, Labeled | Failure]:
    """Read a part; without images that only a number tells apart, as it may be another one's now.

    Raises:
      RunError: it is damaged, or cannot be read.
    """
    try:
        rows = list(map(from_row, read_rows(path)))
    except DAMAGED as error:
        raise RunError(f"{path} is damaged: it contains something that is not a row") from error
    return {row.image: row for row in rows if not is_numbered(row.image)}
