"""The label job: check everything that can be wrong, run the pipeline, say how it went."""

from __future__ import annotations

import dataclasses
import json
import secrets
from collections import Counter
from datetime import datetime, timezone
from typing import Any

import apache_beam as beam
from apache_beam.io.filesystems import FileSystems
from apache_beam.pvalue import AsIter, AsSingleton

from pipeline import console, devices, inputs, outputs
from pipeline.costs import bottleneck, per_million
from pipeline.devices import Execution
from pipeline.model import ModelSpec, inspect
from pipeline.options import LabelConfig
from pipeline.records import Failure, Labeled
from pipeline.running import (
    beam_options,
    new_pipeline,
    run_pipeline,
    runs_here,
    runs_in_one_process,
    versions,
)
from pipeline.summary import CountRecords, Tally, reconcile
from pipeline.transforms import LabelImages


@dataclasses.dataclass(frozen=True)
class Run:
    """A run that has been checked and may begin. ``started``: UTC."""

    config: LabelConfig
    inputs: list[inputs.Input]
    spec: ModelSpec
    execution: Execution
    output: str
    run_id: str
    started: datetime


def run(config: LabelConfig) -> int:
    """Run the label job.

    Returns:
      0, or 1 if more images failed than ``--max_failure_ratio`` allows.

    Raises:
      UsageError: found before any image is read.
      RunError: the run failed.
    """
    pipeline = new_pipeline(config.beam_args)
    checked = check(config)
    console.say(
        f"labeling with {config.model}, {checked.spec.height}×{checked.spec.width} pixels, "
        f"{len(checked.spec.labels)} classes"
    )
    build(pipeline, checked)
    run_pipeline(pipeline)
    with FileSystems.open(FileSystems.join(checked.output, outputs.SUMMARY)) as file:
        summary = json.load(file)
    print(describe(summary, checked.output))
    if summary["failed"] / summary["found"] > config.max_failure_ratio:
        console.say(
            f"error: {summary['failed'] / summary['found']:.1%} of the images failed, more than "
            f"--max_failure_ratio {config.max_failure_ratio} allows; the results are kept"
        )
        return 1
    return 0


def check(config: LabelConfig) -> Run:
    """Prove, as cheaply as possible, that the run can work; the output folder is made.

    Raises:
      UsageError: it cannot; the message says why and what to do.
    """
    started = datetime.now(timezone.utc)
    FileSystems.set_options(
        beam_options(config.beam_args)
    )  # for buckets that need credentials or a project
    found = [inputs.understand(given) for given in config.input]
    execution = Execution(config.precision, config.xla, config.require_gpu)
    if runs_here(config.beam_args):
        devices.check(execution)
    output = outputs.prepare(config.output)
    spec = inspect(config.model, config.labels_file, config.resample, config.signature)
    run_id = f"{started:%Y-%m-%dT%H-%M-%SZ}-{secrets.token_hex(3)}"
    return Run(config, found, spec, execution, output, run_id, started)


def build(pipeline: beam.Pipeline, run: Run) -> None:
    """Wire the whole job into a pipeline."""
    refs = pipeline | "Find" >> inputs.FindImages(run.inputs)
    labeled, failures = refs | "LabelImages" >> LabelImages(
        run.spec,
        top_k=run.config.top_k,
        batch_size=run.config.batch_size,
        execution=run.execution,
        run_id=run.run_id,
    )
    label_files = (
        labeled
        | "LabelRows" >> beam.Map(Labeled.to_json).with_output_types(str)
        | "WriteLabels" >> outputs.WriteRows(run.output, outputs.LABELS)
    )
    failure_files = (
        failures
        | "FailureRows" >> beam.Map(Failure.to_json).with_output_types(str)
        | "WriteFailures" >> outputs.WriteRows(run.output, outputs.FAILURES)
    )
    # A side input is complete before its reader begins, so the summary comes after all rows.
    _ = (
        pipeline
        | "Run" >> beam.Create([run])
        | "Summarize"
        >> beam.Map(
            write_summary,
            found=AsSingleton(refs | "CountFound" >> beam.CombineGlobally(CountRecords())),
            labeled=AsSingleton(labeled | "CountLabeled" >> beam.CombineGlobally(CountRecords())),
            failed=AsSingleton(failures | "CountFailed" >> beam.CombineGlobally(CountRecords())),
            written=AsIter((label_files, failure_files) | beam.Flatten()),
        )
    )


def write_summary(run: Run, found: Tally, labeled: Tally, failed: Tally, written: Any) -> None:
    """Reconcile the counts, then write ``summary.json``: the run's last file.

    Args:
      run: what was run.
      found: of the images that the inputs listed.
      labeled: of the rows in ``labels-*``.
      failed: of the rows in ``failures-*``.
      written: paths of the shards; only waited for.

    Raises:
      ReconciliationError: what went in did not come out; there is no summary then.
    """
    del written
    reconcile(found, labeled, failed)
    summary = json.dumps(summarize(run, found, labeled, failed), indent=2)
    outputs.write_file(FileSystems.join(run.output, outputs.SUMMARY), summary.encode() + b"\n")


def summarize(run: Run, found: Tally, labeled: Tally, failed: Tally) -> dict[str, Any]:
    """The content of ``summary.json``; times in seconds.

    Those of the stages are averages over the labeled images: reading and predicting in wall time,
    decoding in CPU time.
    """
    finished = datetime.now(timezone.utc)
    seconds = (finished - run.started).total_seconds()
    return {
        "run_id": run.run_id,
        "found": found.images,
        "labeled": labeled.images,
        "failed": failed.images,
        "skipped": 0,
        "failure_reasons": _by_count(failed.reasons),
        "labels": _by_count(labeled.labels),
        "started_at": f"{run.started:%Y-%m-%dT%H:%M:%SZ}",
        "finished_at": f"{finished:%Y-%m-%dT%H:%M:%SZ}",
        "seconds": round(seconds, 3),
        "images_per_second": round(found.images / seconds, 2),
        "stage_seconds_per_image": {
            stage: round(total / max(labeled.images, 1), 6)
            for stage, total in labeled.seconds._asdict().items()
        },
        "bottleneck": (
            bottleneck(seconds, found.images, labeled.images, labeled.seconds)
            if runs_in_one_process(run.config.beam_args)
            else None
        ),
        "price_per_hour": run.config.price_per_hour,
        "cost_per_million_images": per_million(seconds, found.images, run.config.price_per_hour),
        "model": {
            "handle": run.spec.handle,
            "fingerprint": run.spec.fingerprint,
            "height": run.spec.height,
            "width": run.spec.width,
            "classes": len(run.spec.labels),
        },
        "options": dataclasses.asdict(run.config),
        "versions": versions(),
    }


def describe(summary: dict[str, Any], output: str) -> str:
    """What the console says at the end: counts and rate, the top failure reasons, the paths."""
    lines = [
        f"{summary['found']:,} found = {summary['labeled']:,} labeled + {summary['failed']:,} "
        f"failed in {summary['seconds']:.1f} s ({summary['images_per_second']:.1f} images/s)"
    ]
    if summary["failed"]:
        reasons = list(summary["failure_reasons"].items())[:5]
        lines.append("failures: " + ", ".join(f"{count:,} {reason}" for reason, count in reasons))
    for name in (f"{outputs.LABELS}-*.jsonl", f"{outputs.FAILURES}-*.jsonl", outputs.SUMMARY):
        lines.append(FileSystems.join(output, name))
    return "\n".join(lines)


def _by_count(counts: Counter[str]) -> dict[str, int]:
    """The most frequent first; of equal ones, in alphabetical order."""
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
