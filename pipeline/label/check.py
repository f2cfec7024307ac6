"""The check job: finds out whether a label run would work, and what it would take. Leaves nothing.

It does what a run does once, and on a sample what a run does with every image. What Beam itself
takes, it measures by a run on a single image.
"""

from __future__ import annotations

import os
import resource
import statistics
import sys
import time
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

from pipeline import console
from pipeline.config.label_options import LabelConfig
from pipeline.images.loading import READ_THREADS, read_ahead
from pipeline.inputs import first, passed_over
from pipeline.label import correcting, decisions, lock, runs, trial
from pipeline.label.costs import per_million
from pipeline.label.runs import Plan
from pipeline.label.trial import SAMPLE_SIZE, Counted, Sampled
from pipeline.label.truth_check import look_ahead
from pipeline.label.validation import first_pixels, several_labels, validate
from pipeline.models.probing import probe_classifier
from pipeline.models.scale_trial import settle_scale
from pipeline.models.spec import ModelSpec
from pipeline.outputs import disk
from pipeline.progress import in_words
from pipeline.runners.options import new_pipeline, runs_here, runs_in_one_process

# Beam's local runner keeps all names and rows until the end, in several stages: 10,000 images took
# 57 MB more than 1,000, with rows of 660 bytes.
_TIMES_IN_MEMORY = 10

# Bytes of the report and the summary, at most.
_BESIDE_ROWS = 2_000_000

# How many failed images are listed by name.
_NAMES = 10


def run(config: LabelConfig) -> int:
    """Check whether a label job would work, and print what it would take.

    Returns:
      0, or 1 if more of the sample failed than ``max_failure_ratio`` allows.

    Raises:
      UsageError: the job would not work.
      RunError: the model fails on the images.
    """
    startup = _age()
    started = time.perf_counter()
    new_pipeline(config.all_beam_args)
    checked = validate(config, keep_output=False)
    lock.refuse_held(checked.output)
    spec = decisions.prepare(config, probe_classifier(config.model, config.stated))
    plan = runs.plan(config, checked, spec, datetime.now(timezone.utc))
    spec = settle_scale(spec, first_pixels(plan.run.listed, spec, config.limits))
    plan = plan.with_spec(spec)
    startup += time.perf_counter() - started
    print(f"model    {spec.input_words}, {len(spec.labels)} classes{several_labels(plan.run)}")
    print(f"         takes {spec.scale_words}, and returns {spec.returns}")
    is_done = trial.done_before(plan)
    print(f"output   {_standing(plan, is_done is not None)}")
    correcting.prepare(plan.run)
    for line in look_ahead(plan.run):
        print(console.printable(f"truth    {line.removeprefix('truth: ')}"))
    if config.limit is not None and not config.incremental:
        limited = first.describe(plan.run.inputs, config.limit)
        if limited:
            print(f"limit    {limited.removeprefix('limited to ')}")
    counted = trial.count(
        plan.run.listed,
        is_done=is_done,
        limit=config.limit if config.incremental else None,
        ask_for_versions=config.incremental,
    )
    sampled = trial.label_sample(counted, spec, config, checked.execution)
    if sampled.data is not None and runs_here(config.beam_args):
        startup += trial.try_out(plan, sampled.data)
    print("\n".join(describe(counted, sampled, config, spec, startup, plan.run.folder)))
    room = disk.free(plan.run.folder)
    need = _most_on_disk(_size_of_rows(counted, sampled), config)
    if room is not None and need > room:
        console.say(
            f"error: the disk of {plan.run.folder} has {disk.in_words(room)} free; the run needs "
            f"about {disk.in_words(need)}"
        )
        return 1
    too_many = config.too_many_failed(len(sampled.failed), len(counted.sample), counted.files)
    if too_many is not None:
        console.say(f"error: {too_many}")
        return 1
    return 0


def _standing(plan: Plan, is_known: bool) -> str:
    """Say what the run would do with its output.

    Args:
      plan: of the run.
      is_known: whether it is known which images have been done before.
    """
    words = f"{plan.run.folder}: would "
    if plan.note is not None:
        words += f"go on with the run of {plan.note['started_at']}"
    else:
        words += "begin a new run"
    if plan.unwanted:
        words += f", once the results in {', '.join(plan.unwanted)} are deleted"
    if not is_known:
        words += "; what has been labeled before is not taken off the figures below"
    return console.printable(words)


def describe(
    counted: Counted,
    sampled: Sampled,
    config: LabelConfig,
    spec: ModelSpec,
    startup: float,
    folder: str,
) -> Iterator[str]:
    """Yield the lines for the console.

    Args:
      counted: what the inputs hold.
      sampled: what became of the sample.
      config: the command line.
      spec: the model.
      startup: seconds until the first images are labeled.
      folder: gets the results.
    """
    least = "" if counted.complete else "at least "
    sizes = sampled.sizes
    size, about = counted.size, ""
    if counted.sized < counted.files and sizes:
        about = "about "
        size += round(statistics.mean(sizes) * (counted.files - counted.sized))
    new = "new " if counted.done else ""
    yield f"inputs   {least}{counted.files:,} {new}images, {about}{disk.in_words(size)}"
    if counted.done:
        yield f"         {least}{counted.done:,} more have been done before"
    others = passed_over.in_words(counted.passed_over.to_json())
    if others:
        yield f"         passed over: {least}{others}"
    if not counted.files:
        return
    reasons = Counter(failure.reason for failure in sampled.failed).most_common()
    words = ", ".join(f"{count:,} {reason}" for reason, count in reasons)
    yield (
        f"sample   {len(counted.sample)} images: {len(sampled.labeled)} labeled, "
        f"{len(sampled.failed)} failed{words and f' ({words})'}"
    )
    for failure in sampled.failed[:_NAMES]:
        yield console.printable(f"         {failure.image}: {failure.reason}: {failure.message}")
    if len(sampled.failed) > _NAMES:
        yield f"         and {len(sampled.failed) - _NAMES} more"
    if not sampled.labeled:
        return
    stages = sampled.stages
    yield (
        f"image    {stages.read * 1000:.1f} ms reading, {stages.decode * 1000:.1f} ms of a core "
        f"decoding, {stages.predict * 1000:.1f} ms predicting"
    )
    each, why = seconds_each(stages.read, sampled.overlapped)
    seconds = startup + counted.files * each
    machine = "this machine" if runs_in_one_process(config.beam_args) else "one worker like this"
    yield (
        f"time     {least}{in_words(seconds)} on {machine}: {in_words(startup)} to start, then "
        f"{1 / each:.1f} images/s"
    )
    yield f"         {why}"
    if not runs_in_one_process(config.beam_args):
        yield "         with N workers, 1/N of that, plus the time until they have started"
    rows = _size_of_rows(counted, sampled)
    now, more = _peak(), _held_ahead(spec, config)
    if runs_here(config.beam_args):
        more += round(rows * _TIMES_IN_MEMORY)
    in_run = disk.in_words(now + more)
    yield f"memory   {disk.in_words(now)} at its peak here, {least}about {in_run} in the run"
    yield f"results  {least}about {disk.in_words(rows)}"
    room, need = disk.free(folder), _most_on_disk(rows, config)
    if room is not None:
        yield f"disk     {least}about {disk.in_words(need)} needed, {disk.in_words(room)} free"
    if config.price_per_hour is not None:
        million = per_million(seconds, counted.files, config.price_per_hour)
        cost = seconds / 3600 * config.price_per_hour
        yield f"cost     {least}{cost:.4f}, at that rate {million:,.4f} for a million images"


def _size_of_rows(counted: Counted, sampled: Sampled) -> float:
    """Estimate the bytes of the rows as JSON; failures have shorter ones."""
    if not sampled.labeled:
        return 0.0
    return statistics.mean(len(row.to_json()) + 1 for row in sampled.labeled) * counted.files


def _most_on_disk(rows: float, config: LabelConfig) -> float:
    """Estimate the most that a run has on its disk: the rows so far, and those in each format.

    Beam writes the rows under temporary names first, and renames them.
    """
    return rows * (1 + len(config.output_format)) + _BESIDE_ROWS


def seconds_each(read: float, overlapped: float) -> tuple[float, str]:
    """Compute how long an image holds up those behind it, in seconds, and say why.

    Args:
      read: seconds that reading one image takes.
      overlapped: seconds of decoding and predicting, which share the cores, unless the model has a
        GPU.
    """
    at_a_time = READ_THREADS
    if read / at_a_time > overlapped:
        return read / at_a_time, f"if reading, {at_a_time} at a time, takes the longest, as here"
    return overlapped, (
        "if decoding and predicting together take the longest, as here; "
        f"{at_a_time} images are read at a time"
    )


def _held_ahead(spec: ModelSpec, config: LabelConfig) -> int:
    """Compute the bytes of pixels that the run holds ahead of the model, and the check not."""
    ahead = read_ahead(config.batch_size) - min(SAMPLE_SIZE, config.batch_size)
    return ahead * spec.height * spec.width * 3


def _age() -> float:
    """Measure the seconds since this process began, most of which is importing.

    Where the system does not tell, take its CPU time, as importing mostly computes.
    """
    try:
        began = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    except OSError:
        return time.process_time()
    return time.clock_gettime(time.CLOCK_BOOTTIME) - began / os.sysconf("SC_CLK_TCK")


def _peak() -> int:
    """Measure the most memory that this process has had, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
