"""Runs a pipeline for both jobs: its options, its errors, and what it ran with."""

from __future__ import annotations

import logging
import platform
import re
import secrets
from datetime import datetime
from importlib.metadata import version
from typing import NamedTuple

import apache_beam as beam
from apache_beam.options.pipeline_options import (
    DirectOptions,
    GoogleCloudOptions,
    PipelineOptions,
    StandardOptions,
)
from apache_beam.portability.api import beam_provision_api_pb2
from apache_beam.runners.dataflow.dataflow_runner import (
    DataflowPipelineResult,
    DataflowRuntimeException,
)
from apache_beam.runners.dataflow.internal.apiclient import DataflowJobAlreadyExistsError
from apache_beam.runners.job.utils import dict_to_struct
from apache_beam.runners.portability.fn_api_runner.fn_runner import (
    ExtendedProvisionInfo,
    FnApiRunner,
)
from google.api_core.exceptions import GoogleAPIError
from google.auth.exceptions import GoogleAuthError

from pipeline import __version__, console, progress
from pipeline.errors import LabelingError, RunError, UsageError
from pipeline.images.resizing import Resizer
from pipeline.records import TIME_IN_NAMES
from pipeline.shutdown import Step, at

# Depending on the pipeline, Beam's DirectRunner may hand over to a runner that it downloads.
LOCAL_RUNNER = "apache_beam.runners.portability.fn_api_runner.FnApiRunner"


# Errors whose message is enough, by their names in a runner's traceback: ours and the system's.
_IN_ONE_LINE = r"pipeline\.errors\.\w+|OSError|PermissionError|FileNotFoundError"


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
      UsageError: Beam refuses its options, such as a runner that does not exist or a missing flag.
    """
    try:
        pipeline = beam.Pipeline(options=beam_options(beam_args))
    except (ValueError, ImportError) as error:
        raise UsageError(" ".join(str(error).split())) from error
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


class _Job(NamedTuple):
    """A Dataflow job that this process waits for. ``to_cancel``: the command that cancels it."""

    result: DataflowPipelineResult
    to_cancel: str


_job: _Job | None = None


def is_only_described(pipeline: beam.Pipeline) -> bool:
    """Tell whether running a pipeline only writes its description, which others start."""
    return bool(pipeline.options.view_as(GoogleCloudOptions).template_location)


def run_pipeline(pipeline: beam.Pipeline) -> bool:
    """Run a pipeline to its end, with its progress on the console.

    Returns:
      False if the pipeline has only been described, for Beam's ``template_location``.

    Raises:
      UsageError: a job of this name is running on Dataflow.
      RunError: a step failed with an error of this package, or of the system, such as a full disk.
      RuntimeError: a step failed with another error.
      DataflowRuntimeException: a step failed with another error, on Dataflow.
    """
    global _job
    logging.getLogger("apache_beam.runners.common").addFilter(_is_not_ours)
    cloud = pipeline.options.view_as(GoogleCloudOptions)
    try:
        with progress.shown():
            result = pipeline.run()
            if is_only_described(pipeline):
                return False
            if isinstance(result, DataflowPipelineResult):
                job = result.job_id()
                _job = _Job(result, to_cancel(job, cloud.region, cloud.project))
                console.say(job_url(job, cloud.region, cloud.project))
                console.say(f"Ctrl-C cancels the job; if this process is killed: {_job.to_cancel}")
            result.wait_until_finish()
            return True
    except DataflowJobAlreadyExistsError as error:
        said = str(error).partition(". ")[0]
        raise UsageError(
            said,
            subject="job_name",
            given=cloud.job_name,
            remedy="wait until it has ended, or cancel it",
        ) from error
    except (LabelingError, RuntimeError, DataflowRuntimeException) as error:
        # Runners wrap any other error in their own.
        raise _run_error(error) from error
    except OSError as error:
        raise RunError(f"the run failed: {error}") from error
    finally:
        _job = None


def job_url(job: str, region: str, project: str) -> str:
    """Return the address of the page that shows a Dataflow job."""
    return f"https://console.cloud.google.com/dataflow/jobs/{region}/{job}?project={project}"


def to_cancel(job: str, region: str, project: str) -> str:
    """Return the command that cancels a Dataflow job."""
    return f"gcloud dataflow jobs cancel {job} --region={region} --project={project}"


@at(Step.CANCEL_JOB)
def cancel() -> None:
    """Cancel the job that this process waits for, as nobody else knows about it."""
    if _job is None:
        return
    console.say(f"canceling the job {_job.result.job_id()}")
    try:
        _job.result.cancel()
    except (
        DataflowRuntimeException,
        GoogleAPIError,
        GoogleAuthError,
        OSError,
        RuntimeError,
    ) as error:
        console.say(f"warning: the job goes on, as it cannot be canceled: {error}")
        console.say(f"to cancel it: {_job.to_cancel}")


def _run_error(error: LabelingError | RuntimeError | DataflowRuntimeException) -> Exception:
    """Find this package's own error behind a runner's; if there is none, return the runner's.

    Runners re-raise a worker's error with the step's name added, or pass it on as text: a traceback
    that ends with the error itself.
    """
    last = (str(error).strip().splitlines() or [""])[-1]
    prefix = "" if isinstance(error, LabelingError) else rf"({_IN_ONE_LINE}): "
    own = re.match(rf"{prefix}(?P<message>.*?)( \[while running .*)?$", last)
    return RunError(f"the run failed: {own['message']}") if own else error


def _is_not_ours(record: logging.LogRecord) -> bool:
    """Tell whether a log record reports an error that is not printed as one line at the end."""
    return not (record.exc_info and isinstance(record.exc_info[1], (LabelingError, OSError)))


def new_run_id(started: datetime) -> str:
    """Make a name for a run; the names of later runs sort after it.

    Args:
      started: UTC.
    """
    return f"{started:{TIME_IN_NAMES}}-{secrets.token_hex(3)}"


def versions() -> dict[str, str]:
    """List the versions of this package, Python, and the libraries that affect the results."""
    packages = ["apache-beam", "tensorflow", "numpy", "pillow"]
    if Resizer is not None:
        packages.append("cykooz-resizer")
    return {
        "image-labeling": __version__,
        "python": platform.python_version(),
        **{package: version(package) for package in packages},
    }
