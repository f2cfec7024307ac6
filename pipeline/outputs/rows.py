"""Writes the rows: into the files that become the shards, and as they come."""

from __future__ import annotations

import operator
import weakref

import apache_beam as beam

from pipeline import progress, storage
from pipeline.outputs.layout import FAILURES, LABELS, new_part
from pipeline.outputs.parts import Shards, WriteParts
from pipeline.records import Failure, Labeled
from pipeline.shutdown import Step, at


class WriteRows(beam.PTransform):
    """Expects ``Labeled``s or ``Failure``s, outputs the paths of files for ``parts.name_shards``.

    Args:
      folder: for the files.
      shards: what they will be part of.
    """

    def __init__(self, folder: str, shards: Shards):
        super().__init__()
        self._function = WriteParts(folder, shards, operator.methodcaller("to_row"))

    def expand(self, records: beam.PCollection[Labeled | Failure]) -> beam.PCollection[str]:
        """One step."""
        return records | beam.ParDo(self._function).with_output_types(str)


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
