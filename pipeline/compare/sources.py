"""Finds the rows of a run, of all runs of an output, or of a merged table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from pipeline import storage
from pipeline.errors import OutputError, RunError, StoreError
from pipeline.formats.registry import in_one_format
from pipeline.formats.shards import read_rows
from pipeline.label.merge import whole_runs
from pipeline.label.resume import DAMAGED
from pipeline.label.runs import UNFINISHED
from pipeline.outputs.layout import FAILURES, LABELS, RUN_FOLDER, SUMMARY, find_shards
from pipeline.report.reading import read_summary


class Source(NamedTuple):
    """The rows on one side of a comparison.

    ``given``: what the user wrote. ``folder``: its absolute path or URI. ``runs``: the folders with
    rows, those with the older rows first, each with its summary; None for a merged table, which has
    none.
    """

    given: str
    folder: str
    runs: Mapping[str, Mapping[str, Any] | None]

    @property
    def summary(self) -> Mapping[str, Any] | None:
        """The summary of its last run; None for a merged table."""
        return list(self.runs.values())[-1]

    def multi_label(self, shown: bool) -> bool:
        """Tell whether an image may have several labels.

        Args:
          shown: whether the rows show it, which counts where no summary says it.

        Raises:
          OutputError: the runs are of both kinds.
        """
        said = {bool(run["model"].get("multi_label")) for run in self.runs.values() if run}
        if len(said) > 1:
            raise OutputError(
                f"{self.given} has runs with one label per image, and runs with several",
                remedy="give one of its folders",
            )
        return said.pop() if said else shown


def find_source(given: str) -> Source:
    """Find out what a folder is, and which of its folders have rows.

    Args:
      given: what the user wrote: a run's folder, one with a folder for each run, or that of a
        merged table.

    Raises:
      OutputError: it is none of these, has no rows, or has a run that has not ended.
    """
    folder = storage.absolute(given).rstrip("/")
    if storage.is_http(folder):
        raise OutputError(f"{given}: folders at http(s) cannot be listed", remedy="copy it first")
    try:
        runs = _runs(given, folder)
    except StoreError as error:
        raise OutputError(f"{given} cannot be read: {error}") from error
    rows = [run and run["labeled"] + run["failed"] for run in runs.values()]
    if not any(count is None or count for count in rows):
        raise OutputError(f"{given} has no rows, since its run found nothing new")
    return Source(given, folder, runs)


def _runs(given: str, folder: str) -> dict[str, Mapping[str, Any] | None]:
    if storage.find(folder, SUMMARY):
        return {folder: read_summary(folder)}
    if storage.find(folder, f"{UNFINISHED}/*"):
        raise OutputError(
            f"{given} is not finished: its run goes on, or was cut off",
            remedy="wait for it, or run its command again",
        )
    if storage.find(folder, f"{RUN_FOLDER}*/{SUMMARY}", f"{RUN_FOLDER}*/{UNFINISHED}/*"):
        return {path: read_summary(path) for path in whole_runs(folder)}
    if find_shards(folder, LABELS, FAILURES):
        return {folder: None}
    raise OutputError(
        f"{given} has no rows of label, neither its own nor in folders of runs",
        remedy="give the {output} of label, a folder of a run in it, or a merged table",
    )


def rows_of(source: Source) -> Iterator[dict[str, Any]]:
    """Read all rows, the older ones first.

    Raises:
      RunError: a row is damaged, or rows are missing.
      StoreError: they cannot be read.
    """
    for folder, summary in source.runs.items():
        counts = {LABELS: 0, FAILURES: 0}
        for name in counts:
            for shard in in_one_format(find_shards(folder, name)):
                try:
                    for row in read_rows(shard):
                        counts[name] += 1
                        yield row
                except DAMAGED as error:
                    raise RunError(
                        f"{shard} is damaged: it contains something that is not a row ({error})"
                    ) from error
        if summary is None:
            continue
        for name, key in ((LABELS, "labeled"), (FAILURES, "failed")):
            if counts[name] != summary[key]:
                raise RunError(
                    f"{folder} has {counts[name]:,} rows in {name}-*, but its run wrote "
                    f"{summary[key]:,}: some were changed or deleted since"
                )
