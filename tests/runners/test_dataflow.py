import time
from types import SimpleNamespace

import apache_beam as beam
import pytest
from apache_beam.runners.dataflow.dataflow_runner import DataflowPipelineResult
from google.api_core.exceptions import Forbidden
from google.cloud.dataflow import JobState
from helpers.dataflow_server import DataflowServer
from helpers.emulators import gcs_emulator

from pipeline.errors import RunError, UsageError
from pipeline.runners import running
from pipeline.runners.dataflow import Job, job_url, to_cancel
from pipeline.runners.options import new_pipeline
from pipeline.runners.running import run_pipeline


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


# A job from its start to its end


@pytest.fixture(scope="module")
def bucket():
    with gcs_emulator() as store, store.reached_at(store.url):
        yield store


@pytest.fixture
def service(bucket, monkeypatch):
    """A Dataflow on which time flies."""
    sleep = time.sleep
    monkeypatch.setattr(time, "sleep", lambda seconds: sleep(min(seconds, 0.01)))
    with DataflowServer() as server:
        yield server


def run_on(service):
    """Run a pipeline; what ``run_pipeline`` has told of its job."""
    told = []
    flags = [
        *(*service.flags, "--job_name=night", "--temp_location=gs://bucket/tmp"),
        *("--sdk_location=container", "--sdk_container_image=image"),
    ]
    pipeline = new_pipeline(tuple(flags))
    _ = pipeline | beam.Create([1]) | beam.Map(str)
    try:
        run_pipeline(pipeline, told.append)
    finally:
        service.told = told
    return told


def test_a_job_is_told_with_its_id_and_then_its_end(service, capsys):
    name = {"runner": "DataflowRunner", "name": "night", "project": "my-project"}
    name |= {"region": "europe-west1"}
    id_ = "2026-11-25_02_00_00-0"
    assert run_on(service) == [name | {"id": None}, name | {"id": id_}, None]
    assert f"dataflow/jobs/europe-west1/{id_}?project=my-project" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("status", "error", "message"),
    [
        (400, UsageError, "Dataflow refuses the job: 400 the service says so; change the option"),
        (403, UsageError, "Dataflow refuses the job: 403 the service says so; give this account"),
        (404, UsageError, "Dataflow refuses the job: 404 the service says so; check project and"),
        (409, UsageError, "job_name night: 409 the service says so; wait until it has ended, or"),
        (429, RunError, "a quota of Dataflow is used up: 429 the service says so; wait a minute"),
        (500, RunError, "Dataflow did not take the job, so far: 500 the service says so; run the"),
    ],
)
def test_a_job_that_is_refused(service, capsys, caplog, status, error, message):
    service.errors["POST jobs"] = [status]
    with pytest.raises(error) as caught:
        run_on(service)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
    said = capsys.readouterr().err + caplog.text
    assert "Traceback" not in said
    assert "HTTP status" not in said
    # After a 500 there may be a job.
    assert (service.told[-1] is None) is (status != 500)
    assert service.requests["POST jobs"] == (4 if status == 500 else 1)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_service_that_does_not_answer_for_a_while_is_waited_for(service, capsys, caplog, status):
    service.errors["GET job"] = [None, *[status] * 9, None]
    assert run_on(service)[-1] is None
    said = capsys.readouterr().err
    assert f"warning: Dataflow does not tell the state of the job: {status} the service" in said
    assert "Traceback" not in said + caplog.text


def test_a_job_that_may_not_be_watched_goes_on(service, capsys):
    service.errors["GET job"] = [403]
    with pytest.raises(RunError) as caught:
        run_on(service)
    message = str(caught.value)
    assert message.startswith(
        "the job goes on, but Dataflow does not tell the state of the job: 403 the service says "
        "so; give this account the role roles/dataflow.viewer to wait for it; to cancel it: gcloud"
    )
    assert service.told[-1]["id"] == "2026-11-25_02_00_00-0"


def test_a_job_that_somebody_cancels(service, monkeypatch):
    monkeypatch.setattr(service, "add", lambda id_, name, *_: _canceled(service, id_, name))
    with pytest.raises(RunError, match=r"^the run failed: the job was canceled$"):
        run_on(service)
    assert service.told[-1] is None


def _canceled(service, id_, name):
    service.jobs[id_] = {"id": id_, "name": name}
    service.states[id_] = ["RUNNING", "CANCELLED"]
