from types import SimpleNamespace

import pytest
from apache_beam.runners.dataflow.dataflow_runner import DataflowPipelineResult
from google.api_core.exceptions import Forbidden
from google.cloud.dataflow import JobState

from pipeline.runners import running
from pipeline.runners.dataflow import Job, job_url, to_cancel


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
    return Job(result, to_cancel("job-7", "europe-west1", "mine"))


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


def test_where_a_job_is_to_be_watched():
    url = "https://console.cloud.google.com/dataflow/jobs/europe-west1/job-7?project=mine"
    assert job_url("job-7", "europe-west1", "mine") == url
