"""Jobs on Dataflow: where they are watched, and how they are canceled."""

from __future__ import annotations

from typing import NamedTuple

from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions
from apache_beam.runners.dataflow.dataflow_runner import (
    DataflowPipelineResult,
    DataflowRuntimeException,
)
from apache_beam.runners.dataflow.internal.apiclient import DataflowJobAlreadyExistsError
from google.api_core.exceptions import GoogleAPIError
from google.auth.exceptions import GoogleAuthError

from pipeline import console
from pipeline.errors import UsageError


class Job(NamedTuple):
    """A Dataflow job that this process waits for. ``to_cancel``: the command that cancels it."""

    result: DataflowPipelineResult
    to_cancel: str

    def cancel(self) -> None:
        """Cancel the job; if that fails, say how to do it."""
        console.say(f"canceling the job {self.result.job_id()}")
        try:
            self.result.cancel()
        except (
            DataflowRuntimeException,
            GoogleAPIError,
            GoogleAuthError,
            OSError,
            RuntimeError,
        ) as error:
            console.say(f"warning: the job goes on, as it cannot be canceled: {error}")
            console.say(f"to cancel it: {self.to_cancel}")


def begun(result: DataflowPipelineResult, options: PipelineOptions) -> Job:
    """Return the job that has begun, and say where it is watched and how it is canceled."""
    cloud = options.view_as(GoogleCloudOptions)
    job = result.job_id()
    command = to_cancel(job, cloud.region, cloud.project)
    console.say(job_url(job, cloud.region, cloud.project))
    console.say(f"Ctrl-C cancels the job; if this process is killed: {command}")
    return Job(result, command)


def job_url(job: str, region: str, project: str) -> str:
    """Return the address of the page that shows a job."""
    return f"https://console.cloud.google.com/dataflow/jobs/{region}/{job}?project={project}"


def to_cancel(job: str, region: str, project: str) -> str:
    """Return the command that cancels a job."""
    return f"gcloud dataflow jobs cancel {job} --region={region} --project={project}"


def name_in_use(error: DataflowJobAlreadyExistsError, options: PipelineOptions) -> UsageError:
    """Put into words that a job of this name is running."""
    return UsageError(
        str(error).partition(". ")[0],
        subject="job_name",
        given=options.view_as(GoogleCloudOptions).job_name,
        remedy="wait until it has ended, or cancel it",
    )
