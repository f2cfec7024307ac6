"""Checks everything that can be wrong with a label run, but for its model."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence

import numpy as np

from pipeline import console, storage
from pipeline.config.label_options import LabelConfig
from pipeline.errors import InputError, OutputError, UsageError
from pipeline.formats import bigquery
from pipeline.formats.registry import table_suffixes
from pipeline.images.loading import decode_or_fail, done_within
from pipeline.inputs import find, folders
from pipeline.inputs.embedded import load_embedded
from pipeline.inputs.kinds import Input
from pipeline.inputs.truth import PARENT
from pipeline.inputs.truth_table import identify_truth
from pipeline.label.elsewhere import refuse_local
from pipeline.label.runs import Checked, Run
from pipeline.limits import Limits
from pipeline.models import devices
from pipeline.models.decoding import pixel_decoder_for
from pipeline.models.devices import Execution
from pipeline.models.scaling import TRIED_IMAGES
from pipeline.models.spec import ModelSpec
from pipeline.outputs import layout
from pipeline.records import DecodedImage
from pipeline.runners.options import beam_options, runs_here

# For the first images of a store; a server that is slower has enough of them in the run.
_SECONDS_TO_DECODE = 5.0


def validate(config: LabelConfig, keep_output: bool = True) -> Checked:
    """Prove, as cheaply as possible, that the run can work; its model is not looked at.

    Args:
      config: the command line.
      keep_output: whether the output folder stays if this creates it.

    Raises:
      UsageError: the run cannot work; the message says why and what to do.
    """
    refuse_local(config)
    # For buckets that need credentials or a project.
    storage.configure(beam_options(config.all_beam_args))
    inputs = [
        find.identify(
            given,
            config.uri_column,
            config.carry,
            exclude=config.exclude,
            output=config.output,
            beside=config.input,
            naming=config.naming,
        )
        for given in config.input
    ]
    find.require_listing(inputs, config.exclude)
    for source in inputs:
        find.require_images(source)
    if config.carry and not any(source.kind.has_columns for source in inputs):
        raise InputError(
            "no input has columns",
            subject="carry",
            remedy=f"give {table_suffixes()} files, or bigquery: queries",
        )
    if config.target_precision is not None and config.truth is None:
        raise UsageError(
            "the truth of the images is needed for it",
            subject="target_precision",
            given=config.target_precision,
            remedy="give {truth}",
        )
    truth = None
    if config.truth not in (None, PARENT):
        truth = identify_truth(config.truth, config.uri_column, config.truth_column, config.naming)
        if (truth.uri_column, truth.truth_column) != (config.uri_column, config.truth_column):
            console.say(
                f"truth: of {config.truth}, the column {truth.uri_column!r} names the images, and "
                f"{truth.truth_column!r} their classes"
            )
    execution = Execution(config.precision, config.xla, config.require_gpu)
    if runs_here(config.beam_args):
        devices.require_device(execution)
    if config.output_table is not None:
        bigquery.check_table(config.output_table, config.carry)
    if config.copy_to is not None:
        for source in inputs:
            if folders.is_within(storage.absolute(config.copy_to), source):
                raise OutputError(
                    f"is in the input {source.given}, where the next run would label the copies",
                    subject="copy_to",
                    given=config.copy_to,
                    remedy="give a folder elsewhere",
                )
        layout.prepare(config.copy_to, keep_output, "copy_to")
    return Checked(inputs, truth, execution, layout.prepare(config.output, keep_output))


def several_labels(run: Run) -> str:
    """Say of a model that gives an image several labels that it does; of others, nothing."""
    if not run.spec.is_multi_label:
        return ""
    return (
        f"; an image gets several labels, those with a score of {run.thresholds.others:g} or more "
        f"(--threshold), at most {run.config.top_k} (--top_k)"
    )


def first_pixels(inputs: Sequence[Input], spec: ModelSpec, limits: Limits) -> np.ndarray:
    """Decode the first images of the inputs, where a model has to be tried on some.

    Args:
      inputs: of the run.
      spec: of the model; if its scale is known, none are needed.
      limits: for reading and decoding.

    Returns:
      Uint8 ``[N, height, width, 3]``, without those that fail or take long.
    """
    if spec.scale_source:
        return np.empty((0, spec.height, spec.width, 3), np.uint8)
    found = itertools.chain.from_iterable(map(find.list_images, inputs))
    usable = (ref for ref in find.only_images(found) if ref.problem is None)
    refs = list(load_embedded(itertools.islice(usable, TRIED_IMAGES)))
    decode = pixel_decoder_for(spec, limits)
    decode_one = functools.partial(decode_or_fail, decode=decode, run_id="")
    results = done_within(_SECONDS_TO_DECODE, decode_one, refs)
    pixels = [image.pixels for image in results if isinstance(image, DecodedImage)]
    return np.array(pixels, np.uint8).reshape(-1, spec.height, spec.width, 3)
