"""The label job: checks what can be wrong, runs the pipeline, and says how it went."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from pipeline import console, progress, storage
from pipeline.config.label_options import LabelConfig
from pipeline.errors import RunError, StoreError
from pipeline.formats.registry import FORMATS
from pipeline.inputs import first, passed_over
from pipeline.label import correcting, decisions, lock, notes, runs, truth
from pipeline.label.build import build, too_many_failed
from pipeline.label.elsewhere import with_staged_model
from pipeline.label.runs import Run
from pipeline.label.summary import is_quiet
from pipeline.label.truth_check import look_ahead
from pipeline.label.validation import first_pixels, several_labels, validate
from pipeline.models.probing import probe_classifier
from pipeline.models.scale_trial import say_assumed, settle_scale
from pipeline.outputs import disk, layout
from pipeline.outputs.rows import count_kept
from pipeline.progress import Counts
from pipeline.report import job as report
from pipeline.runners import dataflow, portable
from pipeline.runners.options import is_only_described, new_pipeline, runs_here
from pipeline.runners.running import run_pipeline
from pipeline.tally import headline


def run(config: LabelConfig) -> int:
    """Run the label job.

    Returns:
      0, or 1 if more images failed than ``max_failure_ratio`` allows, or if no threshold reaches
      ``target_precision``.

    Raises:
      UsageError: found before any image is read.
      RunError: the run failed.
    """
    pipeline = new_pipeline(config.all_beam_args)
    dataflow.name_job(pipeline.options, config.output)
    started = datetime.now(timezone.utc)
    checked = validate(config)
    own_job = dataflow.described(pipeline.options) if is_only_described(pipeline) else None
    with lock.held(checked.output, own_job) as claim:
        spec = decisions.prepare(config, probe_classifier(config.model, config.stated))
        plan = runs.plan(config, checked, spec, started)
        if not plan.goes_on:
            spec = settle_scale(spec, first_pixels(plan.run.listed, spec, config.limits))
            plan = plan.with_spec(spec)
        elif not spec.scale_source:
            say_assumed(spec)
        look_ahead(plan.run)
        plan = plan._replace(run=correcting.prepare(plan.run))
        plan = plan.with_spec(with_staged_model(plan.run.spec, config))
        run = runs.begin(plan)
        console.say(
            f"labeling with {config.model}, {spec.input_words}, {len(spec.labels)} classes"
            f"{several_labels(run)}"
        )
        console.say(f"the model takes {spec.scale_words}, and returns {spec.returns}")
        if config.limit is not None and not config.incremental:
            limited = first.describe(run.inputs, config.limit)
            if limited:
                console.say(f"{limited} (--limit)")
        build(pipeline, run, started, claim.key)
        portable.name_job(pipeline, "label", checked.output)
        try:
            if not run_pipeline(
                pipeline,
                functools.partial(_note_job, run, claim),
                functools.partial(_estimate, run, count_kept(run.unfinished)),
            ):
                return 0  # others start the job from its description
        except (RunError, RuntimeError) as error:
            if disk.is_full(error):
                raise RunError(_disk_is_full(run, error)) from error
            raise
        with storage.open_file(storage.join(run.folder, layout.SUMMARY)) as file:
            summary = json.load(file)
        lines = [] if is_quiet(summary) else report.write(run.folder)
    if summary.get("truth") and not runs_here(config.beam_args):  # a worker said it elsewhere
        for line in truth.notes(summary["truth"]):
            console.say(line)
    lines += [*decisions.in_words(summary, run.folder), *correcting.in_lines(run, summary)]
    print(describe(summary, run.folder, run.finished), *lines, sep="\n")
    too_many, missed = too_many_failed(summary, config), decisions.missed(summary)
    if too_many is not None:
        for reason, example in summary.get("failure_examples", {}).items():
            console.say(f"{reason}, such as {example['image']}: {example['message']}")
        console.say(f"error: {too_many}")
    if missed is not None:
        console.say(f"error: --target_precision: {missed}")
    return int(too_many is not None or missed is not None)


def _note_job(run: Run, claim: lock.Claim, job: Mapping[str, Any] | None) -> None:
    """Note the job that a run becomes in the claim and in ``run.json``, or that it has ended."""
    claim.name_job(job)
    if job is not None:
        try:
            notes.add_job(storage.join(run.unfinished, runs.NOTE), job)
        except StoreError as error:
            console.say(f"warning: the job cannot be noted in {run.unfinished}: {error}")


def _estimate(run: Run, before: Counts, counts: Counts) -> Counts:
    """Make counts for people of those that workers of a cluster have told.

    Workers of Flink tell nothing until they are done, but keep rows.

    Args:
      run: the run.
      before: what was kept before the job began.
      counts: what the workers have told.
    """
    kept = count_kept(run.unfinished)
    counts = counts._replace(
        done=max(counts.done, kept.done - before.done),
        failed=max(counts.failed, kept.failed - before.failed),
    )
    none_is_set_aside = not run.attempts and not run.earlier_runs and run.config.limit is None
    if counts.total is None and none_is_set_aside and counts.done + counts.failed:
        return counts._replace(to_do=counts.found)
    return counts


def _disk_is_full(run: Run, error: BaseException) -> str:
    """Remove what Beam has left unfinished, and say which disk is full and what is missing."""
    folders = [run.folder, *([] if run.config.copy_to is None else [run.config.copy_to])]
    counts = progress.counts()
    missing = ""
    if counts.kept and counts.total and not storage.is_remote(run.folder):
        kept = disk.size_of(run.unfinished)
        need = kept / counts.kept * counts.total * (1 + len(run.config.output_format))
        missing = f", the run needs about {disk.in_words(need - kept)} more"
    line = disk.in_line(error, list(map(storage.absolute, folders)), missing)
    layout.remove_temporary_files(run.folder)
    return line


def describe(
    summary: dict[str, Any], output: str, finished: Mapping[str, Any] | None = None
) -> str:
    """Write what the console says at the end: counts, rate, top failure reasons, and paths.

    Args:
      summary: the content of ``summary.json``.
      output: the run's folder.
      finished: see ``Run``.
    """
    lines = [headline(summary)]
    if is_quiet(summary):
        words = f"nothing new: {summary['skipped']:,} were done before"
        return "\n".join([words, *lines, storage.join(output, layout.SUMMARY)])
    if finished is not None and summary["finished_at"] == finished["finished_at"]:
        failed = f" and {summary['failed']:,} failed" if summary["failed"] else ""
        day = summary["finished_at"].partition("T")[0]
        lines.insert(0, f"nothing new: {summary['labeled']:,} were labeled{failed} on {day}")
    elif summary["taken_over"]:
        lines.append(f"{summary['taken_over']:,} of them by earlier attempts of this run")
    if summary.get("left_out"):
        limit = summary["options"]["limit"]
        lines.append(f"{summary['left_out']:,} new images left for the next run (--limit {limit})")
    if summary["failed"]:
        reasons = list(summary["failure_reasons"].items())[:5]
        lines.append("failures: " + ", ".join(f"{count:,} {reason}" for reason, count in reasons))
    others = passed_over.in_words(summary)
    if others:
        lines.append(f"passed over: {others}")
    if summary["no_longer_found"]:
        count = summary["no_longer_found"]
        rows = "row" if count == 1 else "rows"
        lines.append(f"removed: {count:,} {rows} of images that the inputs no longer name")
    if summary["merged"]:
        mentions = "mention" if summary["merged"] == 1 else "mentions"
        lines.append(f"merged: {summary['merged']:,} repeated {mentions} of images")
    if summary["told_apart"]:
        lines.append(
            f"told apart: only credentials in their URIs tell {summary['told_apart']:,} images "
            "apart, so their names end with #; --keep_parameters names a parameter that identifies"
        )
    if summary["below_threshold"]:
        lines.append(f"{summary['below_threshold']:,} without a label, below --threshold")
    if summary.get("labeled_by_person"):
        lines.append(
            f"labels by people: {summary['labeled_by_person']:,}, of which "
            f"{summary['corrected']:,} are not the model's"
        )
    options = summary["options"]
    if options["copy_to"] is not None:
        not_copied = (
            f", {summary['not_copied']:,} could not be: changed, gone, or inside of another file"
            if summary["not_copied"]
            else ""
        )
        lines.append(f"{summary['copied']:,} copied to {options['copy_to']}{not_copied}")
    if options["output_table"] is not None:
        lines.append(options["output_table"])
    shards = [
        f"{name}-*{FORMATS[format_].suffix(options['gzip'])}"
        for format_ in options["output_format"]
        for name in (layout.LABELS, layout.FAILURES)
    ]
    mistakes = [] if options["truth"] is None else [layout.MISTAKES]
    review = layout.REVIEWS if summary.get("review") else ()
    corrected = [] if options["corrections"] is None else [layout.CORRECTIONS]
    names = (*shards, *mistakes, *review, *corrected, layout.SUMMARY)
    lines += [storage.join(output, name) for name in names]
    return "\n".join(lines)
