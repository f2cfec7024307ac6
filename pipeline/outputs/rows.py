"""Writes the rows, and looks beforehand whether that will work."""

from __future__ import annotations

import contextlib
import itertools
import os
import uuid
import weakref
from collections.abc import Sequence
from pathlib import Path

import apache_beam as beam
from apache_beam.transforms.window import TimestampedValue
from apache_beam.utils.timestamp import MIN_TIMESTAMP

from pipeline import progress, storage
from pipeline.errors import OutputError, StoreError
from pipeline.formats.registry import suffix_of
from pipeline.formats.schema import Schema
from pipeline.formats.shards import WriteShards
from pipeline.records import Failure, Labeled
from pipeline.shutdown import Step, at

LABELS = "labels"
FAILURES = "failures"
SUMMARY = "summary.json"
REPORT = "report.html"

_RECORDS = {LABELS: Labeled, FAILURES: Failure}

# What the name of a run's folder begins with, with --incremental.
RUN_FOLDER = "run="


class WriteRows(beam.PTransform):
    """Expects ``Labeled``s or ``Failure``s, outputs the paths of the shards.

    The shards, ``NAME-SSSSS-of-NNNNN.FORMAT``, are written under temporary names and renamed when
    all are whole.

    Args:
      output: the folder.
      name: what the shards' names begin with, ``LABELS`` or ``FAILURES``.
      formats: of ``registry.FORMATS``.
      gzipped: whether the files are to be, of those formats that do not compress by themselves.
      carried: the columns that come along with the images.
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
        """Beam's own sinks. Their paths come after the end of time, where Prism gets stuck."""
        return [
            records
            | format_ >> WriteShards(self._prefix, format_, self._gzipped, self._schema)
            | f"{format_}_in_time"
            >> beam.Map(lambda path: TimestampedValue(path, MIN_TIMESTAMP)).with_output_types(str)
            for format_ in self._formats
        ] | beam.Flatten()


class KeepRows(beam.PTransform):
    """Expects ``Labeled``s or ``Failure``s, outputs nothing; keeps them in files as they come.

    The runner may be far from done with what it writes, and lose it all. A bundle that is tried
    again leaves rows twice.

    Args:
      folder: for the files, ``labels-….jsonl`` and ``failures-….jsonl``.
      every: rows in a file; the last of a bundle has fewer.
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
            storage.write_file(part(self._folder, name), lines.encode())
            progress.add(kept=len(rows))


_KEEPERS: weakref.WeakSet[_KeepRows] = weakref.WeakSet()


@at(Step.KEEP_ROWS)
def keep_all_rows() -> None:
    """Write what ``KeepRows`` holds in this process, which is about to end."""
    for keeper in list(_KEEPERS):
        keeper.keep()


def part(folder: str, name: str, suffix: str = ".jsonl") -> str:
    """A new path for some of the rows of that name."""
    return storage.join(folder, f"{name}-{uuid.uuid4().hex}{suffix}")


def prepare(given: str, keep: bool = True, flag: str = "--output") -> str:
    """Make a folder for output, try to write there, and return its absolute path or URI.

    Args:
      given: what the user wrote.
      keep: False removes again the folders that were made for it.
      flag: that the user gave it as.

    Raises:
      OutputError: it cannot be written.
    """
    output = storage.absolute(given)
    if any(character in output for character in "*?["):
        # Beam finds the shards that it is to rename by a glob, in which these would be wildcards.
        raise OutputError(f"{flag} {given}: must not have any of * ? [ in it")
    if storage.is_http(output):
        raise OutputError(f"{flag} {given}: http(s) cannot be written; give a folder or a bucket")
    made = [] if keep or storage.is_remote(output) else _missing(Path(output))
    try:
        storage.check_access(output)
        if not storage.is_remote(output):
            storage.make_folder(output)
        probe = storage.join(output, f".writable-{uuid.uuid4().hex}")
        storage.write_file(probe, b"\n", keep=False)  # not empty, which Beam cannot write to S3
    except StoreError as error:
        raise OutputError(f"{flag} {given}: cannot be written: {error}") from error
    finally:
        for folder in made:
            with contextlib.suppress(OSError):  # another run has put something there
                folder.rmdir()
    return output


def _missing(folder: Path) -> list[Path]:
    """Those that are not there yet of a folder and what it is in, the folder itself first."""
    return list(
        itertools.takewhile(lambda path: not os.path.lexists(path), (folder, *folder.parents))
    )


def refuse_results(output: str) -> None:
    """See that there are no results in an output folder.

    Raises:
      OutputError: there are.
    """
    try:
        found = storage.find(output, SUMMARY, f"{LABELS}-*", f"{FAILURES}-*")
    except StoreError as error:
        raise OutputError(f"--output {output}: cannot be read: {error}") from error
    if found:
        raise OutputError(
            f"--output {output}: already has results of a run; give another folder, or delete them "
            "first"
        )


def find_shards(folder: str, *names: str) -> list[str]:
    """The shards that ``WriteRows`` wrote to a folder; what else is there is somebody else's.

    Args:
      folder: where they are.
      *names: ``LABELS``, ``FAILURES`` or both.
    """
    paths = storage.find(folder, *(f"{name}-*-of-*" for name in names))
    return [path for path in paths if suffix_of(path)]


def remove(folder: str, patterns: Sequence[str]) -> None:
    """Delete the files that match globs relative to a folder."""
    storage.delete(storage.find(folder, *patterns))


def remove_temporary_files(folder: str) -> None:
    """Delete what ``WriteRows`` leaves behind if it does not get to its end."""
    for name in (LABELS, FAILURES):
        pattern = f"beam-temp-{name}-*"
        # What is deleted here is a folder, and in a store, which has none, each object.
        remove(folder, [f"{pattern}/*" if storage.is_remote(folder) else pattern])
