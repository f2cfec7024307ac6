"""Finds out whether a training could be done, and how long its features would take."""

from __future__ import annotations

import functools
import itertools
import random
import statistics
import time
from collections import Counter
from collections.abc import Sequence

from pipeline import console
from pipeline.config.finetune_options import FinetuneConfig
from pipeline.finetune.dataset import list_with_truth
from pipeline.finetune.validation import check
from pipeline.images.loading import decode_or_fail, in_threads
from pipeline.inputs.embedded import load_embedded
from pipeline.inputs.find import only_images
from pipeline.inputs.kinds import Input
from pipeline.models.decoding import pixel_decoder_for
from pipeline.models.handler import SavedModelHandler
from pipeline.models.loading import load_extractor
from pipeline.progress import in_words
from pipeline.records import DecodedImage, Failure, ImageRef

# Images that are tried.
SAMPLE_SIZE = 64

# How many failed images are listed by name.
_NAMES = 10


def run(config: FinetuneConfig) -> int:
    """Check whether a finetune job would work, and print what it would take.

    Returns:
      0, or 1 if more of the sample failed than ``max_failure_ratio`` allows.

    Raises:
      UsageError: the job would not work.
      RunError: the model fails on the images.
    """
    checked = check(config, keep_output=False)
    spec, images = checked.spec, sum(checked.survey.images.values())
    print(f"model    {spec.height}×{spec.width} pixels, {spec.outputs} features")
    print(f"output   {console.printable(checked.output)}: would begin a new run")
    print(f"inputs   {images:,} images of {len(checked.survey.labels)} classes")
    sample = _sample(checked.survey.inputs)
    decode = functools.partial(
        decode_or_fail, decode=pixel_decoder_for(spec, config.limits), run_id=""
    )
    started = time.perf_counter()
    results = in_threads(decode, list(load_embedded(sample)))
    decoding = (time.perf_counter() - started) / max(len(sample), 1)
    failed = [result for result in results if isinstance(result, Failure)]
    pixels = [result.pixels for result in results if isinstance(result, DecodedImage)]
    reasons = Counter(failure.reason for failure in failed).most_common()
    words = "".join(f", {count:,} {reason}" for reason, count in reasons)
    print(f"sample   {len(sample)} images: {len(pixels)} decoded, {len(failed)} failed{words}")
    for failure in failed[:_NAMES]:
        print(console.printable(f"         {failure.image}: {failure.reason}: {failure.message}"))
    if pixels:
        handler = SavedModelHandler(functools.partial(load_extractor, spec), SAMPLE_SIZE)
        model = handler.load_model()
        seconds = []
        for _ in range(3):
            started = time.perf_counter()
            list(handler.run_inference(pixels, model))
            seconds.append((time.perf_counter() - started) / len(pixels))
        each = decoding + statistics.median(seconds)
        print(
            f"time     {in_words(images * each)} on this machine for the features, unless they are "
            "in the cache; then the training"
        )
    too_many = config.too_many_failed(len(failed), len(sample), images)
    if too_many is not None:
        console.say(f"error: {too_many}")
        return 1
    return 0


def _sample(inputs: Sequence[Input]) -> list[ImageRef]:
    """Draw some of the images, each as likely as any other, and always the same ones."""
    draw = random.Random(0)
    sample: list[ImageRef] = []
    listed = only_images(itertools.chain.from_iterable(map(list_with_truth, inputs)))
    for number, ref in enumerate(listed):
        if len(sample) < SAMPLE_SIZE:
            sample.append(ref)
        elif (place := draw.randint(0, number)) < SAMPLE_SIZE:
            sample[place] = ref
    return sample
