"""Measures what the check job reports: counts images, labels a sample, runs on a single image."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, cast

from pipeline import storage
from pipeline.config.label_options import LabelConfig
from pipeline.formats.registry import suffix_of
from pipeline.images.loading import Decode, decode_or_fail, in_threads, meanwhile, read_image
from pipeline.inputs.embedded import load_embedded
from pipeline.inputs.find import list_images
from pipeline.inputs.kinds import Input
from pipeline.inputs.passed_over import PassedOver, PassedOverTally
from pipeline.inputs.single import IMAGE
from pipeline.label.build import build
from pipeline.label.entries import Reader, Seen, are_kept, bucket_of
from pipeline.label.resume import rows_in
from pipeline.label.runs import Plan
from pipeline.limits import Limits
from pipeline.models.answers import label_image
from pipeline.models.decoding import decoder_for
from pipeline.models.devices import Execution
from pipeline.models.handler import handler_for
from pipeline.models.spec import ModelSpec
from pipeline.records import DecodedImage, Failure, ImageRef, Labeled, StageSeconds
from pipeline.redaction import name_of
from pipeline.runners.options import new_pipeline
from pipeline.runners.running import run_pipeline
from pipeline.tally import hash_of

SAMPLE_SIZE = 64
SECONDS_TO_COUNT = 20.0

# Batches are decoded and predicted for about this long; the first one takes longer.
_SECONDS_OF_BATCHES = 2.0

# Bytes of files that stay in memory, to be decoded again with each batch.
_KEPT = 2**26


class Counted(NamedTuple):
    """What the inputs hold.

    Attributes:
      files: number of images; an image that is named twice counts twice.
      sized: number of images of known size.
      size: bytes of the images of known size.
      complete: whether the listing reached its end.
      sample: some of the images, each as likely as any other.
      passed_over: what is not taken for an image.
      done: number of other images, which have been done before.
    """

    files: int
    sized: int
    size: int
    complete: bool
    sample: Sequence[ImageRef]
    passed_over: PassedOverTally
    done: int = 0


class Sampled(NamedTuple):
    """What became of the sample.

    Attributes:
      labeled: the rows of the images that were labeled.
      failed: the rows of those that were not.
      sizes: bytes of each image that could be read.
      stages: seconds per image.
      overlapped: seconds per image when images are decoded while others are predicted.
      data: the file of an image that could be decoded, if there is one.
    """

    labeled: Sequence[Labeled]
    failed: Sequence[Failure]
    sizes: Sequence[int]
    stages: StageSeconds = StageSeconds()
    overlapped: float = 0.0
    data: bytes | None = None


IsDone = Callable[[ImageRef], bool]


def done_before(plan: Plan, seconds: float = SECONDS_TO_COUNT) -> IsDone | None:
    """Read what earlier runs, and earlier attempts of this one, have done.

    Args:
      plan: of the run.
      seconds: time after which the reading stops.

    Returns:
      What tells whether an image has been done; None if there is too much to read.

    Raises:
      RunError: a file of rows is damaged.
    """
    deadline = time.monotonic() + seconds
    files = () if plan.run.ledger is None else plan.run.ledger.files
    if not are_kept(files):
        return None
    ledger = Reader(files)

    def _brief(seen: Seen) -> tuple[str, str, bool]:
        return seen.run_id, seen.version, seen.holds(frozenset(plan.same_versions))

    latest: dict[int, tuple[str, str, bool]] = {}
    attempts: set[tuple[int, str]] = set()
    for globs, whole in ((plan.run.earlier_runs, False), (plan.attempts, True)):
        for path in itertools.chain.from_iterable(map(_matching, globs)):
            rows = rows_in(path, frozenset(plan.same_versions), whole=False)
            for image, brief in rows:
                row = _brief(cast(Seen, brief))
                key = hash_of(image)
                if not whole:
                    latest[key] = max(latest.get(key, row), row)
                elif row[2]:
                    attempts.add((key, row[1]))
                if time.monotonic() > deadline:
                    return None

    def is_done(ref: ImageRef) -> bool:
        name = name_of(ref.uri, ref.naming)
        key = hash_of(name)
        if (key, ref.version) in attempts:
            return True
        rows = [latest[key]] if key in latest else []
        for _, seen in ledger.look_up(bucket_of(name), {name: [ref.version]}):
            rows += map(_brief, seen)
        _, version, for_good = max(rows, default=("", None, False))
        return version == ref.version and for_good

    return is_done


def _matching(glob: str) -> list[str]:
    folder, name = storage.split(glob)
    return [path for path in storage.find(folder, name) if suffix_of(path)]


def count(
    found: Sequence[Input],
    seconds: float = SECONDS_TO_COUNT,
    is_done: IsDone | None = None,
    limit: int | None = None,
    ask_for_versions: bool = False,
) -> Counted:
    """List the inputs, and draw a sample of the images.

    Args:
      found: the inputs.
      seconds: time after which the listing stops.
      is_done: tells images that need not be done; they are counted apart.
      limit: how many of the others are wanted.
      ask_for_versions: see ``list_images``.

    Raises:
      InputError: the listing failed.
    """
    deadline = time.monotonic() + seconds
    draw = random.Random(0)
    files = sized = total = done = 0
    complete = True
    sample: list[ImageRef] = []
    passed_over = PassedOverTally()
    listed = (list_images(source, ask_for_versions) for source in found)
    for ref in itertools.chain.from_iterable(listed):
        if time.monotonic() > deadline and files + done:
            complete = False
            break
        if isinstance(ref, PassedOver):
            passed_over.add(ref)
            continue
        if is_done is not None and is_done(ref):
            done += 1
            continue
        if files == limit:
            continue  # what is done is counted all the same
        if len(sample) < SAMPLE_SIZE:
            sample.append(ref)
        elif (place := draw.randint(0, files)) < SAMPLE_SIZE:
            sample[place] = ref
        files += 1
        size = None if _is_record(ref) else storage.size_in(ref.version)
        if size is not None:
            sized, total = sized + 1, total + size
    return Counted(files, sized, total, complete, sample, passed_over, done)


def _is_record(ref: ImageRef) -> bool:
    """Tell whether an image is in a TFRecord file, and its version is that of the file."""
    return ref.place is not None and not ref.place.content


def label_sample(
    counted: Counted, spec: ModelSpec, config: LabelConfig, execution: Execution
) -> Sampled:
    """Read, decode and label the sample as the run would, but all at once.

    Raises:
      ModelError: the model cannot be loaded, or cannot run as ``execution`` says.
      PredictionError: the model fails on all images.
      InputError: a file with images inside cannot be read.
    """
    handler = handler_for(spec, config.top_k, config.batch_size, execution)
    limits = config.limits
    decode = decoder_for(spec, limits)
    sizes: list[int] = []
    kept: list[ImageRef] = []
    results = in_threads(
        functools.partial(
            decode_or_fail,
            decode=functools.partial(
                _read_and_decode, decode=decode, limits=limits, sizes=sizes, kept=kept
            ),
            run_id="",
        ),
        list(load_embedded(counted.sample)),
    )
    failed = [result for result in results if isinstance(result, Failure)]
    decoded = [result for result in results if isinstance(result, DecodedImage)]
    if not decoded:
        return Sampled([], failed, sizes)
    model = handler.load_model()
    # Filled up to the run's batch size, which may be larger than the sample.
    images = max(len(decoded), min(config.batch_size, counted.files))
    pixels = [image.pixels for image in itertools.islice(itertools.cycle(decoded), images)]
    predicting: list[float] = []
    overlapped: list[float] = []
    while not overlapped or (sum(overlapped) < _SECONDS_OF_BATCHES and len(overlapped) < 10):
        started = time.perf_counter()
        with meanwhile(decode, itertools.islice(itertools.cycle(kept), images)):
            answers = [
                answer
                for at in range(0, images, config.batch_size)
                for answer in handler.run_inference(pixels[at : at + config.batch_size], model)
            ]
            predicting.append(time.perf_counter() - started)
        overlapped.append(time.perf_counter() - started)
    rows = [
        label_image(image.info, answer, spec=spec, run_id="2026-01-01T00-00-00Z-123456")
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
    """Measure the seconds that a run takes besides its images, with a run on one image.

    Args:
      plan: the run.
      data: an image's file.

    Raises:
      RunError: the run failed.
    """
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "image")
        path.write_bytes(data)
        only = Input(IMAGE, str(path), str(path))
        # Nothing may be written outside the folder.
        config = dataclasses.replace(plan.run.config, copy_to=None, output_table=None, truth=None)
        run = dataclasses.replace(
            plan.run,
            config=config,
            inputs=[only],
            truth=None,
            folder=folder,
            attempts=(),
            earlier_runs=(),
            ledger=None,
        )
        pipeline = new_pipeline(run.config.all_beam_args)
        build(pipeline, run, run.started)
        run_pipeline(pipeline)
    return time.perf_counter() - started


def _read_and_decode(
    ref: ImageRef,
    *,
    decode: Decode,
    limits: Limits,
    sizes: list[int],
    kept: list[ImageRef],
) -> DecodedImage:
    """Decode as the run does, note the size, and keep the file if there is room for it."""
    started = time.perf_counter()
    data, ref = read_image(ref, limits)
    read = time.perf_counter() - started
    sizes.append(len(data))
    ref = ref._replace(data=data)
    info, pixels = decode(ref)
    if not kept or sum(len(other.data or b"") for other in kept) + len(data) <= _KEPT:
        kept.append(ref)
    return DecodedImage(info._replace(seconds=info.seconds._replace(read=read)), pixels)
