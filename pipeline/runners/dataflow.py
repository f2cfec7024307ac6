"""Jobs on Dataflow: how they are refused, watched, and canceled, and whether they have ended."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from apache_beam.options.pipeline_options import (
    GoogleCloudOptions,
    PipelineOptions,
    StandardOptions,
)
from apache_beam.runners.dataflow.dataflow_runner import (
    DataflowPipelineResult,
    DataflowRunner,
    DataflowRuntimeException,
)
from apache_beam.runners.dataflow.internal.apiclient import (
    DataflowApplicationClient,
    DataflowJobAlreadyExistsError,
)
from apache_beam.runners.runner import PipelineState
from google.api_core.exceptions import (
    Forbidden,
    GoogleAPICallError,
    GoogleAPIError,
    NotFound,
    Unauthorized,
)
from google.api_core.retry import Retry
from google.auth.exceptions import GoogleAuthError, TransportError
from google.cloud import dataflow as api

from pipeline import console
from pipeline.errors import RunError, UsageError
from pipeline.storage.client_options import options as options_of_stores

RUNNER = "DataflowRunner"

# Where the launcher of a flex template has a job described, in a folder that is named by the job's
# ID: gs://…/staging/template_launches/2026-11-25_02_00_00-1234567890/job_object
_LAUNCH = re.compile(r"/template_launches/(\d{4}-\d\d-\d\d_\d\d_\d\d_\d\d-\d+)/")

LOG_IN = "run 'gcloud auth application-default login'"

# Seconds for one answer, and for several attempts to get it.
_TIMEOUT = 30.0
_PATIENCE = 60.0

# Seconds after which a job is asked again if Dataflow did not answer, after attempts of Beam's own.
_ASKED_AGAIN_AFTER = 60.0

# What Google's client of Dataflow raises.
ERRORS = (GoogleAPIError, GoogleAuthError)


class GoesOnError(RunError):
    """This process cannot wait for a job that goes on."""


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


def is_chosen(options: PipelineOptions) -> bool:
    """Tell whether a pipeline with these options runs on Dataflow, in any spelling of Beam's."""
    runner = str(options.view_as(StandardOptions).runner).rpartition(".")[2].lower()
    return runner in ("dataflow", RUNNER.lower())


def job_name(output: str) -> str:
    """Name the job of an output, as ``launch/settings.sh`` does: ``label-bucket-labels``.

    Dataflow has one job of a name at a time, and so refuses a second one on the output. A name may
    have 1,024 characters: ``google.cloud.dataflow.Job.name``.
    """
    path = output.partition("://")[2] or output
    return "label-" + re.sub("[^A-Za-z0-9]+", "-", path).strip("-").lower()


def name_job(options: PipelineOptions, output: str) -> None:
    """Give a job its output's name, if it has none."""
    cloud = options.view_as(GoogleCloudOptions)
    if is_chosen(options) and cloud.job_name is None:
        cloud.job_name = job_name(output)


def described(options: PipelineOptions) -> dict[str, Any] | None:
    """Name the job that a pipeline with these options becomes, as ``jobs`` has it.

    Returns:
      None if it does not run on Dataflow. The ID is known only if a flex template's launcher asks
      for the description of a job that exists already.
    """
    if not is_chosen(options):
        return None
    cloud = options.view_as(GoogleCloudOptions)
    launch = _LAUNCH.search(cloud.template_location or "")
    return {
        "runner": RUNNER,
        "id": launch and launch[1],
        "name": cloud.job_name,
        "project": cloud.project,
        "region": cloud.region,
    }


def living(job: Mapping[str, Any], own_job: Mapping[str, Any] | None) -> str | None:
    """Say which job it is and how to cancel it; None if it has ended. See ``jobs.living``."""
    own = own_job or {}
    if job["id"] is not None and job["id"] == own.get("id"):
        return None
    try:
        found = _find(job, own)
    except (GoogleAPIError, GoogleAuthError, ValueError, OSError) as error:
        which = f"{job['id'] or job['name']} in {job['project']}, {job['region']}"
        remedy = "run the same command again later"
        if isinstance(error, Forbidden):
            remedy = "give this account the role roles/dataflow.viewer"
        elif isinstance(error, (Unauthorized, GoogleAuthError)):
            remedy = LOG_IN
        raise UsageError(
            f"Dataflow does not tell the state of the job {which}: {said_by(error)}", remedy=remedy
        ) from error
    if found is None:
        return None
    state = found.current_state.name.removeprefix("JOB_STATE_").lower().replace("_", " ")
    command = to_cancel(found.id, job["region"], job["project"])
    return f"the Dataflow job {found.name}, {found.id}, {state}; {command} cancels it"


def _find(job: Mapping[str, Any], own: Mapping[str, Any]) -> api.Job | None:
    """Find a job that has not ended; by its name if its ID is not known."""
    client = DataflowApplicationClient(options_of_stores())._jobs_client
    where = {"project_id": job["project"], "location": job["region"]}
    call: dict[str, Any] = {"timeout": _TIMEOUT, "retry": Retry(timeout=_PATIENCE)}
    if job["id"] is None:
        # Dataflow has one job of a name at a time, so that of the own name is the own job.
        if own and (own["name"], own["project"], own["region"]) == (job["name"], *where.values()):
            return None
        request = api.ListJobsRequest(
            **where, name=job["name"], filter=api.ListJobsRequest.Filter.ACTIVE
        )
        named = (one for one in client.list_jobs(request, **call) if one.name == job["name"])
        return next((one for one in named if one.id != own.get("id")), None)
    try:
        found = client.get_job(api.GetJobRequest(**where, job_id=job["id"]), **call)
    except NotFound:  # it has been deleted, long after its end
        return None
    state = DataflowPipelineResult.api_jobstate_to_pipeline_state(found.current_state)
    return None if PipelineState.is_terminal(state) else found


def said_by(error: BaseException) -> str:
    """Return what Google's clients raised as one line, without the address that was asked."""
    words = " ".join(str(error).split())
    return re.sub(r"^(\d{3}) [A-Z]+ https?://\S+: ", r"\1 ", words)


def job_url(job: str, region: str, project: str) -> str:
    """Return the address of the page that shows a job."""
    return f"https://console.cloud.google.com/dataflow/jobs/{region}/{job}?project={project}"


def to_cancel(job: str, region: str, project: str) -> str:
    """Return the command that cancels a job."""
    return f"gcloud dataflow jobs cancel {job} --region={region} --project={project}"


def name_in_use(error: DataflowJobAlreadyExistsError, options: PipelineOptions) -> UsageError:
    """Put into words that a job of this name is running."""
    return _name_in_use(str(error).partition(". ")[0], options)


def _name_in_use(problem: str, options: PipelineOptions) -> UsageError:
    return UsageError(
        problem,
        subject="job_name",
        given=options.view_as(GoogleCloudOptions).job_name,
        remedy="wait until it has ended, or cancel it",
    )


def refusal(error: Exception, options: PipelineOptions) -> tuple[UsageError | RunError, bool]:
    """Put into words that Dataflow does not take a job.

    Args:
      error: one of ``ERRORS``.
      options: of the pipeline.

    Returns:
      The error to raise, and whether it is certain that there is no job.
    """
    code = error.code if isinstance(error, GoogleAPICallError) else None
    words = said_by(error)
    if code == 409:
        return _name_in_use(words, options), True
    if code == 429:
        again = "wait a minute and run the same command again, or have the quota raised"
        return RunError(f"a quota of Dataflow is used up: {words}; {again}"), True
    problem = f"Dataflow refuses the job: {words}"
    if code == 403:
        remedy = (
            "give this account the role roles/dataflow.developer, and roles/iam.serviceAccountUser "
            "on the workers' account; if the API is not enabled, enable it"
        )
        return UsageError(problem, remedy=remedy), True
    if code == 401 or (isinstance(error, GoogleAuthError) and not _may_pass(error)):
        return UsageError(problem, remedy=LOG_IN), True
    if code == 404:
        return UsageError(problem, remedy="check {project} and {region}"), True
    if code is not None and code < 500:
        return UsageError(problem, remedy="change the option that it names"), True
    again = "run the same command again in some minutes"
    return RunError(f"Dataflow did not take the job, so far: {words}; {again}"), False


def wait(job: Job) -> None:
    """Wait until a job has ended, also while Dataflow does not answer.

    Raises:
      GoesOnError: Dataflow refuses to tell the state of the job.
      RunError: the job was canceled.
      DataflowRuntimeException: the job has failed.
    """
    result, is_said = job.result, False
    # As Beam's own waiting does it, but for errors, which end a thread of its own there.
    while True:
        try:
            DataflowRunner.poll_for_job_completion(result._runner, result, None)
            state = result.state
            break
        except (*ERRORS, OSError) as error:
            why = f"Dataflow does not tell the state of the job: {said_by(error)}"
            if not _may_pass(error):
                raise GoesOnError(
                    f"the job goes on, but {why}; give this account the role "
                    f"roles/dataflow.viewer to wait for it; to cancel it: {job.to_cancel}"
                ) from error
            if not is_said:
                console.say(f"warning: {why}; it is asked again every minute")
            is_said = True
            time.sleep(_ASKED_AGAIN_AFTER)
    if state == PipelineState.CANCELLED:
        raise RunError("the job was canceled")
    if state != PipelineState.DONE:
        message = getattr(result._runner, "last_error_msg", None)
        raise DataflowRuntimeException(
            f"Dataflow pipeline failed. State: {state}, Error:\n{message}", result
        )


def _may_pass(error: Exception) -> bool:
    """Tell whether Dataflow may answer later."""
    if isinstance(error, GoogleAPICallError):
        return error.code is None or error.code == 429 or error.code >= 500
    if isinstance(error, GoogleAuthError):
        return error.retryable or isinstance(error, TransportError)
    return True


def keep_logs_short() -> None:
    """Keep Beam from logging what this module puts into words."""
    logging.getLogger(DataflowApplicationClient.__module__).addFilter(_is_not_said_elsewhere)


def _is_not_said_elsewhere(record: logging.LogRecord) -> bool:
    said = r"HTTP status \d+ trying to create job|details of server error"
    return re.match(said, record.getMessage()) is None
