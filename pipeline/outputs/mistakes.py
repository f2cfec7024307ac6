"""Writes the images whose labels are wrong to one file."""

from __future__ import annotations

import functools
import json
import shutil
import uuid
from collections.abc import Iterable
from typing import Any

import apache_beam as beam

from pipeline import storage
from pipeline.evaluation import Mistake, classes_in
from pipeline.formats.files import row_writer
from pipeline.formats.schema import Schema
from pipeline.models import trained_on
from pipeline.outputs import layout
from pipeline.outputs.parts import Shards, WriteParts
from pipeline.records import Labeled

_SCHEMA = Schema(Mistake)


class WriteMistakes(beam.PTransform):
    """Expects ``Labeled``s, outputs the paths of files for ``join_mistakes``.

    Args:
      folder: for the files.
      multi_label: whether all predictions of a row are labels.
    """

    def __init__(self, folder: str, multi_label: bool):
        super().__init__()
        shards = Shards(folder, layout.MISTAKES.partition(".")[0], _SCHEMA, ("csv",))
        row_of = functools.partial(_row_of, multi_label=multi_label)
        self._function = WriteParts(folder, shards, row_of)

    def expand(self, rows: beam.PCollection[Labeled]) -> beam.PCollection[str]:
        """One step."""
        return rows | beam.ParDo(self._function).with_output_types(str)


def _row_of(row: Labeled, multi_label: bool) -> dict[str, Any] | None:
    mistake = mistake_in(row, multi_label)
    return mistake and mistake._asdict()


def join_mistakes(folder: str, parts: Iterable[str]) -> str:
    """Make one table of files that have a header each, ``mistakes.csv``, and return its path.

    Args:
      folder: the run's.
      parts: what ``WriteMistakes`` returned.

    Raises:
      StoreError: a file cannot be read or written.
    """
    path = storage.join(folder, layout.MISTAKES)
    parts = sorted(parts)
    if storage.exists(path) and not all(map(storage.exists, parts)):
        return path  # a runner has tried this again, after all was done
    # Beside the parts, where a run that is broken off leaves nothing for good.
    folder = storage.split(parts[0])[0] if parts else folder
    temporary = storage.join(folder, f"{layout.MISTAKES}.{uuid.uuid4().hex}.tmp")
    with storage.create(temporary) as whole:
        with row_writer(whole, "csv", False, _SCHEMA):
            pass
        for part in parts:
            with storage.open_file(part) as file:
                file.readline()
                shutil.copyfileobj(file, whole)
    storage.rename(temporary, path)
    return path


def mistake_in(row: Labeled, multi_label: bool) -> Mistake | None:
    """Return what is wrong with a row; None if it is right, or does not count.

    It does not if nobody knows its truth, or if the model was trained on it.

    Args:
      row: as it is written. Below a threshold, its most probable class counts.
      multi_label: whether all its predictions are labels; they must be those of the truth then.
    """
    if row.truth is None or trained_on.said_in(row.carried):
        return None
    if multi_label:
        labels = sorted({one.label for one in row.predictions})
        if labels == classes_in(row.truth):
            return None
        return Mistake(row.image, row.truth, json.dumps(labels), row.score, None)
    best = row.predictions[0]
    if best.label == row.truth:
        return None
    known = next((one.score for one in row.predictions if one.label == row.truth), None)
    return Mistake(row.image, row.truth, best.label, best.score, known)
