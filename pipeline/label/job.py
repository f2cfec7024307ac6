"""The label job: checks everything that can be wrong, runs the pipeline, says how it went."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam.pvalue import AsDict, AsIter, AsSingleton

from pipeline import console, storage
from pipeline.config.options import LabelConfig, written
from pipeline.errors import InputError, OutputError, RunError
from pipeline.formats import bigquery
from pipeline.formats.registry import FORMATS, table_suffixes
from pipeline.inputs import find, folders, tfrecords
from pipeline.inputs.kinds import Input
from pipeline.inputs.truth import PARENT
from pipeline.label import lock, runs
from pipeline.label.costs import bottleneck, per_million
from pipeline.label.resume import SetAsideDone
from pipeline.label.runs import Run
from pipeline.models import devices
from pipeline.models.devices import Execution
from pipeline.models.probing import probe_classifier
from pipeline.outputs import layout
from pipeline.outputs.copies import CopyByLabel
from pipeline.outputs.rows import KeepRows, WriteRows
from pipeline.records import TIME, Labeled
from pipeline.redaction import name_of
from pipeline.report import job as report
from pipeline.runner import (
    beam_options,
    is_only_described,
    new_pipeline,
    run_pipeline,
    runs_here,
    runs_in_one_process,
    versions,
)
from pipeline.tally import CountRecords, Tally, headline, reconcile
from pipeline.transforms import LabelImages


def run(config: LabelConfig) -> int:
    """Run the label job.

    Returns:
      0, or 1 if more images failed than ``max_failure_ratio`` allows.

    Raises:
      UsageError: found before any image is read.
      RunError: the run failed.
    """
    pipeline = new_pipeline(config.beam_args)
    started = datetime.now(timezone.utc)
    checked = check(config)
    with lock.held(checked.output):
        spec = probe_classifier(config.model, config.labels_file, config.resample, config.signature)
        run = runs.begin(runs.plan(config, *checked, spec, started))
        console.say(
            f"labeling with {config.model}, {spec.height}×{spec.width} pixels, "
            f"{len(spec.labels)} classes"
        )
        build(pipeline, run, started)
        if not run_pipeline(pipeline):
            return 0  # others start the job from its description
        lines = report.write(run.folder)
        with storage.open_file(storage.join(run.folder, layout.SUMMARY)) as file:
            summary = json.load(file)
    print(describe(summary, run.folder), *lines, sep="\n")
    too_many = too_many_failed(summary, config.max_failure_ratio)
    if too_many is not None:
        console.say(f"error: {too_many}")
        return 1
    return 0


def too_many_failed(summary: Mapping[str, Any], max_failure_ratio: float) -> str | None:
    """Return a line that says so if more images failed than is allowed, else None."""
    ratio = summary["failed"] / max(summary["labeled"] + summary["failed"], 1)
    if ratio <= max_failure_ratio:
        return None
    return (
        f"{ratio:.1%} of the images failed, more than --max_failure_ratio {max_failure_ratio} "
        "allows; the results are kept"
    )


class Checked(NamedTuple):
    """What ``check`` has found out.

    Attributes:
      inputs: where the images are.
      truth: the table with the true classes, if there is one.
      execution: what the model runs on.
      output: the folder's absolute path or URI.
    """

    inputs: list[Input]
    truth: Input | None
    execution: Execution
    output: str


def check(config: LabelConfig, keep_output: bool = True) -> Checked:
    """Prove, as cheaply as possible, that the run can work; its model is not looked at.

    Args:
      config: the command line.
      keep_output: whether the output folder stays if this creates it.

    Raises:
      UsageError: the run cannot work; the message says why and what to do.
    """
    # For buckets that need credentials or a project.
    storage.configure(beam_options(config.beam_args))
    inputs = [find.identify(given, config.uri_column, config.carry) for given in config.input]
    for source in inputs:
        find.require_images(source)
    if config.carry and not any(source.kind.has_columns for source in inputs):
        raise InputError(
            "no input has columns",
            subject="carry",
            remedy=f"give {table_suffixes()} files, or bigquery: queries",
        )
    truth = None
    if config.truth not in (None, PARENT):
        truth = find.identify_truth(config.truth, config.uri_column, config.truth_column)
    execution = Execution(config.precision, config.xla, config.require_gpu)
    if runs_here(config.beam_args):
        devices.require_device(execution)
    if config.output_table is not None:
        bigquery.check_table(config.output_table, config.carry)
    if config.copy_to is not None:
        for source in inputs:
            if folders.is_within(storage.absolute(config.copy_to), source):
                raise OutputError(
                    f"--copy_to {config.copy_to}: is in --input {source.given}, where the copies "
                    "would be labeled, too, the next time; give a folder elsewhere"
                )
        layout.prepare(config.copy_to, keep_output, "copy_to")
    return Checked(inputs, truth, execution, layout.prepare(config.output, keep_output))


def build(pipeline: beam.Pipeline, run: Run, started: datetime) -> None:
    """Wire the whole job into a pipeline.

    Args:
      pipeline: without steps.
      run: the run.
      started: start of this attempt, UTC.
    """
    config = run.config
    found, new, skipped, labeled_before, failed_before = (
        pipeline
        | "Find"
        >> find.FindImages(
            run.inputs,
            ask_for_versions=config.incremental,
            folder_is_truth=config.truth == PARENT,
        )
        | "SetAsideDone" >> SetAsideDone(run.attempts, run.earlier_runs, run.truth)
    )
    loaded = new | "Load" >> tfrecords.LoadRecords()
    labeled, failures = loaded | "LabelImages" >> LabelImages(
        run.spec,
        top_k=config.top_k,
        batch_size=config.batch_size,
        execution=run.execution,
        limits=config.limits,
        run_id=run.run_id,
        spread=False,
        keep=KeepRows(run.unfinished, config.checkpoint_every),
    )
    labeled, labeled_before = (
        rows | name >> beam.Map(Labeled.with_threshold, config.threshold)
        for name, rows in (("Threshold", labeled), ("ThresholdBefore", labeled_before))
    )
    tallies = {
        "found": found,
        "skipped": skipped,
        "labeled": labeled,
        "failed": failures,
        "labeled_before": labeled_before,
        "failed_before": failed_before,
    }
    counts = {
        name: AsSingleton(records | f"Count_{name}" >> beam.CombineGlobally(CountRecords()))
        for name, records in tallies.items()
    }
    if run.attempts:  # else there are none, and the rows need not be held until all are there
        labeled = (labeled, labeled_before) | "AllLabeled" >> beam.Flatten()
        failures = (failures, failed_before) | "AllFailures" >> beam.Flatten()
    files = [
        rows
        | f"Write_{name}"
        >> WriteRows(run.folder, name, config.output_format, config.gzip, config.carry)
        for name, rows in ((layout.LABELS, labeled), (layout.FAILURES, failures))
    ]
    copied: Any = {}
    if config.copy_to is not None:
        copies = labeled | CopyByLabel(storage.absolute(config.copy_to), config.limits)
        copied = AsDict(copies | "CountCopies" >> beam.combiners.Count.PerElement())
    # A side input is complete before its reader begins, so the summary comes after all rows.
    summary = (
        pipeline
        | "Run" >> beam.Create([run])
        | "Summarize"
        >> beam.Map(
            finish,
            started,
            AsIter(files | beam.Flatten()),
            copied,
            **counts,
        )
    )
    if is_only_described(pipeline):
        # Then no process waits for the job and could say it. If this step is tried again, the
        # summary must not be made again.
        _ = summary | "Summarized" >> beam.Reshuffle() | "Judge" >> beam.Map(judge, config)


def judge(summary: Mapping[str, Any], config: LabelConfig) -> None:
    """Fail the job, whose results are whole, if too many images failed.

    Raises:
      RunError: they did.
    """
    too_many = too_many_failed(summary, config.max_failure_ratio)
    if too_many is not None:
        raise RunError(too_many)


def finish(
    run: Run, started: datetime, files: Iterable[str], copied: Mapping[bool, int], **counts: Tally
) -> dict[str, Any]:
    """Reconcile the counts, put the rows into a table, write ``summary.json``, and tidy up.

    Args:
      run: the run.
      started: start of this attempt, UTC.
      files: paths of the shards.
      copied: number of images that could be copied (True) and that could not (False).
      **counts: as ``summarize`` takes them.

    Returns:
      The content of ``summary.json``.

    Raises:
      ReconciliationError: what went in did not come out; no summary is written.
      RunError: the table does not take the rows; no summary is written.
    """
    summary = summarize(run, started, **counts)
    if run.config.copy_to is not None:
        summary |= {"copied": copied.get(True, 0), "not_copied": copied.get(False, 0)}
    if run.config.output_table is not None:
        labels = [path for path in files if path.startswith(f"{run.folder}/{layout.LABELS}-")]
        bigquery.load(
            run.config.output_table,
            labels,
            run.config.carry,
            [run.run_id, *run.replaced],
        )
    content = json.dumps(summary, indent=2).encode() + b"\n"
    storage.write_file(storage.join(run.folder, layout.SUMMARY), content)
    runs.complete(run)
    return summary


def summarize(
    run: Run,
    started: datetime,
    found: Tally,
    skipped: Tally,
    labeled: Tally,
    failed: Tally,
    labeled_before: Tally,
    failed_before: Tally,
) -> dict[str, Any]:
    """Make the content of ``summary.json``; times are in seconds.

    Times and rate are those of this attempt. The times of the stages are averages over the images
    that it labeled: reading and predicting in wall time, decoding in CPU time.

    Args:
      run: the run.
      started: start of this attempt, UTC.
      found: tally of the images that the inputs list.
      skipped: tally of the images that earlier runs have labeled.
      labeled: tally of the images that this attempt labeled.
      failed: tally of the images that failed in this attempt.
      labeled_before: tally of the images that earlier attempts of this run labeled.
      failed_before: tally of the images that failed in earlier attempts of this run.

    Raises:
      ReconciliationError: what went in did not come out.
    """
    finished = datetime.now(timezone.utc)
    seconds = (finished - started).total_seconds()
    images = labeled.images + failed.images
    taken_over = labeled_before.images + failed_before.images
    all_labeled = Tally().merge(labeled_before).merge(labeled)
    all_failed = Tally().merge(failed_before).merge(failed)
    reconcile(found, all_labeled, all_failed, skipped)
    return {
        "run_id": run.run_id,
        "found": found.images,
        "labeled": all_labeled.images,
        "failed": all_failed.images,
        "skipped": skipped.images,
        "taken_over": taken_over,
        "below_threshold": all_labeled.below_threshold,
        "failure_reasons": _by_count(all_failed.reasons),
        "labels": _by_count(all_labeled.labels),
        "started_at": f"{run.started:{TIME}}",
        "finished_at": f"{finished:{TIME}}",
        "seconds": round(seconds, 3),
        "images_per_second": round(images / seconds, 2),
        "stage_seconds_per_image": {
            stage: round(total / max(labeled.images, 1), 6)
            for stage, total in labeled.seconds._asdict().items()
        },
        "bottleneck": (
            bottleneck(seconds, images, labeled.images, labeled.seconds)
            if images and runs_in_one_process(run.config.beam_args)
            else None
        ),
        "price_per_hour": run.config.price_per_hour,
        "cost_per_million_images": per_million(seconds, images, run.config.price_per_hour),
        "model": {
            "handle": name_of(run.spec.handle),
            "fingerprint": run.spec.fingerprint,
            "height": run.spec.height,
            "width": run.spec.width,
            "classes": len(run.spec.labels),
        },
        "settings": run.settings,
        "options": written(run.config),
        "versions": versions(),
    }


def describe(summary: dict[str, Any], output: str) -> str:
    """Write what the console says at the end: counts, rate, top failure reasons, and paths."""
    lines = [headline(summary)]
    if summary["taken_over"]:
        lines.append(f"{summary['taken_over']:,} of them by earlier attempts of this run")
    if summary["failed"]:
        reasons = list(summary["failure_reasons"].items())[:5]
        lines.append("failures: " + ", ".join(f"{count:,} {reason}" for reason, count in reasons))
    if summary["below_threshold"]:
        lines.append(f"{summary['below_threshold']:,} without a label, below --threshold")
    options = summary["options"]
    if options["copy_to"] is not None:
        not_copied = f", {summary['not_copied']:,} could not be" if summary["not_copied"] else ""
        lines.append(f"{summary['copied']:,} copied to {options['copy_to']}{not_copied}")
    if options["output_table"] is not None:
        lines.append(options["output_table"])
    shards = [
        f"{name}-*{FORMATS[format_].suffix(options['gzip'])}"
        for format_ in options["output_format"]
        for name in (layout.LABELS, layout.FAILURES)
    ]
    lines += [storage.join(output, name) for name in (*shards, layout.SUMMARY)]
    return "\n".join(lines)


def _by_count(counts: Counter[str]) -> dict[str, int]:
    """Sort by count, the highest first; equal ones are in alphabetical order."""
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
