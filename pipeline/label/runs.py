"""Decides where a run writes, and whether it begins, goes on, or is refused.

A run's folder, while it is not whole:

    run.yaml                            its flags, for --config
    .unfinished/run.json                which run it is
    .unfinished/labels-*                the rows so far, with failures-* beside them
    labels-00000-of-00001.jsonl …       for the moment before ``summary.json`` is written

With ``--incremental`` the output has a folder for each run, ``run=2026-11-24T02-00-00Z``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, NamedTuple

from pipeline import console, storage
from pipeline.config import yaml_file
from pipeline.config.commands import as_yaml
from pipeline.config.label_options import LabelConfig
from pipeline.errors import OutputError, StoreError
from pipeline.formats.registry import in_one_format, suffix_of
from pipeline.inputs.first import first
from pipeline.inputs.kinds import Input
from pipeline.label import ledger, notes
from pipeline.label.corrections import Corrections
from pipeline.label.ledger import Ledger
from pipeline.models.devices import Execution
from pipeline.models.spec import ModelSpec
from pipeline.models.thresholds import Thresholds, thresholds_of
from pipeline.outputs import layout
from pipeline.records import LABELED_BY, TIME, TIME_IN_NAMES, TRAINED_ON
from pipeline.runners.identity import new_run_id, versions

UNFINISHED = ".unfinished"
NOTE = "run.json"
_RUN_FOLDER = layout.RUN_FOLDER

_ROWS = (layout.LABELS, layout.FAILURES)
# Everything that belongs to a run in its folder, except its summary and its shards.
_REST = (f"{UNFINISHED}/*", yaml_file.NAME, *layout.BESIDE)


@dataclasses.dataclass(frozen=True)
class Run:
    """A run that has been checked and may begin.

    Attributes:
      config: the command line, with the threshold that fits the model.
      inputs: its ``--input``s.
      truth: the table with the true classes, if there is one.
      execution: where the model runs.
      spec: of the model.
      folder: gets the results.
      run_id: goes into every row.
      started: UTC; for a later attempt, the start of the first one.
      settings: everything on which the rows depend.
      attempts: globs of the rows of this run's earlier attempts.
      earlier_runs: globs of the rows of runs whose images need not be labeled again.
      ledger: what is known of other such runs; None if the run is not incremental.
      same_versions: the ids of the runs, of those with such rows, by the same versions of this
        package and its libraries.
      replaced: the ids of runs that this one deletes.
      finished: what ``notes.finished`` tells of this run, if it was finished before.
      corrections: the labels that people gave, if there are some.
    """

    config: LabelConfig
    inputs: Sequence[Input]
    truth: Input | None
    execution: Execution
    spec: ModelSpec
    folder: str
    run_id: str
    started: datetime
    settings: dict[str, Any]
    attempts: tuple[str, ...] = ()
    earlier_runs: tuple[str, ...] = ()
    ledger: Ledger | None = None
    same_versions: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()
    finished: Mapping[str, Any] | None = None
    corrections: Corrections | None = None

    @functools.cached_property
    def thresholds(self) -> Thresholds:
        """The score in [0, 1] that a label has at least."""
        return thresholds_of(self.spec, self.config.threshold)

    @property
    def listed(self) -> Sequence[Input]:
        """What the run lists; with ``incremental``, a limit is one of the new images."""
        return self.inputs if self.config.incremental else first(self.inputs, self.config.limit)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that rows have beside their own."""
        seen = (TRAINED_ON,) if self.spec.lists_images else ()
        by = () if self.corrections is None else (LABELED_BY,)
        return tuple(dict.fromkeys((*self.config.carry, *seen, *by)))

    @property
    def unfinished(self) -> str:
        """The folder for the rows so far."""
        return storage.join(self.folder, UNFINISHED)


class Checked(NamedTuple):
    """What was checked before a run.

    Attributes:
      inputs: where the images are.
      truth: the table with the true classes, if there is one.
      execution: what the model runs on.
      output: the folder's absolute path or URI.
    """

    inputs: Sequence[Input]
    truth: Input | None
    execution: Execution
    output: str


class Plan(NamedTuple):
    """What a run would do with the content of its output.

    ``run``: as it would begin. ``unwanted``: the folders of runs that it would delete. ``note``:
    that of the earlier attempt with which it would go on, if there is one.
    """

    run: Run
    unwanted: tuple[str, ...] = ()
    note: dict[str, Any] | None = None

    @property
    def goes_on(self) -> bool:
        """Whether there are results of the same model and settings, on which the run builds."""
        known = self.run.ledger is not None and bool(self.run.ledger.parts)
        return self.note is not None or bool(self.run.earlier_runs) or known

    @property
    def attempts(self) -> tuple[str, ...]:
        """Globs of the rows of earlier attempts, where these have left them."""
        if self.note is None:
            return ()
        folders = (self.run.folder, self.run.unfinished)
        return tuple(storage.join(folder, f"{name}-*") for folder in folders for name in _ROWS)

    @property
    def same_versions(self) -> tuple[str, ...]:
        """The ids of the runs, of those on which it builds, by the same versions."""
        alike = self.note is not None and _is_of_these_versions(self.note)
        return (*self.run.same_versions, *([self.note["run_id"]] if alike and self.note else []))

    def with_spec(self, spec: ModelSpec) -> Plan:
        """The same with what else has been found out about the model."""
        return self._replace(run=dataclasses.replace(self.run, spec=spec))


def plan(config: LabelConfig, checked: Checked, spec: ModelSpec, started: datetime) -> Plan:
    """Find out what a run would do, and change nothing.

    Args:
      config: the command line.
      checked: what was checked before.
      spec: the model.
      started: start of this attempt, UTC.

    Raises:
      OutputError: the output has something that ``--if_exists`` does not allow touching.
    """
    given, config = (
        config,
        config
        if isinstance(config.threshold, str)
        else dataclasses.replace(config, threshold=thresholds_of(spec, config.threshold).others),
    )
    run = Run(
        config=config,
        inputs=checked.inputs,
        truth=checked.truth,
        execution=checked.execution,
        spec=spec,
        folder=checked.output,
        run_id=new_run_id(started),
        started=started,
        settings=notes.settings(config, checked.inputs, spec),
    )
    try:
        return _increment(run, given) if config.incremental else _alone(run, given)
    except StoreError as error:
        raise OutputError(
            f"cannot be read: {error}", subject="output", given=checked.output
        ) from error


def begin(plan: Plan) -> Run:
    """Delete what is no longer wanted, and note in the run's folder that it has begun.

    Args:
      plan: made while this process held the lock on the output.

    Raises:
      OutputError: that cannot be done.
    """
    try:
        for folder in plan.unwanted:
            _clear(folder)
        return _start(plan.run, versions()) if plan.note is None else _go_on(plan)
    except StoreError as error:
        raise OutputError(
            f"cannot be written: {error}", subject="output", given=plan.run.folder
        ) from error


def complete(run: Run) -> None:
    """Remove what the next attempt would have needed, now that ``summary.json`` is written."""
    try:
        layout.remove(run.folder, [f"{UNFINISHED}/*"])
        layout.remove_temporary_files(run.folder)
        if not storage.is_remote(run.folder):
            Path(run.unfinished).rmdir()
    except (StoreError, OSError) as error:  # the run is whole anyway
        console.say(f"warning: {run.unfinished} cannot be deleted: {error}")


def _alone(run: Run, given: LabelConfig) -> Plan:
    """Plan the run of an output that is all its own."""
    names = (layout.SUMMARY, f"{UNFINISHED}/{NOTE}")
    if storage.find(run.folder, *(f"{_RUN_FOLDER}*/{name}" for name in names)):
        raise OutputError(
            "has a folder for each run",
            subject="output",
            given=run.folder,
            remedy="add {incremental}, or give another folder",
        )
    if not _is_there(run.folder):
        return Plan(run)
    note = notes.read(storage.join(run.folder, UNFINISHED, NOTE)) or notes.read(
        storage.join(run.folder, layout.SUMMARY)
    )
    if run.config.if_exists == "overwrite":
        return _instead_of(run, {run.folder: note})
    remedy = "give another folder, or {if_exists}=overwrite to delete them first"
    if note is None or run.config.if_exists == "fail":
        raise OutputError(
            "already has results of a run", subject="output", given=run.folder, remedy=remedy
        )
    changed = notes.changed(note["settings"], run.settings)
    if changed and not _has_rows(run.folder):
        return _instead_of(run, {run.folder: note})
    if changed:
        raise OutputError(
            f"already has results of another command ({changed})",
            subject="output",
            given=run.folder,
            remedy=remedy,
        )
    return _next_attempt(run, given, note)


def _next_attempt(run: Run, given: LabelConfig, note: dict[str, Any]) -> Plan:
    """Plan the next attempt of a run, which keeps what the run has if it was finished before."""
    before = notes.finished(note)
    if before is not None:
        config = notes.keeping(run.config, given, before, run.folder)
        run = dataclasses.replace(run, config=config, finished=before)
    return Plan(run, note=note)


def _increment(run: Run, given: LabelConfig) -> Plan:
    """Plan a run in a folder among others, or the next attempt of an unfinished run."""
    output = run.folder
    if _is_there(output):
        raise OutputError(
            "has the results of a single run",
            subject="output",
            given=output,
            remedy="give another folder for {incremental}",
        )
    whole = notes.read_all(output, layout.SUMMARY)
    unfinished = {
        folder: note
        for folder, note in notes.read_all(output, f"{UNFINISHED}/{NOTE}").items()
        if folder not in whole
    }
    counts = {
        folder: note
        for folder, note in whole.items()
        if note is not None
        and not notes.changed(note["settings"], run.settings, notes.MAKE_OTHER_ROWS)
    }
    others = {folder: note for folder, note in whole.items() if folder not in counts}
    why = _why_not(others, run.settings)
    if others and (counts or run.config.relabel):
        console.say(f"{len(others)} of {len(whole)} earlier runs do not count ({why})")
    known = ledger.survey(output, whole, counts)
    globs = [
        storage.join(folder, shards)
        for folder in sorted(known.rest)
        for shards in notes.shards_of(counts[folder])
    ]
    alike = (note["run_id"] for note in counts.values() if _is_of_these_versions(note))
    run = dataclasses.replace(
        run, earlier_runs=tuple(globs), ledger=known, same_versions=tuple(alike)
    )
    unwanted = {}
    for folder, note in sorted(unfinished.items(), reverse=True):
        if run.config.if_exists == "fail":
            raise OutputError(
                f"{folder} is not finished",
                subject="output",
                given=output,
                remedy="give {if_exists}=resume to finish it, "
                "or {if_exists}=overwrite to delete it first",
            )
        if run.config.if_exists == "overwrite" or not _has_rows(folder):
            unwanted[folder] = note
        elif note is not None and not notes.changed(note["settings"], run.settings):
            return _next_attempt(dataclasses.replace(run, folder=folder), given, note)
        else:
            console.say(
                f"warning: {folder} stays unfinished: another command began it; run that again, "
                "or if_exists=overwrite to delete what is unfinished"
            )
    if others and not counts and not run.config.relabel:
        runs = "the earlier run does not count"
        if len(others) > 1:
            runs = f"none of the {len(others)} earlier runs counts"
        raise OutputError(
            f"{runs} ({why}), so every image would be labeled again",
            subject="output",
            given=output,
            remedy="give the model and the flags of the earlier runs, or {relabel} to do that",
        )
    first_second = _after(run.started, whole)
    for second in itertools.count():  # a run may have begun in the same second
        started = first_second + timedelta(seconds=second)
        folder = storage.join(output, f"{_RUN_FOLDER}{started:{TIME_IN_NAMES}}")
        if not _is_there(folder):
            break
    run = dataclasses.replace(run, folder=folder, started=started, run_id=new_run_id(started))
    return _instead_of(run, unwanted)


def _after(now: datetime, whole: Mapping[str, dict[str, Any] | None]) -> datetime:
    """Return the time, or if the clock went back since a run has ended, a second after that one.

    The order of runs is that of their names, so the latest run must have the last one.
    """
    ended = {notes.end_of(note): folder for folder, note in whole.items() if note is not None}
    last = max(ended, default="")
    if last <= f"{now:{TIME}}":
        return now
    console.say(
        f"warning: {ended[last]} ended at {last}, but the clock says {now:{TIME}}; this run is "
        "named as if it began after that one"
    )
    return datetime.strptime(last, TIME).replace(tzinfo=timezone.utc) + timedelta(seconds=1)


def _why_not(whole: Mapping[str, dict[str, Any] | None], settings: Mapping[str, Any]) -> str:
    """Say why runs do not count, by what has changed since the one that is most like this one."""
    noted = [note for _, note in sorted(whole.items(), reverse=True) if note is not None]
    changes = [notes.changed(note["settings"], settings, notes.MAKE_OTHER_ROWS) for note in noted]
    return min(filter(None, changes), key=len, default="their summaries cannot be read")


def _instead_of(run: Run, unwanted: dict[str, dict[str, Any] | None]) -> Plan:
    """Return the run as it is once the runs that left these notes are deleted."""
    ids = (note["run_id"] for note in unwanted.values() if note is not None)
    return Plan(dataclasses.replace(run, replaced=tuple(ids)), tuple(unwanted))


def _has_rows(folder: str) -> bool:
    """Tell whether a folder has a run's rows, or, if there were none, its summary."""
    kept = (f"{UNFINISHED}/{name}-*" for name in _ROWS)
    return bool(storage.find(folder, layout.SUMMARY, *kept) or layout.find_shards(folder, *_ROWS))


def _is_there(folder: str) -> bool:
    """Tell whether a run has begun in a folder."""
    return bool(storage.find(folder, f"{UNFINISHED}/{NOTE}")) or _has_rows(folder)


def _is_of_these_versions(note: dict[str, Any]) -> bool:
    return bool(note.get("versions") == versions())


def _start(run: Run, first_versions: dict[str, str] | None) -> Run:
    """Note that a run has begun, and with which versions its first attempt did."""
    if not storage.is_remote(run.folder):
        storage.make_folder(run.unfinished)
    note = {
        "run_id": run.run_id,
        "started_at": f"{run.started:{TIME}}",
        "settings": run.settings,
        "versions": first_versions,
        "finished": run.finished,
    }
    storage.write_file(storage.join(run.unfinished, NOTE), json.dumps(note, indent=2).encode())
    flags = as_yaml(run.config).encode()
    storage.write_file(storage.join(run.folder, yaml_file.NAME), flags)
    return run


def _go_on(plan: Plan) -> Run:
    """Begin the next attempt of a run; all existing rows become those of earlier attempts.

    At any moment of this, another attempt can go on with what there is: a summary is deleted before
    the first of its rows.
    """
    note = plan.note or {}
    started = datetime.strptime(note["started_at"], TIME).replace(tzinfo=timezone.utc)
    run = dataclasses.replace(
        plan.run, run_id=note["run_id"], started=started, same_versions=plan.same_versions
    )
    _start(run, note.get("versions"))
    layout.remove(run.folder, [layout.SUMMARY, *layout.BESIDE])
    shards = layout.find_shards(run.folder, *_ROWS)
    taken = in_one_format(shards)
    for path in taken:
        name, _, _ = path.rpartition("/")[2].partition("-")
        part = layout.new_part(run.unfinished, name, suffix_of(path) or "")
        storage.rename(path, part)
    storage.delete([path for path in shards if path not in taken])
    layout.remove_temporary_files(run.folder)
    console.say(f"resuming the run of {note['started_at']} in {run.folder}")
    globs = [storage.join(run.unfinished, f"{name}-*") for name in _ROWS]
    return dataclasses.replace(run, attempts=tuple(globs))


def _clear(folder: str) -> None:
    """Delete a run, its summary first, so that no reader takes the rest for a whole run."""
    layout.remove(folder, [layout.SUMMARY])
    storage.delete(layout.find_shards(folder, *_ROWS))
    layout.remove(folder, _REST)
    layout.remove_temporary_files(folder)
    if not storage.is_remote(folder):
        for path in (Path(folder, UNFINISHED), Path(folder)):
            with contextlib.suppress(OSError):  # it has other content, or does not exist
                path.rmdir()
