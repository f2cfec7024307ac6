"""What a job on Dataflow cannot have from this machine: files are refused, a model is staged."""

from __future__ import annotations

import dataclasses
import os

from apache_beam.options.pipeline_options import (
    GoogleCloudOptions,
    PipelineOptions,
    WorkerOptions,
)

from pipeline import console, storage
from pipeline.config.label_options import LabelConfig
from pipeline.errors import StoreError, UsageError
from pipeline.inputs.truth import PARENT
from pipeline.models import files, handles
from pipeline.models.spec import ModelSpec
from pipeline.models.staging import stage
from pipeline.runners import dataflow
from pipeline.runners.options import beam_options

# Arguments that name what workers read or write. The labels file and the model are read here.
_OF_WORKERS = ("input", "truth", "corrections", "output", "copy_to", "http_headers")


def refuse_local(config: LabelConfig) -> None:
    """Refuse files of this machine if the job runs on Dataflow.

    Raises:
      UsageError: an argument names one.
    """
    options = beam_options(config.beam_args)
    if not dataflow.is_chosen(options):
        return
    for name in _OF_WORKERS:
        given = getattr(config, name)
        for value in given if isinstance(given, tuple) else (given,):
            if value is not None and _is_local(value, options):
                raise UsageError(
                    "is on this machine, which the workers of Dataflow do not see",
                    subject=name,
                    given=value,
                    remedy="copy it to a bucket, and give its gs:// URI",
                )


def _is_local(value: str, options: PipelineOptions) -> bool:
    if value == "sample":  # a folder of the package, whose path is the same in the same image
        return not _is_in_image(options)
    return not (
        value == PARENT or value.lower().startswith("bigquery:") or storage.is_remote(value)
    )


def with_staged_model(spec: ModelSpec, config: LabelConfig) -> ModelSpec:
    """Copy a model into a bucket for the workers, if they could not read it, or each from a server.

    Args:
      spec: of the model.
      config: the command line.

    Returns:
      The same, with the place of the copy if there is one.

    Raises:
      UsageError: the model cannot be copied.
    """
    options = beam_options(config.beam_args)
    if not dataflow.is_chosen(options) or spec.handle in files.EMBEDDED:
        return spec
    is_hub = handles.is_hub(spec.handle)
    if not is_hub and (storage.is_remote(spec.handle) or _is_in_image(options)):
        return spec
    cloud = options.view_as(GoogleCloudOptions)
    folder = cloud.temp_location or cloud.staging_location
    try:
        staged = stage(files.resolve(spec.handle), spec.fingerprint, f"{folder}/models")
    except StoreError as error:
        raise UsageError(
            f"the model cannot be copied there for the workers: {error}",
            subject="temp_location",
            given=folder,
        ) from error
    console.say(f"the workers read the model from {staged}")
    return dataclasses.replace(spec, staged=staged)


def _is_in_image(options: PipelineOptions) -> bool:
    """Tell whether this process runs in the workers' image, as a flex template's launcher does.

    The image has its own name in its environment; see ``launch/Dockerfile``.
    """
    image = options.view_as(WorkerOptions).sdk_container_image
    return image is not None and image == os.environ.get("IMAGE")
