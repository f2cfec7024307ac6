"""The merge job: writes the latest row of each image, over all runs in a folder, as one table.

Memory is bounded: the rows are divided by their images into files that fit in memory one by one.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline import console, storage
from pipeline.config.merge_options import MergeConfig
from pipeline.errors import OutputError, RunError, StoreError
from pipeline.formats.files import row_writer
from pipeline.formats.registry import FORMATS, in_one_format
from pipeline.formats.schema import Schema, Write
from pipeline.formats.shards import read_rows
from pipeline.label import lock, notes
from pipeline.label.resume import DAMAGED
from pipeline.label.runs import UNFINISHED
from pipeline.models import trained_on
from pipeline.outputs import layout
from pipeline.records import Failure, Labeled, from_row
from pipeline.runners.options import beam_options
from pipeline.tally import hash_of

# The name of the table's folder, beside the runs.
MERGED = "merged"

# Rows in memory at a time, and open files; with more rows than the product, memory grows.
_ROWS = 100_000
_FILES = 400

_RECORDS: dict[str, type] = {layout.LABELS: Labeled, layout.FAILURES: Failure}


def run(config: MergeConfig) -> int:
    """Merge the runs of a folder.

    Returns:
      0.

    Raises:
      UsageError: there is no whole run, or the table cannot be written.
      RunError: a row is damaged.
    """
    storage.configure(beam_options(config.beam_args))
    folder = storage.absolute(config.folder)
    try:
        runs = whole_runs(folder)
        target = _prepare(config, folder)
        with lock.held(target):
            counts, paths = _merge(runs, target, config)
    except StoreError as error:
        raise OutputError(f"{config.folder} cannot be read or written: {error}") from error
    labeled, failed = counts[layout.LABELS], counts[layout.FAILURES]
    images = f"{labeled + failed:,} images = {labeled:,} labeled + {failed:,} failed"
    print(f"{len(runs):,} runs merged: {images}", *paths, sep="\n")
    return 0


def whole_runs(folder: str) -> Mapping[str, Mapping[str, Any]]:
    """Find the runs that have ended, by folder, with their summaries, in the order they ended in.

    A run that was killed and finished nights later has rows as of then.

    Args:
      folder: absolute path or URI: that of a run, or of the folders of runs.

    Raises:
      OutputError: there are none.
    """
    found = notes.read_all(folder, layout.SUMMARY)
    alone = notes.read(storage.join(folder, layout.SUMMARY))
    if alone is not None:
        found[folder] = alone
    noted = [(path, note) for path, note in found.items() if note is not None]
    whole = dict(sorted(noted, key=lambda run: (notes.end_of(run[1]), run[0])))
    if not whole:
        raise OutputError(
            f"{folder} has no run that has ended", remedy="give the {output} of label"
        )
    unfinished = notes.read_all(folder, f"{UNFINISHED}/run.json").keys() - whole.keys()
    if unfinished or len(whole) < len(found):
        left_out = ", ".join(sorted({*unfinished, *(found.keys() - whole.keys())}))
        console.say(f"warning: left out, as it has not ended or its summary is damaged: {left_out}")
    models = {note["settings"].get("model") for note in whole.values()}
    if len(models) > 1:
        console.say(f"warning: the rows are of {len(models)} models; model_fingerprint tells them")
    return whole


def _prepare(config: MergeConfig, folder: str) -> str:
    """Make the folder for the table, which must not be that of a run."""
    given = storage.join(folder, MERGED) if config.into is None else config.into
    target = layout.prepare(given, argument="into")
    of_runs = (layout.SUMMARY, f"{UNFINISHED}/*", f"{layout.RUN_FOLDER}*/{layout.SUMMARY}")
    if storage.find(target, *of_runs):  # among runs, the next one would take it for another's rows
        raise OutputError(
            "has a run of its own", subject="into", given=given, remedy="give another folder"
        )
    return target


def _merge(
    runs: Mapping[str, Mapping[str, Any]], target: str, config: MergeConfig
) -> tuple[Counter[str], list[str]]:
    rows = sum(note["labeled"] + note["failed"] for note in runs.values())
    counts: Counter[str] = Counter()
    local = None if storage.is_remote(target) else target  # on the disk that has to have the room
    with tempfile.TemporaryDirectory(dir=local, prefix=".merging-") as temporary:
        parts, columns = _divide(runs, Path(temporary), min(rows // _ROWS + 1, _FILES))
        schemas = {name: Schema(record, columns) for name, record in _RECORDS.items()}
        files: dict[str, Path] = {}
        with contextlib.ExitStack() as stack:
            writers: dict[str, list[Write]] = {name: [] for name in _RECORDS}
            for name, format_ in itertools.product(_RECORDS, config.output_format):
                suffix = FORMATS[format_].suffix(config.gzip)
                file = Path(temporary, f"{name}-00000-of-00001{suffix}")
                files[storage.join(target, file.name)] = file
                opened = stack.enter_context(file.open("wb"))
                writer = row_writer(opened, format_, config.gzip, schemas[name])
                writers[name].append(stack.enter_context(writer))
            for part in parts:
                for row in _latest(part):
                    name = layout.FAILURES if "reason" in row else layout.LABELS
                    counts[name] += 1
                    for write in writers[name]:
                        write(row)
                part.unlink()
        before = layout.find_shards(target, *_RECORDS)
        for path, file in files.items():
            storage.upload(file, path)
        storage.delete([path for path in before if path not in files])
    return counts, sorted(files)


def _divide(
    runs: Mapping[str, Any], folder: Path, count: int
) -> tuple[Sequence[Path], tuple[str, ...]]:
    """Divide all rows by their images into files of JSON, in each the oldest first.

    Returns:
      The files, and the columns that some of the rows have beside their own.
    """
    columns: dict[str, None] = {}
    paths = [folder / f"part-{number}" for number in range(count)]
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(path.open("w", encoding="ascii")) for path in paths]
        for run in runs:
            for shard in in_one_format(layout.find_shards(run, *_RECORDS)):
                try:
                    for row in map(from_row, read_rows(shard)):
                        columns |= dict.fromkeys(row.carried)
                        if isinstance(row, Labeled):  # some formats have it as text
                            seen = trained_on.kept_of(row.carried)
                            row = row._replace(carried={**row.carried, **seen})
                        files[hash_of(row.image) % count].write(f"{row.to_json()}\n")
                except DAMAGED as error:
                    raise RunError(
                        f"{shard} is damaged: it contains something that is not a row ({error})"
                    ) from error
    return paths, tuple(columns)


def _latest(part: Path) -> Iterator[dict[str, Any]]:
    latest: dict[str, str] = {}
    with part.open(encoding="ascii") as file:
        for line in file:
            latest[json.loads(line)["image"]] = line
    return map(json.loads, latest.values())
