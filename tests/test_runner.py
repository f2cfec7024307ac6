import json
from types import SimpleNamespace

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
from apache_beam.runners.dataflow.dataflow_runner import (
    DataflowPipelineResult,
    DataflowRuntimeException,
)
from apache_beam.runners.dataflow.internal.apiclient import DataflowJobAlreadyExistsError
from google.api_core.exceptions import Forbidden
from google.cloud.dataflow import JobState
from google.protobuf import json_format

from pipeline import runner as running
from pipeline.errors import RunError, UsageError
from pipeline.runner import LOCAL_RUNNER, beam_options, new_pipeline, run_pipeline, versions
from pipeline.storage.client_options import ClientOptions


@pytest.mark.parametrize("beam_args", [(), ("--runner=DirectRunner",), ("--runner=direct",)])
def test_the_local_runner_is_pinned(beam_args):
    assert beam_options(beam_args).view_as(StandardOptions).runner == LOCAL_RUNNER


def test_another_runner_is_left_alone():
    options = beam_options(("--runner=FlinkRunner",))
    assert options.view_as(StandardOptions).runner == "FlinkRunner"


@pytest.mark.parametrize(
    ("beam_args", "message"),
    [
        (("--runner=NoRunner",), "Unexpected pipeline runner: NoRunner"),
        (("--runner=DataflowRunner",), "Missing required option: project"),
    ],
)
def test_what_beam_refuses_is_a_line(beam_args, message):
    with pytest.raises(UsageError, match=message) as caught:
        new_pipeline(beam_args)
    assert "\n" not in str(caught.value)


class Dataflow:
    """The service and its client, as far as Beam's result of a job asks them."""

    def __init__(self, refusal=None, takes_requests=True):
        self.dataflow_client = self
        self.canceled = []
        self._refusal = refusal
        self._takes_requests = takes_requests

    def get_job(self, job_id):
        return SimpleNamespace(id=job_id, current_state=JobState.JOB_STATE_RUNNING)

    def modify_job_state(self, job_id, state):
        if self._refusal:
            raise self._refusal
        self.canceled.append((job_id, state))
        return self._takes_requests


def waiting_for(service):
    result = DataflowPipelineResult(service.get_job("job-7"), service)
    return running._Job(result, running.to_cancel("job-7", "europe-west1", "mine"))


def test_a_job_that_nobody_waits_for_any_more_is_canceled(monkeypatch, capsys):
    service = Dataflow()
    running.cancel()  # there is none
    monkeypatch.setattr(running, "_job", waiting_for(service))
    running.cancel()
    assert service.canceled == [("job-7", "JOB_STATE_CANCELLED")]
    assert capsys.readouterr().err == "canceling the job job-7\n"


@pytest.mark.parametrize(
    ("service", "why"),
    [
        (Dataflow(Forbidden("no permission")), "403 no permission"),
        (Dataflow(takes_requests=False), "Failed to cancel job job-7, please go to"),
    ],
)
def test_a_job_that_cannot_be_canceled(monkeypatch, capsys, service, why):
    monkeypatch.setattr(running, "_job", waiting_for(service))
    running.cancel()
    said = capsys.readouterr().err
    assert f"warning: the job goes on, as it cannot be canceled: {why}" in said
    assert said.endswith(
        "to cancel it: gcloud dataflow jobs cancel job-7 --region=europe-west1 --project=mine\n"
    )


class Submitted(beam.runners.PipelineRunner):
    """A runner whose jobs end as they are told to."""

    def __init__(self, error):
        self._error = error

    def run_pipeline(self, pipeline, options):
        raise self._error


@pytest.mark.parametrize(
    ("error", "expected", "message"),
    [
        (
            DataflowJobAlreadyExistsError(
                "There is already active job named night with id: job-7. If you want to submit a "
                "second job, try again by setting a different name using --job_name."
            ),
            UsageError,
            "job_name night: There is already active job named night with id: job-7; wait until "
            "it has ended, or cancel it",
        ),
        (
            DataflowRuntimeException(
                "Dataflow pipeline failed. State: FAILED, Error:\nTraceback\n"
                "pipeline.errors.RunError: the table is full [while running 'Summarize']\n",
                None,
            ),
            RunError,
            "the run failed: the table is full",
        ),
        (
            DataflowRuntimeException("Dataflow pipeline failed. State: FAILED, Error:\nodd", None),
            DataflowRuntimeException,
            "Dataflow pipeline failed. State: FAILED, Error:\nodd",
        ),
    ],
)
def test_what_dataflow_says_of_a_job_that_ends_badly(error, expected, message):
    pipeline = beam.Pipeline(Submitted(error), beam_options(("--job_name=night",)))
    with pytest.raises(expected) as caught:
        run_pipeline(pipeline)
    assert str(caught.value) == message


def test_where_a_job_is_to_be_watched():
    url = "https://console.cloud.google.com/dataflow/jobs/europe-west1/job-7?project=mine"
    assert running.job_url("job-7", "europe-west1", "mine") == url


def test_versions():
    assert set(versions()) - {"cykooz-resizer"} == {  # which is not everywhere
        *("image-labeling", "python", "apache-beam", "tensorflow", "numpy", "pillow")
    }


def test_options_reach_workers_in_processes_of_their_own():
    """FnApiRunner itself gives them none."""
    flags = ["--http_user_agent=Me 1.0", "--http_trusted=127.0.0.1:80", "--anonymous"]
    pipeline = new_pipeline((*flags, "--direct_num_workers=2"))
    sent = json_format.MessageToJson(
        pipeline.runner._provision_info.provision_info.pipeline_options
    )
    given = PipelineOptions.from_dictionary(json.loads(sent)).view_as(ClientOptions)
    assert given.http_user_agent == "Me 1.0"
    assert given.http_trusted == ["127.0.0.1:80"]
    assert given.anonymous and not given.allow_private_addresses
