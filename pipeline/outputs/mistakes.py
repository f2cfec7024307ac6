"""Writes the images whose labels are wrong to one file."""

from __future__ import annotations

import json

import apache_beam as beam
from apache_beam.io.textio import WriteToText
from apache_beam.transforms.window import TimestampedValue
from apache_beam.utils.timestamp import MIN_TIMESTAMP

from pipeline import storage
from pipeline.evaluation import Mistake, classes_in
from pipeline.formats import csv
from pipeline.formats.schema import Schema
from pipeline.models import trained_on
from pipeline.outputs import layout
from pipeline.records import Labeled

_SCHEMA = Schema(Mistake)


class WriteMistakes(beam.PTransform):
    """Expects ``Labeled``s, outputs the path of ``mistakes.csv``, written under another name first.

    Args:
      folder: the run's.
      multi_label: whether all predictions of a row are labels.
    """

    def __init__(self, folder: str, multi_label: bool):
        super().__init__()
        self._folder = folder
        self._multi_label = multi_label

    def expand(self, rows: beam.PCollection[Labeled]) -> beam.PCollection[str]:
        """Write with one of Beam's sinks; see ``WriteRows`` for the time of the path."""
        name, dot, suffix = layout.MISTAKES.partition(".")
        return (
            rows
            | "Find" >> beam.FlatMap(_lines, self._multi_label).with_output_types(str)
            | "Write"
            >> WriteToText(
                storage.join(self._folder, name),
                dot + suffix,
                num_shards=1,
                shard_name_template="",
                header=csv.encode({column: column for column in _SCHEMA.names}, _SCHEMA),
            )
            | "InTime"
            >> beam.Map(lambda path: TimestampedValue(path, MIN_TIMESTAMP)).with_output_types(str)
        )


def _lines(row: Labeled, multi_label: bool) -> list[str]:
    mistake = mistake_in(row, multi_label)
    return [] if mistake is None else [csv.encode(mistake._asdict(), _SCHEMA)]


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
