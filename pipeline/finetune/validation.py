"""Proves, before any work, that a training can be done."""

from __future__ import annotations

import dataclasses
import json
from datetime import datetime, timezone

from pipeline import console, storage
from pipeline.config.finetune_options import FinetuneConfig
from pipeline.errors import OutputError, StoreError, UsageError
from pipeline.finetune import dataset, export
from pipeline.finetune.limit import some_of_each_class
from pipeline.finetune.networks import Head, WholeNetwork
from pipeline.finetune.survey import MIN_IMAGES_PER_CLASS, Survey, in_words, survey
from pipeline.inputs import find, passed_over
from pipeline.models.probing import probe_extractor
from pipeline.models.scale_trial import say_assumed
from pipeline.models.spec import ExtractorSpec
from pipeline.outputs import layout
from pipeline.runners.identity import new_run_id
from pipeline.runners.options import beam_options, new_pipeline


@dataclasses.dataclass(frozen=True)
class Run:
    """A run that has been checked and may begin. ``started``: UTC."""

    config: FinetuneConfig
    survey: Survey
    spec: ExtractorSpec
    output: str
    run_id: str
    started: datetime


def check(config: FinetuneConfig, keep_output: bool = True) -> Run:
    """Prove, as cheaply as possible, that the run can work; the output folder is made.

    Raises:
      UsageError: it cannot; the message says why and what to do.
    """
    started = datetime.now(timezone.utc)
    new_pipeline(config.all_beam_args)
    storage.configure(beam_options(config.all_beam_args))
    wants_split = config.split == "auto"
    inputs = [
        dataset.identify(
            given,
            config.uri_column,
            config.truth_column,
            wants_split,
            config.exclude,
            config.output,
            config.input,
            config.naming,
        )
        for given in config.input
    ]
    find.require_listing(inputs, config.exclude)
    found = survey(inputs, wants_split)
    images = sum(found.images.values())
    if config.limit is not None and config.limit < images:
        found = _limited(found, config.limit, wants_split)
        console.say(f"limited to {config.limit:,} of {images:,} images (--limit)")
    output = layout.prepare(config.output, keep_output)
    _refuse_results(output, config.if_exists)
    handle = "sample_features" if config.model == "sample" else config.model
    spec, classifies = probe_extractor(handle, config.stated)
    for line in in_words(found):
        console.say(line)
    if found.split:
        console.say("to split by checksums instead: --split=checksum")
    others = passed_over.in_words(found.passed_over.to_json())
    if others:
        console.say(f"passed over: {others}")
    if not spec.scale_source:
        say_assumed(spec)
    console.say(f"the model takes {spec.scale_words}")
    if classifies:
        console.say(
            f"warning: --model {config.model} looks like a classifier; it works, but a model's "
            "feature vector is a better base than its classes; to label with the classes that it "
            f"has: {console.program()} label --model {config.model} --input … --output …"
        )
    export.check(found.labels, spec)
    if config.unfreeze:
        WholeNetwork(spec, Head(spec.outputs, len(found.labels)))  # raises if it cannot be trained
    return Run(config, found, spec, output, new_run_id(started), started)


def _refuse_results(output: str, if_exists: str) -> None:
    """Refuse an output that has results, unless they are of a training and may be replaced.

    Raises:
      OutputError: it has.
    """
    try:
        if if_exists == "overwrite" and storage.find(output, layout.SUMMARY):
            with storage.open_file(storage.join(output, layout.SUMMARY)) as file:
                summary = json.loads(file.read())
            if "reload_difference" in summary and "started_at" in summary:
                return
    except (StoreError, ValueError, TypeError) as error:
        raise OutputError(f"cannot be read: {error}", subject="output", given=output) from error
    layout.refuse_results(output)


def _limited(found: Survey, limit: int, split: bool) -> Survey:
    """Survey only so many of the images.

    Raises:
      UsageError: they would be too few for the classes.
    """
    each = len(found.parts) if found.split else MIN_IMAGES_PER_CLASS
    least = each * len(found.labels)
    if limit < least:
        raise UsageError(
            f"is too small for {len(found.labels)} classes",
            subject="limit",
            given=limit,
            remedy=f"give {least} or more",
        )
    return survey(some_of_each_class(found.inputs, limit), split)
