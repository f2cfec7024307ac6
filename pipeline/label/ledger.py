"""Keeps what the nightly join needs of earlier runs in a compact form beside the runs.

    OUTPUT/.ledger/part-….json          which runs a part covers, as they were, and its files
    OUTPUT/.ledger/entries-….bin        see ``entries``

A run derives a part from the rows of earlier runs that no part covers, which it has to read for its
join anyway. So the ledger can be deleted, and an output without one gets one. Parts of about the
same size are merged, so that there are few. A part counts only if all of its runs do, and none of
them has changed or is gone; else it is left aside, and the rows are read again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pipeline import console, storage
from pipeline.errors import RunError, StoreError
from pipeline.label.entries import File, Gathered, merge_files
from pipeline.outputs import layout

_FORMAT = 2

# So many rows, or runs, that no part covers are worth a part.
LEAST_ROWS = 10_000
LEAST_RUNS = 8

# Parts of about the same size, up to this factor, are merged if there are so many.
FAN = 8
# Entries of a part that is made by merging; 7.5 GB.
MOST_MERGED = 2**28


class Part(NamedTuple):
    """A part. ``runs``: the names of the folders that it covers, and what these were like."""

    path: str
    runs: Mapping[str, str]
    files: tuple[File, ...]

    @property
    def entries(self) -> int:
        """The number of entries in all files."""
        return sum(file.entries for file in self.files)


class Ledger(NamedTuple):
    """What a run knows of earlier runs, and what it is to write about them.

    ``folder``: of the ledger. ``parts``: those that count. ``rest``: the folders of the runs that
    count and that no part covers. ``new``: which of them get one, by name, and what they are like.
    ``others``: parts that may count in another run. ``has_stale``: whether there are other files.
    """

    folder: str
    parts: tuple[Part, ...] = ()
    rest: frozenset[str] = frozenset()
    new: Mapping[str, str] = {}
    others: tuple[Part, ...] = ()
    has_stale: bool = False

    @property
    def files(self) -> tuple[File, ...]:
        """The files of all parts that count."""
        return tuple(file for part in self.parts for file in part.files)


# Which parts count


def survey(
    output: str, whole: Mapping[str, Mapping[str, Any] | None], counts: Mapping[str, Any]
) -> Ledger:
    """Find the parts that count for a run, and what they do not cover. Change nothing.

    Args:
      output: the folder with the runs.
      whole: the summaries of the runs that have ended, by folder.
      counts: those of the runs that count.

    Raises:
      StoreError: the ledger cannot be read.
    """
    folder = storage.join(output, layout.LEDGER)
    there = storage.find_versions(folder, "*")
    if not there and not _are_worth_it(counts.values()):
        return Ledger(folder, rest=frozenset(counts))
    now = _fingerprints(output, whole)
    counting = {path.rpartition("/")[2] for path in counts}
    used: list[Part] = []
    others: list[Part] = []
    covered: set[str] = set()
    for part in _parts(there):
        changed = sorted(name for name, was in part.runs.items() if now.get(name) != was)
        if changed:
            console.say(
                f"the ledger of {len(part.runs)} earlier runs is left aside, and their rows are "
                f"read again: {changed[0]} has changed or is gone"
            )
        elif not counting >= part.runs.keys():
            others.append(part)
        elif not covered >= part.runs.keys():
            used.append(part)
            covered |= part.runs.keys()
    rest = {path for path in counts if path.rpartition("/")[2] not in covered}
    names = [path.rpartition("/")[2] for path in rest]
    is_worth_it = _are_worth_it(counts[path] for path in rest)
    return Ledger(
        folder,
        tuple(used),
        frozenset(rest),
        {name: now[name] for name in sorted(names) if name in now} if is_worth_it else {},
        tuple(others),
        has_stale=bool(there.keys() - _paths_of([*used, *others])),
    )


def _are_worth_it(summaries: Iterable[Mapping[str, Any]]) -> bool:
    rows = [note.get("labeled", 0) + note.get("failed", 0) for note in summaries]
    return sum(rows) >= LEAST_ROWS or len(rows) >= LEAST_RUNS


def _fingerprints(output: str, whole: Mapping[str, Any]) -> dict[str, str]:
    """Describe each run by its files, so that it shows if somebody has changed one of them."""
    shards: dict[str, list[str]] = {}
    patterns = (f"{layout.RUN_FOLDER}*/{name}-*-of-*" for name in (layout.LABELS, layout.FAILURES))
    for path, version in storage.find_versions(output, *patterns).items():
        folder, _, name = path.rpartition("/")
        shards.setdefault(folder.rpartition("/")[2], []).append(f"{name} {version}")
    found = {}
    for path, note in whole.items():
        if note is not None:
            name = path.rpartition("/")[2]
            facts = [note["run_id"], *sorted(shards.get(name, ()))]
            found[name] = hashlib.sha256("\n".join(facts).encode()).hexdigest()[:32]
    return found


def _parts(there: Mapping[str, str]) -> Iterator[Part]:
    """Read the parts that are whole, those of the most runs first.

    Args:
      there: the versions of the files of the ledger, by path.
    """
    found = []
    for path in there:
        if not path.endswith(".json"):
            continue
        try:
            with storage.open_file(path) as file:
                content = json.load(file)
            if content["format"] != _FORMAT:
                continue
            folder = storage.split(path)[0]
            files = [
                File(storage.join(folder, name), entries, bits, tuple(run_ids), checksum)
                for name, entries, bits, run_ids, checksum in content["files"]
            ]
            if all(storage.size_in(there.get(file.path, "")) == file.size for file in files):
                found.append(Part(path, dict(content["runs"]), tuple(files)))
        except (ValueError, KeyError, TypeError):
            continue
    yield from sorted(found, key=lambda part: (-len(part.runs), part.path))


def _paths_of(parts: Iterable[Part]) -> set[str]:
    return {path for part in parts for path in (part.path, *(file.path for file in part.files))}


def update(ledger: Ledger, gathered: Gathered | None) -> None:
    """Write the new part, merge parts, and delete what is of no use any more.

    If this is broken off, or done again, the ledger is still whole.

    Args:
      ledger: what the run knows.
      gathered: from the rows of ``rest``; None if there are none.
    """
    parts = list(ledger.parts)
    try:
        if ledger.new:
            gathered = gathered or Gathered(ledger.folder)
            gathered.save()
            files = gathered.files
            if len(files) > 1 and sum(file.entries for file in files) <= MOST_MERGED:
                files = merge_files(ledger.folder, files)
            parts.append(_write_part(ledger.folder, ledger.new, files))
        merged = _merged(ledger.folder, parts)
        if merged != parts or ledger.has_stale:
            keep = _paths_of([*merged, *ledger.others])
            storage.delete([path for path in storage.find(ledger.folder, "*") if path not in keep])
    except (StoreError, OSError, RunError) as error:  # the next run derives what is missing
        console.say(f"warning: {ledger.folder} cannot be written: {error}")


def _merged(folder: str, parts: Sequence[Part]) -> list[Part]:
    """Merge parts of about the same size, as often as there are enough of them."""
    parts = list(parts)
    while True:
        sizes: dict[int, list[Part]] = {}
        for part in parts:
            size = 0
            while part.entries >= LEAST_ROWS * FAN**size:
                size += 1
            sizes.setdefault(size, []).append(part)
        alike = next((some for _, some in sorted(sizes.items()) if len(some) >= FAN), None)
        if alike is None or sum(part.entries for part in alike) > MOST_MERGED:
            return parts
        runs = {name: was for part in alike for name, was in part.runs.items()}
        files = merge_files(folder, [file for part in alike for file in part.files])
        parts = [part for part in parts if part not in alike]
        parts.append(_write_part(folder, runs, files))


def _write_part(folder: str, runs: Mapping[str, str], files: Sequence[File]) -> Part:
    text = json.dumps(sorted(runs.items()))
    path = storage.join(folder, f"part-{hashlib.sha256(text.encode()).hexdigest()[:32]}.json")
    described = [(file.path.rpartition("/")[2], *file[1:]) for file in files]
    content = {"format": _FORMAT, "runs": dict(runs), "files": described}
    if not storage.is_remote(folder):
        storage.make_folder(folder)
    storage.write_file(path, json.dumps(content).encode())
    return Part(path, dict(runs), tuple(files))
