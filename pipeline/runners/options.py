"""Beam's options, what they say of where a pipeline runs, and pipelines with them."""

from __future__ import annotations

import apache_beam as beam
from apache_beam.options.pipeline_options import (
    DirectOptions,
    GoogleCloudOptions,
    PipelineOptions,
    PortableOptions,
    StandardOptions,
)
from apache_beam.portability.api import beam_provision_api_pb2
from apache_beam.runners.job.utils import dict_to_struct
from apache_beam.runners.portability.fn_api_runner.fn_runner import (
    ExtendedProvisionInfo,
    FnApiRunner,
)
from apache_beam.runners.portability.portable_runner import PortableRunner

from pipeline import job_server
from pipeline.errors import UsageError

# Depending on the pipeline, Beam's DirectRunner may hand over to a runner that it downloads.
LOCAL_RUNNER = "apache_beam.runners.portability.fn_api_runner.FnApiRunner"


def beam_options(beam_args: tuple[str, ...]) -> PipelineOptions:
    """Read Beam's own options, with the local runner pinned."""
    options = PipelineOptions(list(beam_args))
    standard = options.view_as(StandardOptions)
    if standard.runner in (None, "DirectRunner", "direct"):
        standard.runner = LOCAL_RUNNER
    return options


def runs_here(beam_args: tuple[str, ...]) -> bool:
    """Tell whether the pipeline runs on this machine, and not on a cluster."""
    return beam_options(beam_args).view_as(StandardOptions).runner.endswith("FnApiRunner")


def runs_in_one_process(beam_args: tuple[str, ...]) -> bool:
    """Tell whether the pipeline runs in this process alone."""
    workers = beam_options(beam_args).view_as(DirectOptions).direct_num_workers
    return runs_here(beam_args) and workers == 1


def new_pipeline(beam_args: tuple[str, ...]) -> beam.Pipeline:
    """Make a pipeline without steps.

    Raises:
      UsageError: Beam refuses its options, such as a runner that does not exist or a missing flag;
        or no job server answers.
    """
    try:
        pipeline = beam.Pipeline(options=beam_options(beam_args))
    except (ValueError, ImportError) as error:
        raise UsageError(" ".join(str(error).split())) from error
    endpoint = pipeline.options.view_as(PortableOptions).job_endpoint
    if isinstance(pipeline.runner, PortableRunner) and endpoint not in (None, "", "embed"):
        job_server.options_of(endpoint)  # Beam itself would wait for minutes
    if isinstance(pipeline.runner, FnApiRunner):
        _bring_options_to_workers(pipeline)
    return pipeline


def _bring_options_to_workers(pipeline: beam.Pipeline) -> None:
    """Bring the options to workers in processes of their own, as all runners but this one do."""
    given = pipeline.options.get_all_options(drop_default=True)
    shown = {name: value for name, value in given.items() if isinstance(value, (str, bool, list))}
    info = beam_provision_api_pb2.ProvisionInfo(
        retrieval_token="unused-retrieval-token",  # as in the runner itself
        pipeline_options=dict_to_struct(shown),
    )
    pipeline.runner._provision_info = ExtendedProvisionInfo(info)  # type: ignore[attr-defined]


def is_only_described(pipeline: beam.Pipeline) -> bool:
    """Tell whether running a pipeline only writes its description, which others start."""
    return bool(pipeline.options.view_as(GoogleCloudOptions).template_location)
