"""Writes the rows: into the files that become the shards, and as they come."""

from __future__ import annotations

import operator
import re
import time
import weakref

import apache_beam as beam

from pipeline import progress, storage
from pipeline.outputs.layout import FAILURES, LABELS, new_part
from pipeline.outputs.parts import Shards, WriteParts
from pipeline.progress import Counts
from pipeline.records import Failure, Labeled
from pipeline.shutdown import Step, at

# The part of a worker's time whose rows may be lost, if its runner begins again; but not less than
# some seconds.
_SHARE = 0.1
_LEAST_SECONDS = 1.0

_NUMBER = re.compile(r"-[0-9a-f]+-(\d+)-[0-9a-f]+\.jsonl$")


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
      token: of a job that its runner may begin again, if it is one. It goes into the files' names,
        and rows are kept so often that a lost worker has lost a tenth of its work.
    """

    def __init__(self, folder: str, every: int, token: str = ""):
        super().__init__()
        self._args = (folder, every, token)

    def expand(self, rows: beam.PCollection[Labeled | Failure]) -> beam.PCollection[None]:
        """One step."""
        return rows | beam.ParDo(_KeepRows(*self._args)).with_output_types(None)


class _KeepRows(beam.DoFn):
    def __init__(self, folder: str, every: int, token: str):
        self._folder = folder
        self._every = every
        self._token = token

    def start_bundle(self) -> None:
        self._rows: list[Labeled | Failure] = []
        self._began = self._kept_at = 0.0
        _KEEPERS.add(self)

    def process(self, row: Labeled | Failure) -> None:
        self._rows.append(row)
        if len(self._rows) >= self._every or (self._token and self._is_due(time.monotonic())):
            self.keep()

    def _is_due(self, now: float) -> bool:
        """Tell whether the rows that are not kept yet are too large a part of the work."""
        if not self._began:  # the model was loaded before the first row
            self._began = self._kept_at = now
        if now - self._kept_at < max(_LEAST_SECONDS, _SHARE * (now - self._began)):
            return False
        self._kept_at = now
        return True

    def finish_bundle(self) -> None:
        self.keep()

    def keep(self) -> None:
        rows, self._rows = self._rows, []
        if rows:
            name = LABELS if isinstance(rows[0], Labeled) else FAILURES
            if self._token:
                name = f"{name}-{self._token}-{len(rows)}"
            lines = "".join(f"{row.to_json()}\n" for row in rows)
            storage.write_file(new_part(self._folder, name), lines.encode())
            progress.add(kept=len(rows))


def count_kept(folder: str) -> Counts:
    """Count the rows that jobs with a token have kept, by the names of their files.

    Raises:
      StoreError: the folder cannot be listed.
    """
    done, failed = (
        sum(int(part[1]) for path in paths if (part := _NUMBER.search(path)))
        for paths in (storage.find(folder, f"{name}-*") for name in (LABELS, FAILURES))
    )
    return Counts(done=done, failed=failed)


_KEEPERS: weakref.WeakSet[_KeepRows] = weakref.WeakSet()


@at(Step.KEEP_ROWS)
def keep_all_rows() -> None:
    """Write what ``KeepRows`` holds in this process, which is about to end."""
    for keeper in list(_KEEPERS):
        keeper.keep()
