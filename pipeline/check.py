"""The check job: would a label run work, and what would it take? Nothing stays of it.

What a run would do once, it does, and what a run would do with every image, with a sample. What the
run itself would take, Beam's part, it measures by a run on a single image.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import os
import random
import resource
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import NamedTuple

from pipeline import claims, console, devices, inputs, label, runs, storage, tfrecords, transforms
from pipeline.costs import per_million
from pipeline.inputs import Input
from pipeline.limits import Limits
from pipeline.model import ModelSpec, inspect
from pipeline.options import LabelConfig, limits_of
from pipeline.progress import in_words
from pipeline.records import DecodedImage, Failure, ImageRef, Labeled, StageSeconds
from pipeline.running import new_pipeline, run_pipeline, runs_here, runs_in_one_process
from pipeline.runs import Plan

SAMPLE_SIZE = 64
SECONDS_TO_COUNT = 20.0

# Names of failed images that are printed.
_NAMES = 10

# Batches are decoded and predicted for about so long; the first of them takes longer.
_SECONDS_OF_BATCHES = 2.0

# Bytes of files that are kept in memory to be decoded again with each batch.
_KEPT = 2**26


class Counted(NamedTuple):
    """What is behind the inputs.

    ``files``, as often as they are named; ``size`` in bytes of the ``sized`` ones among them;
    ``complete``: whether that is all. ``sample``: some of them, each as likely as any other.
    """

    files: int
    sized: int
    size: int
    complete: bool
    sample: Sequence[ImageRef]


class Sampled(NamedTuple):
    """What became of the sample.

    ``sizes``: in bytes, of the images that could be read. ``stages``: seconds an image.
    ``overlapped``: those of decoding some images while others are predicted. ``data``: the file of
    one that could be decoded, if there is one.
    """

    labeled: Sequence[Labeled]
    failed: Sequence[Failure]
    sizes: Sequence[int]
    stages: StageSeconds = StageSeconds()
    overlapped: float = 0.0
    data: bytes | None = None


def run(config: LabelConfig) -> int:
    """Check whether a label job would work, and print what it would take.

    Returns:
      0, or 1 if more of the sample failed than ``--max_failure_ratio`` allows.

    Raises:
      UsageError: it would not work.
      RunError: the model fails on the images.
    """
    startup = _age()
    started = time.perf_counter()
    new_pipeline(config.beam_args)
    found, execution, output = label.check(config, keep_output=False)
    claims.look(output)
    spec = inspect(config.model, config.labels_file, config.resample, config.signature)
    plan = runs.plan(config, found, spec, execution, output, datetime.now(timezone.utc))
    startup += time.perf_counter() - started
    print(f"model    {spec.height}×{spec.width} pixels, {len(spec.labels)} classes")
    print(f"output   {_standing(plan)}")
    counted = count(found)
    sampled = label_sample(counted, spec, config, execution)
    if sampled.data is not None and runs_here(config.beam_args):
        startup += try_out(plan, sampled.data)
    print("\n".join(describe(counted, sampled, config, spec, startup)))
    ratio = len(sampled.failed) / max(len(counted.sample), 1)
    if ratio > config.max_failure_ratio:
        console.say(
            f"error: {ratio:.1%} of the sample failed, more than --max_failure_ratio "
            f"{config.max_failure_ratio} allows"
        )
        return 1
    return 0


def _standing(plan: Plan) -> str:
    """What the run would do with its output."""
    words = f"{plan.run.folder}: would "
    if plan.note is not None:
        words += f"go on with the run of {plan.note['started_at']}"
    else:
        words += "begin"
    if plan.unwanted:
        words += f", once the results in {', '.join(plan.unwanted)} are deleted"
    if plan.note is not None or plan.run.earlier_runs:
        words += "; what has been labeled before is not taken off the figures below"
    return console.printable(words)


def count(found: Sequence[Input], seconds: float = SECONDS_TO_COUNT) -> Counted:
    """List the inputs for as long as that, and draw a sample of what is listed.

    Raises:
      InputError: the listing failed.
    """
    deadline = time.monotonic() + seconds
    draw = random.Random(0)
    files = sized = total = 0
    complete = True
    sample: list[ImageRef] = []
    for ref in _records(itertools.chain.from_iterable(map(inputs.list_images, found))):
        if len(sample) < SAMPLE_SIZE:
            sample.append(ref)
        elif (place := draw.randint(0, files)) < SAMPLE_SIZE:
            sample[place] = ref
        files += 1
        size = storage.size_in(ref.version) if ref.place is None else None
        if size is not None:
            sized, total = sized + 1, total + size
        if time.monotonic() > deadline:
            complete = False
            break
    return Counted(files, sized, total, complete, sample)


def _records(refs: Iterator[ImageRef]) -> Iterator[ImageRef]:
    for ref in refs:
        yield from tfrecords.list_records(ref)


def label_sample(
    counted: Counted, spec: ModelSpec, config: LabelConfig, execution: devices.Execution
) -> Sampled:
    """Read, decode and label the sample as the run would, but in one go.

    Raises:
      ModelError: the model cannot be loaded, or not be executed so.
      PredictionError: it fails on all images.
      InputError: a TFRecord file cannot be read.
    """
    handler = transforms.handler_for(spec, config.top_k, config.batch_size, execution)
    limits = limits_of(config)
    decode = transforms.decoder_for(spec, limits)
    sizes: list[int] = []
    kept: list[ImageRef] = []
    results = transforms.in_threads(
        functools.partial(
            transforms.decode_or_fail,
            decode=functools.partial(
                _read_and_decode, decode=decode, limits=limits, sizes=sizes, kept=kept
            ),
            run_id="",
        ),
        _loaded(counted),
    )
    failed = [result for result in results if isinstance(result, Failure)]
    decoded = [result for result in results if isinstance(result, DecodedImage)]
    if not decoded:
        return Sampled([], failed, sizes)
    model = handler.load_model()
    # Filled up to what the run has in a batch, which may be more than the sample is.
    images = max(len(decoded), min(config.batch_size, counted.files))
    pixels = [image.pixels for image in itertools.islice(itertools.cycle(decoded), images)]
    predicting: list[float] = []
    overlapped: list[float] = []
    while not overlapped or (sum(overlapped) < _SECONDS_OF_BATCHES and len(overlapped) < 10):
        started = time.perf_counter()
        with transforms.meanwhile(decode, itertools.islice(itertools.cycle(kept), images)):
            answers = [
                answer
                for at in range(0, images, config.batch_size)
                for answer in handler.run_inference(pixels[at : at + config.batch_size], model)
            ]
            predicting.append(time.perf_counter() - started)
        overlapped.append(time.perf_counter() - started)
    rows = [
        transforms.label_image(image.info, answer, spec=spec, run_id="2026-01-01T00-00-00Z-123456")
        for image, answer in zip(decoded, answers, strict=False)
    ]
    labeled = [row for row in rows if isinstance(row, Labeled)]
    failed += [row for row in rows if isinstance(row, Failure)]
    stages = StageSeconds(
        read=statistics.mean(image.info.seconds.read for image in decoded),
        decode=statistics.mean(image.info.seconds.decode for image in decoded),
        predict=statistics.median(predicting[1:] or predicting) / images,
    )
    each = statistics.median(overlapped[1:] or overlapped) / images
    return Sampled(labeled, failed, sizes, stages, each, kept[0].data)


def try_out(plan: Plan, data: bytes) -> float:
    """Seconds that a run takes besides its images: run it on a single one, in a folder that goes.

    Args:
      plan: of the run.
      data: an image's file.

    Raises:
      RunError: the run failed.
    """
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "image")
        path.write_bytes(data)
        only = Input(inputs.InputKind.URI, str(path), str(path))
        run = dataclasses.replace(
            plan.run, inputs=[only], folder=folder, attempts=(), earlier_runs=()
        )
        pipeline = new_pipeline(run.config.beam_args)
        label.build(pipeline, run, run.started)
        run_pipeline(pipeline)
    return time.perf_counter() - started


def _loaded(counted: Counted) -> list[ImageRef]:
    """The sample, with the bytes of what is in TFRecord files."""
    refs = [ref for ref in counted.sample if ref.place is None]
    records = sorted((ref for ref in counted.sample if ref.place), key=lambda ref: ref.place or ())
    for file, group in itertools.groupby(records, lambda ref: (ref.place or ("",))[0]):
        refs.extend(tfrecords.load_records(file, group))
    return refs


def _read_and_decode(
    ref: ImageRef,
    *,
    decode: transforms.Decode,
    limits: Limits,
    sizes: list[int],
    kept: list[ImageRef],
) -> DecodedImage:
    """As the run does it, and the size noted, and the file kept if there is room."""
    started = time.perf_counter()
    data = transforms.read_image(ref, limits)
    read = time.perf_counter() - started
    sizes.append(len(data))
    ref = ref._replace(data=data)
    info, pixels = decode(ref)
    if not kept or sum(len(other.data or b"") for other in kept) + len(data) <= _KEPT:
        kept.append(ref)
    return DecodedImage(info._replace(seconds=info.seconds._replace(read=read)), pixels)


def describe(
    counted: Counted, sampled: Sampled, config: LabelConfig, spec: ModelSpec, startup: float
) -> Iterator[str]:
    """What the console says, line by line.

    Args:
      counted: what is behind the inputs.
      sampled: what became of the sample.
      config: the command line.
      spec: of the model.
      startup: seconds until the first images are labeled.
    """
    least = "" if counted.complete else "at least "
    sizes = sampled.sizes
    size, about = counted.size, ""
    if counted.sized < counted.files and sizes:
        about = "about "
        size += round(statistics.mean(sizes) * (counted.files - counted.sized))
    yield f"inputs   {least}{counted.files:,} images, {about}{_bytes(size)}"
    reasons = Counter(failure.reason for failure in sampled.failed).most_common()
    words = "".join(f", {count:,} {reason}" for reason, count in reasons)
    yield (
        f"sample   {len(counted.sample)} images: {len(sampled.labeled)} labeled, "
        f"{len(sampled.failed)} failed{words}"
    )
    for failure in sampled.failed[:_NAMES]:
        yield console.printable(f"         {failure.image}: {failure.reason}: {failure.message}")
    if len(sampled.failed) > _NAMES:
        yield f"         and {len(sampled.failed) - _NAMES} more"
    if not sampled.labeled:
        return
    stages = sampled.stages
    yield (
        f"an image {stages.read * 1000:.1f} ms reading, {stages.decode * 1000:.1f} ms of a core "
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
        yield "         with N workers, an N-th of it, and the time until they are there"
    now, more = _peak(), _held(spec, config)
    yield f"memory   {_bytes(now)} at its peak here, about {_bytes(now + more)} in the run"
    rows = statistics.mean(len(row.to_json()) + 1 for row in sampled.labeled)
    yield f"results  {least}about {_bytes(round(rows * counted.files))}"
    if config.price_per_hour is not None:
        million = per_million(seconds, counted.files, config.price_per_hour)
        cost = seconds / 3600 * config.price_per_hour
        yield f"cost     {least}{cost:.4f}, at that rate {million:,.4f} for a million images"


def seconds_each(read: float, overlapped: float) -> tuple[float, str]:
    """How long an image holds up those behind it, and in words why.

    Args:
      read: seconds that reading one takes.
      overlapped: of decoding and predicting, which share the cores, unless the model has a GPU.
    """
    at_a_time = transforms.READ_THREADS
    if read / at_a_time > overlapped:
        return (
            read / at_a_time,
            f"if reading, {at_a_time} at a time, takes the longest as it does here",
        )
    return overlapped, (
        "if decoding and predicting at once take the longest as they do here, and reading, "
        f"{at_a_time} at a time, goes on beside them"
    )


def _held(spec: ModelSpec, config: LabelConfig) -> int:
    """Bytes of the pixels that the run holds ahead of the model, and the check did not."""
    ahead = transforms.read_ahead(config.batch_size) - min(SAMPLE_SIZE, config.batch_size)
    return ahead * spec.height * spec.width * 3


def _age() -> float:
    """Seconds since this process began, all but importing where it has just begun.

    Where the system does not tell, the time that it computed, which importing mostly is.
    """
    try:
        began = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    except OSError:
        return time.process_time()
    return time.clock_gettime(time.CLOCK_BOOTTIME) - began / os.sysconf("SC_CLK_TCK")


def _peak() -> int:
    """The most memory that this process has had, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _bytes(count: float) -> str:
    """A number of bytes as people say it."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"
