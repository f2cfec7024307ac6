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
from apache_beam.io.filesystems import FileSystems
from apache_beam.transforms.window import TimestampedValue
from apache_beam.utils.timestamp import MIN_TIMESTAMP

from pipeline import progress
from pipeline.errors import OutputError
from pipeline.formats.registry import suffix_of
from pipeline.formats.schema import Schema
from pipeline.formats.shards import WriteShards
from pipeline.records import Failure, Labeled
from pipeline.storage import read as storage

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
        self._prefix = FileSystems.join(output, name)
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
            write_file(part(self._folder, name), lines.encode())
            progress.add(kept=len(rows))


_KEEPERS: weakref.WeakSet[_KeepRows] = weakref.WeakSet()


def keep_all_rows() -> None:
    """Write what ``KeepRows`` holds in this process, which is about to end."""
    for keeper in list(_KEEPERS):
        keeper.keep()


def part(folder: str, name: str, suffix: str = ".jsonl") -> str:
    """A new path for some of the rows of that name."""
    return FileSystems.join(folder, f"{name}-{uuid.uuid4().hex}{suffix}")


def absolute(given: str) -> str:
    """The absolute path or URI of a folder, without a slash at its end."""
    return given.rstrip("/") if storage.is_remote(given) else storage.local_path(given)


def prepare(given: str, keep: bool = True, flag: str = "--output") -> str:
    """Make a folder for output, try to write there, and return its absolute path or URI.

    Args:
      given: what the user wrote.
      keep: False removes again the folders that were made for it.
      flag: that the user gave it as.

    Raises:
      OutputError: it cannot be written.
    """
    output = absolute(given)
    if any(character in output for character in "*?["):
        # Beam finds the shards that it is to rename by a glob, in which these would be wildcards.
        raise OutputError(f"{flag} {given}: must not have any of * ? [ in it")
    if storage.is_http(output):
        raise OutputError(f"{flag} {given}: http(s) cannot be written; give a folder or a bucket")
    made = [] if keep or storage.is_remote(output) else _missing(Path(output))
    try:
        storage.check_access(output)
        if not storage.is_remote(output) and not FileSystems.exists(output):
            FileSystems.mkdirs(output)
        probe = FileSystems.join(output, f".writable-{uuid.uuid4().hex}")
        write_file(probe, b"\n", keep=False)  # not empty, which Beam cannot write to S3
    except ValueError as error:  # a scheme that no installed filesystem serves
        raise OutputError(f"{flag} {given}: {error}") from error
    except storage.STORE_ERRORS as error:
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
        found = find(output, SUMMARY, f"{LABELS}-*", f"{FAILURES}-*")
    except storage.STORE_ERRORS as error:
        raise OutputError(f"--output {output}: cannot be read: {error}") from error
    if found:
        raise OutputError(
            f"--output {output}: already has results of a run; give another folder, or delete them "
            "first"
        )


def find(folder: str, *patterns: str) -> list[str]:
    """The files that match globs relative to a folder, in order."""
    if not storage.is_remote(folder):
        # Beam would list all that is below the folder, which may be where the photographs are.
        return sorted(str(path) for pattern in patterns for path in Path(folder).glob(pattern))
    globs = [FileSystems.join(folder, pattern) for pattern in patterns]
    return sorted(file.path for match in FileSystems.match(globs) for file in match.metadata_list)


def find_shards(folder: str, *names: str) -> list[str]:
    """The shards that ``WriteRows`` wrote to a folder; what else is there is somebody else's.

    Args:
      folder: where they are.
      *names: ``LABELS``, ``FAILURES`` or both.
    """
    paths = find(folder, *(f"{name}-*-of-*" for name in names))
    return [path for path in paths if suffix_of(path)]


def remove(folder: str, patterns: Sequence[str]) -> None:
    """Delete the files that match globs relative to a folder."""
    delete(find(folder, *patterns))


def delete(paths: Sequence[str]) -> None:
    """Delete files; none is fine, too."""
    if paths:
        FileSystems.delete(list(paths))


def remove_temporary_files(folder: str) -> None:
    """Delete what ``WriteRows`` leaves behind if it does not get to its end."""
    for name in (LABELS, FAILURES):
        pattern = f"beam-temp-{name}-*"
        # What is deleted here is a folder, and in a store, which has none, each object.
        remove(folder, [f"{pattern}/*" if storage.is_remote(folder) else pattern])


def write_file(
    path: str, data: bytes, keep: bool = True, mime_type: str = "application/octet-stream"
) -> None:
    """Write a file that is visible under its name whole or not at all.

    Args:
      path: on any filesystem that Beam knows.
      data: its content.
      keep: False removes it again before it gets its name, to try whether it could be written.
      mime_type: by which a store has a browser show it.
    """
    temporary = f"{path}.{uuid.uuid4().hex}.tmp"
    try:
        with FileSystems.create(temporary, mime_type) as file:
            file.write(data)
        if keep:
            FileSystems.rename([temporary], [path])
    except storage.STORE_ERRORS:
        with contextlib.suppress(*storage.STORE_ERRORS):
            FileSystems.delete([temporary])
        raise
    if not keep:
        FileSystems.delete([temporary])
