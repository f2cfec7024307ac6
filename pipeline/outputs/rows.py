"""Writes the rows: all at the end, and as they come."""

from __future__ import annotations

import weakref
from collections.abc import Sequence

import apache_beam as beam
from apache_beam.transforms.window import TimestampedValue
from apache_beam.utils.timestamp import MIN_TIMESTAMP

from pipeline import progress, storage
from pipeline.formats.schema import Schema
from pipeline.formats.shards import WriteShards
from pipeline.outputs.layout import FAILURES, LABELS, new_part
from pipeline.records import Failure, Labeled
from pipeline.shutdown import Step, at

_RECORDS = {LABELS: Labeled, FAILURES: Failure}


class WriteRows(beam.PTransform):
    """Expects ``Labeled``s or ``Failure``s, outputs the paths of the shards.

    The shards, ``NAME-SSSSS-of-NNNNN.FORMAT``, are written under temporary names, and renamed when
    all of them are whole.

    Args:
      output: the folder.
      name: the prefix of the shards' names, ``LABELS`` or ``FAILURES``.
      formats: keys of ``registry.FORMATS``.
      gzipped: whether to compress files in formats that do not compress themselves.
      carried: the columns that are carried with the images.
    """

    def __init__(
        self,
        output: str,
        name: str,
        formats: Sequence[str] = ("jsonl",),
        gzipped: bool = False,
        carried: Sequence[str] = (),
    ):
        super().__init__()
        self._prefix = storage.join(output, name)
        self._formats = formats
        self._gzipped = gzipped
        self._schema = Schema(_RECORDS[name], tuple(carried))

    def expand(self, records: beam.PCollection[Labeled | Failure]) -> beam.PCollection[str]:
        """Write with Beam's sinks; their paths come after the end of time, where Prism hangs."""
        return [
            records
            | format_ >> WriteShards(self._prefix, format_, self._gzipped, self._schema)
            | f"{format_}_in_time"
            >> beam.Map(lambda path: TimestampedValue(path, MIN_TIMESTAMP)).with_output_types(str)
            for format_ in self._formats
        ] | beam.Flatten()


class KeepRows(beam.PTransform):
    """Expects ``Labeled``s or ``Failure``s, outputs nothing; keeps them in files as they come.

    The runner may be far from done with writing, and lose everything if it is killed. A bundle that
    is retried leaves its rows twice.

    Args:
      folder: for the files, ``labels-….jsonl`` and ``failures-….jsonl``.
      every: rows per file; the last file of a bundle has fewer.
    """

    def __init__(self, folder: str, every: int):
        super().__init__()
        self._folder = folder
        self._every = every

    def expand(self, rows: beam.PCollection[Labeled | Failure]) -> beam.PCollection[None]:
        """One step."""
        return rows | beam.ParDo(_KeepRows(self._folder, self._every)).with_output_types(None)


class _KeepRows(beam.DoFn):
    def __init__(self, folder: str, every: int):
        self._folder = folder
        self._every = every

    def start_bundle(self) -> None:
        self._rows: list[Labeled | Failure] = []
        _KEEPERS.add(self)

    def process(self, row: Labeled | Failure) -> None:
        self._rows.append(row)
        if len(self._rows) >= self._every:
            self.keep()

    def finish_bundle(self) -> None:
        self.keep()

    def keep(self) -> None:
        rows, self._rows = self._rows, []
        if rows:
            name = LABELS if isinstance(rows[0], Labeled) else FAILURES
            lines = "".join(f"{row.to_json()}\n" for row in rows)
            storage.write_file(new_part(self._folder, name), lines.encode())
            progress.add(kept=len(rows))


_KEEPERS: weakref.WeakSet[_KeepRows] = weakref.WeakSet()


@at(Step.KEEP_ROWS)
def keep_all_rows() -> None:
    """Write what ``KeepRows`` holds in this process, which is about to end."""
    for keeper in list(_KEEPERS):
        keeper.keep()
