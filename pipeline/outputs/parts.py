"""Writes rows to files in several formats, where they are made.

The files get their names when all of them are whole. So nothing is shuffled, and a runner has no
stages of its own for them, of which Beam's sinks need six each.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Generic, NamedTuple, TypeVar

import apache_beam as beam
from apache_beam.transforms.window import GlobalWindows
from apache_beam.utils.windowed_value import WindowedValue

from pipeline import storage
from pipeline.formats.files import row_writer
from pipeline.formats.registry import FORMATS
from pipeline.formats.schema import Schema, Write
from pipeline.outputs.layout import find_shards, new_part

T = TypeVar("T")

# Threads that rename files, and files for each of their requests, of which Google's store takes a
# hundred: https://docs.cloud.google.com/storage/docs/batch
_THREADS = 16
_BATCH = 100


class Shards(NamedTuple):
    """Shards in one folder, ``NAME-SSSSS-of-NNNNN.FORMAT``.

    ``folder``: the run's. ``name``: ``LABELS`` or ``FAILURES``. ``schema``: of the rows.
    ``formats``: keys of ``registry.FORMATS``. ``gzipped``: whether to compress files in formats
    that do not compress themselves.
    """

    folder: str
    name: str
    schema: Schema
    formats: Sequence[str] = ("jsonl",)
    gzipped: bool = False

    @property
    def suffixes(self) -> dict[str, str]:
        """By format, what the shards' paths end with."""
        return {format_: FORMATS[format_].suffix(self.gzipped) for format_ in self.formats}


class WriteParts(beam.DoFn, Generic[T]):
    """Expects records, outputs the paths of files with the rows of some of them.

    Args:
      folder: for the files.
      shards: what they will be part of.
      row_of: makes a row of a record, as JSON has it; None for a record that has none.
    """

    def __init__(
        self, folder: str, shards: Shards, row_of: Callable[[T], Mapping[str, Any] | None]
    ):
        self._folder = folder
        self._shards = shards
        self._row_of = row_of

    def start_bundle(self) -> None:
        """Forget the files of a bundle that failed."""
        self._files = contextlib.ExitStack()
        self._writers: dict[str, Write] = {}

    def process(self, record: T) -> None:
        """Write a row."""
        row = self._row_of(record)
        if row is None:
            return
        if not self._writers:
            self._open()
        for write in self._writers.values():
            write(row)

    def _open(self) -> None:
        for format_, suffix in self._shards.suffixes.items():
            path = new_part(self._folder, self._shards.name, suffix)
            file = self._files.enter_context(storage.create(path))
            writer = row_writer(file, format_, self._shards.gzipped, self._shards.schema)
            self._writers[path] = self._files.enter_context(writer)

    def finish_bundle(self) -> Iterator[WindowedValue]:
        """Close the files."""
        self._files.close()
        yield from map(GlobalWindows.windowed_value, self._writers)


def name_shards(shards: Shards, parts: Iterable[str]) -> list[str]:
    """Give files the names of shards, and delete other shards of this name.

    There is at least one shard in each format, empty if there are no rows. On S3 there is none if
    it would have no bytes, since Beam cannot write such a file there.

    If a runner calls this again, it goes on where it was.

    Args:
      shards: how they are named.
      parts: what ``WriteParts`` returned.

    Returns:
      The shards' paths, in order.

    Raises:
      StoreError: a file cannot be renamed.
    """
    parts = sorted(parts)
    named: dict[str, str] = {}
    for format_, suffix in shards.suffixes.items():
        of_format = [part for part in parts if part.endswith(suffix)]
        count = max(len(of_format), 1)
        paths = [
            storage.join(shards.folder, f"{shards.name}-{number:05}-of-{count:05}{suffix}")
            for number in range(count)
        ]
        if of_format:
            named |= zip(paths, of_format, strict=True)
        elif (empty := _empty(shards, format_)) or not paths[0].lower().startswith("s3://"):
            storage.write_file(paths[0], empty)
            named[paths[0]] = ""
    _rename([(part, path) for path, part in named.items() if part])
    storage.delete([path for path in find_shards(shards.folder, shards.name) if path not in named])
    return sorted(named)


def _empty(shards: Shards, format_: str) -> bytes:
    file = io.BytesIO()
    with row_writer(file, format_, shards.gzipped, shards.schema):
        pass
    return file.getvalue()


def _rename(parts: Sequence[tuple[str, str]]) -> None:
    """Give files their names, but for those that have them from an earlier call.

    Raises:
      StoreError: a file cannot be renamed, or is not there under either name.
    """
    if not parts:
        return
    there = set[str]()
    for folder in {storage.split(part)[0] for part, _ in parts}:
        there.update(storage.find(folder, "*"))
    todo = [(part, path) for part, path in parts if part in there or not storage.exists(path)]
    batches = [todo[start : start + _BATCH] for start in range(0, len(todo), _BATCH)]
    with ThreadPoolExecutor(_THREADS) as pool:
        list(pool.map(storage.rename_all, batches))
