"""Wires the label job into a pipeline, from its inputs to its summary."""

from __future__ import annotations

import contextlib
import json
import secrets
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

import apache_beam as beam

from pipeline import storage
from pipeline.config import yaml_file
from pipeline.config.label_options import LabelConfig
from pipeline.errors import RunError, StoreError
from pipeline.formats import bigquery_load
from pipeline.formats.schema import Schema
from pipeline.inputs import find
from pipeline.inputs.embedded import LoadEmbedded
from pipeline.inputs.passed_over import CountPassedOver
from pipeline.inputs.truth import PARENT
from pipeline.label import correcting, corrections, decisions, ledger, lock, notes, review, runs
from pipeline.label.correcting import Correct, MergeMatched
from pipeline.label.entries import Gather
from pipeline.label.evaluate import EvaluateLabels
from pipeline.label.kept import TakeOverKept
from pipeline.label.resume import SetAsideDone, TakeFirst
from pipeline.label.review import QueueForReview
from pipeline.label.runs import Run
from pipeline.label.summary import is_quiet, summarize
from pipeline.label.target import Calibrate, Calibration, CountScores, Scores
from pipeline.label.truth import JoinTruth, MergeTruthCounts, TruthCounts
from pipeline.label.truth_classes import NameClasses
from pipeline.models.answers import decide
from pipeline.outputs import layout
from pipeline.outputs.copies import CopyByLabel
from pipeline.outputs.mistakes import WriteMistakes, join_mistakes
from pipeline.outputs.parts import Shards, name_shards
from pipeline.outputs.rows import KeepRows, WriteRows
from pipeline.records import Failure, Labeled
from pipeline.runners.options import is_only_described
from pipeline.runners.portable import is_portable
from pipeline.tally import CombineTogether, CountRecords
from pipeline.transforms import LabelImages

# Beyond this many classes, the rows that a killed run leaves would be too large with all scores.
MOST_CLASSES = 2000

# A worker that keeps the scores of all classes holds so many before it saves their rows.
MOST_PREDICTIONS = 200_000


def build(
    pipeline: beam.Pipeline, run: Run, started: datetime, claim: lock.Key | None = None
) -> None:
    """Wire the whole job into a pipeline.

    Args:
      pipeline: without steps.
      run: the run.
      started: start of this attempt, UTC.
      claim: on the output; a job that no process waits for releases it.
    """
    config = run.config
    inputs, refs, passed_over = pipeline | "Find" >> find.FindImages(
        run.listed,
        ask_for_versions=config.incremental,
        folder_is_truth=config.truth == PARENT,
    )
    if run.truth is not None:
        join = JoinTruth(run.truth, run.spec.labels, run.spec.is_multi_label)
        refs, truth = refs | "Truth" >> join
    if config.truth is not None:
        refs |= "Classes" >> NameClasses(config.truth, run.spec.labels, run.spec.is_multi_label)
    if run.corrections is not None:
        refs, matched = refs | "Correct" >> Correct(run.corrections, run.spec.labels)
    known = () if run.ledger is None else run.ledger.files
    again = run.corrections is not None and run.corrections.again
    set_aside = SetAsideDone(run.attempts, run.earlier_runs, run.same_versions, known, again)
    found, new, skipped, labeled_before, failed_before, merged, gone, told_apart = (
        refs | "SetAsideDone" >> set_aside
    )
    limited = {}
    if config.incremental and config.limit is not None:
        limited["new"] = new
        take = TakeFirst(config.limit, (labeled_before, failed_before))
        limited["taken"] = new = new | "TakeFirst" >> take
    predictions, every = _predictions(run), config.checkpoint_every
    if predictions > config.top_k:
        every = min(every, MOST_PREDICTIONS // predictions)
    keep, kept = KeepRows(run.unfinished, every), None
    if is_portable(pipeline):
        token = secrets.token_hex(4)
        keep = KeepRows(run.unfinished, every, token)
        kept = new | "TakeOverKept" >> TakeOverKept(run.unfinished, token)
        new = kept.new
    if not find.have_only_files(run.listed):
        new |= "Load" >> LoadEmbedded()
    labeled, failures = new | "LabelImages" >> LabelImages(
        run.spec,
        top_k=predictions,
        batch_size=config.batch_size,
        execution=run.execution,
        limits=config.limits,
        run_id=run.run_id,
        spread=False,
        keep=keep,
    )
    if kept is not None:  # this job's own rows, like the others
        labeled = (labeled, kept.labeled) | "WithKept" >> beam.Flatten()
        failures = (failures, kept.failed) | "WithKeptFailures" >> beam.Flatten()
    sum_ = beam.CombineFn.from_callable(sum)
    counted: dict[str, tuple[beam.PCollection[Any], beam.CombineFn]] = {
        # There are some, even if no image is found, so that there are counts.
        "inputs": (inputs, beam.combiners.CountCombineFn()),
        "passed_over": (passed_over, CountPassedOver()),
        "merged": (merged, sum_),
        "gone": (gone, sum_),
        "told_apart": (told_apart, sum_),
    }
    if run.corrections is not None:
        counted["corrections"] = (matched, MergeMatched())
    if run.truth is not None:
        counted["truth"] = (truth, MergeTruthCounts())
    if run.ledger is not None and run.ledger.new and set_aside.seen is not None:
        counted["seen"] = (set_aside.seen, Gather(run.ledger.folder))
    if config.truth is not None:
        evaluate = EvaluateLabels(
            run.spec.labels, run.thresholds.others, config.top_k, run.spec.is_multi_label
        )
        counted |= {
            "evaluated": (labeled, evaluate),
            "evaluated_before": (labeled_before, evaluate),
        }
    if config.target_precision is not None:
        for name, rows in (("", labeled), ("_before", labeled_before)):
            counted[f"scores{name}"] = (rows, CountScores())
            counted[f"calibration{name}"] = (rows, Calibrate(len(run.spec.labels)))
    labeled, labeled_before = (
        rows
        | name >> beam.Map(decide, spec=run.spec, thresholds=run.thresholds, top_k=config.top_k)
        for name, rows in (("Threshold", labeled), ("ThresholdBefore", labeled_before))
    )
    if run.corrections is not None:
        labeled, labeled_before = (
            rows | name >> beam.Map(corrections.apply, run.spec.labels)
            for name, rows in (("Apply", labeled), ("ApplyBefore", labeled_before))
        )
        failures, failed_before = (
            rows | name >> beam.Map(corrections.forget)
            for name, rows in (("Forget", failures), ("ForgetBefore", failed_before))
        )
    count = CountRecords(run.spec.is_multi_label)
    counted |= {
        "found": (found, count),
        "skipped": (skipped, count),
        "labeled": (labeled, count),
        "failed": (failures, count),
        "labeled_before": (labeled_before, count),
        "failed_before": (failed_before, count),
        **{name: (refs, count) for name, refs in limited.items()},
    }
    if run.attempts:  # else there are none, and the rows need not be held until all are there
        labeled = (labeled, labeled_before) | "AllLabeled" >> beam.Flatten()
        failures = (failures, failed_before) | "AllFailures" >> beam.Flatten()
    folder = layout.new_temporary_folder(run.folder)
    for shards, rows in zip(_shards(run), (labeled, failures), strict=True):
        parts = rows | f"Write_{shards.name}" >> WriteRows(folder, shards)
        counted[f"{shards.name}_parts"] = (parts, beam.combiners.ToListCombineFn())
    if config.truth is not None:
        parts = labeled | "WriteMistakes" >> WriteMistakes(folder, run.spec.is_multi_label)
        counted["mistakes_parts"] = (parts, beam.combiners.ToListCombineFn())
    if config.review is not None:
        queue = QueueForReview(config.review, run.spec.is_multi_label)
        counted["review"] = (labeled, queue)
    if config.copy_to is not None:
        copies = labeled | CopyByLabel(storage.absolute(config.copy_to), config.limits)
        counted["copied"] = (copies, sum_)
        counted["to_copy"] = (copies, beam.combiners.CountCombineFn())
    together = CombineTogether({name: combine_fn for name, (_, combine_fn) in counted.items()})
    summary = (
        {name: rows for name, (rows, _) in counted.items()}
        | "Count" >> together
        | "Summarize"
        >> beam.Map(
            finish,
            run,
            started,
            datetime.now(timezone.utc),
            claim if is_only_described(pipeline) else None,
        )
    )
    if is_only_described(pipeline):
        # Then no process waits for the job and could say it. If this step is tried again, the
        # summary must not be made again.
        _ = summary | "Summarized" >> beam.Reshuffle() | "Judge" >> beam.Map(judge, config)


def _predictions(run: Run) -> int:
    """How many predictions a row has before it is decided which are labels.

    The average precision needs the scores of all classes.
    """
    classes = len(run.spec.labels)
    if run.spec.is_multi_label and run.config.truth is not None and classes <= MOST_CLASSES:
        return max(classes, run.config.top_k)
    return run.config.top_k


def judge(summary: Mapping[str, Any], config: LabelConfig) -> None:
    """Fail the job, whose results are whole, if too many images failed or the target is missed.

    Raises:
      RunError: they did.
    """
    too_many = too_many_failed(summary, config)
    if too_many is not None:
        raise RunError(too_many)
    missed = decisions.missed(summary)
    if missed is not None:
        raise RunError(missed)


def too_many_failed(summary: Mapping[str, Any], config: LabelConfig) -> str | None:
    """Return a line that says so if more images failed than is allowed, else None."""
    failed = summary["failed"]
    too_many = config.too_many_failed(failed, summary["labeled"] + failed)
    return too_many and f"{too_many}; the results are kept"


def _shards(run: Run) -> tuple[Shards, Shards]:
    """Return how the shards of the labels and of the failures are named."""
    formats, gzipped = run.config.output_format, run.config.gzip
    labels, failures = Schema(Labeled, run.columns), Schema(Failure, run.columns)
    return (
        Shards(run.folder, layout.LABELS, labels, formats, gzipped),
        Shards(run.folder, layout.FAILURES, failures, formats, gzipped),
    )


def finish(
    counts: Mapping[str, Any],
    run: Run,
    started: datetime,
    built: datetime,
    claim: lock.Key | None = None,
) -> dict[str, Any]:
    """Name the shards, reconcile the counts, fill the table, write ``summary.json``, and tidy up.

    If a runner calls this again, it goes on where it was.

    Args:
      counts: as ``summarize`` takes them. Besides, the files with rows, "labels_parts" and
        "failures_parts"; with a truth also "mistakes_parts", and what ``EvaluateLabels`` returned,
        "evaluated" and "evaluated_before"; with a target what ``CountScores`` and ``Calibrate``
        returned, "scores", "calibration", and both with "_before"; with corrections what
        ``MergeMatched`` returned, "corrections"; what ``QueueForReview`` returned, "review"; with a
        table of the truth its counts, "truth"; how many images could be copied, "copied", of those
        that were "to_copy"; and what ``Gather`` returned for the ledger, "seen".
      run: the run.
      started: start of this attempt, UTC.
      built: when its pipeline was about to begin, UTC.
      claim: on the output, to be released, if no process waits for the job and does that.

    Returns:
      The content of ``summary.json``.

    Raises:
      ReconciliationError: what went in did not come out; no summary is written.
      RunError: the table does not take the rows; no summary is written.
    """
    counts = {name: count for name, count in counts.items() if name != "inputs"}
    of_labels, of_failures = _shards(run)
    labels = name_shards(of_labels, counts.pop("labels_parts"))
    files = [*labels, *name_shards(of_failures, counts.pop("failures_parts"))]
    if run.config.truth is not None:
        files.append(join_mistakes(run.folder, counts.pop("mistakes_parts")))
    chosen = _choose(counts)
    queue, matched = counts.pop("review", None), counts.pop("corrections", None)
    evaluated, evaluated_before, truth, copied, to_copy, seen = (
        counts.pop(name, None)
        for name in ("evaluated", "evaluated_before", "truth", "copied", "to_copy", "seen")
    )
    summary = summarize(run, started, built, **counts)
    if evaluated is not None and evaluated_before is not None:
        evaluated_before.merge(evaluated)
        evaluation = evaluated_before.evaluation()
        if evaluation is not None:
            summary["evaluation"] = notes.known_before(evaluation.to_json(), run.finished)
    if chosen is not None and not is_quiet(summary):
        summary["target_precision"] = decisions.decide(run, *chosen)
    if matched is not None and run.corrections is not None:
        summary["corrections"] = correcting.finish(run, matched, summary)
    if queue is not None and not is_quiet(summary):
        summary["review"] = review.write(run.folder, queue, run.spec)
    if truth is not None:
        summary |= {"truth": _truth(run, truth)}
    if to_copy is not None:
        summary |= {"copied": copied, "not_copied": to_copy - copied}
    if run.config.output_table is not None:
        bigquery_load.load(
            run.config.output_table,
            labels,
            run.columns,
            [run.run_id, *run.replaced],
            started,
            summary["labeled"],
        )
    if run.ledger is not None:
        ledger.update(run.ledger, seen)
    content = json.dumps(summary, indent=2).encode() + b"\n"
    storage.write_file(storage.join(run.folder, layout.SUMMARY), content)
    if is_quiet(summary):  # then the summary is all there is to say
        storage.delete([*files, storage.join(run.folder, yaml_file.NAME)])
    runs.complete(run)
    if claim is not None:
        with contextlib.suppress(StoreError):  # the next run asks whether this job has ended
            lock.release(claim)
    return summary


def _choose(counts: dict[str, Any]) -> tuple[Scores, Calibration] | None:
    """Take what a target needs out of the counts, of all attempts together; None without one."""
    if "scores" not in counts:
        return None
    scores, calibration = counts.pop("scores_before"), counts.pop("calibration_before")
    scores.merge(counts.pop("scores"))
    calibration.merge(counts.pop("calibration"))
    return scores, calibration


def _truth(run: Run, counts: TruthCounts) -> dict[str, Any]:
    source = run.truth
    columns = {} if source is None else {"image": source.uri_column, "class": source.truth_column}
    return {"columns": columns, **counts.to_json()}
