from types import SimpleNamespace

import pytest
from apache_beam.options.pipeline_options import StandardOptions
from apache_beam.runners.dataflow.dataflow_runner import DataflowPipelineResult
from google.api_core.exceptions import Forbidden
from google.cloud.dataflow import JobState

from pipeline import running
from pipeline.errors import UsageError
from pipeline.running import LOCAL_RUNNER, beam_options, new_pipeline, versions


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

    def __init__(self, refusal=None):
        self.dataflow_client = self
        self.canceled = []
        self._refusal = refusal

    def get_job(self, job_id):
        return SimpleNamespace(id=job_id, current_state=JobState.JOB_STATE_RUNNING)

    def modify_job_state(self, job_id, state):
        if self._refusal:
            raise self._refusal
        self.canceled.append((job_id, state))
        return True


def test_a_job_that_nobody_waits_for_any_more_is_canceled(monkeypatch, capsys):
    service = Dataflow()
    running.cancel()  # there is none
    result = DataflowPipelineResult(service.get_job("job-7"), service)
    monkeypatch.setattr(running, "_job", result)
    running.cancel()
    assert service.canceled == [("job-7", "JOB_STATE_CANCELLED")]
    assert capsys.readouterr().err == "canceling the job job-7\n"


def test_a_job_that_cannot_be_canceled(monkeypatch, capsys):
    service = Dataflow(Forbidden("no permission"))
    result = DataflowPipelineResult(service.get_job("job-7"), service)
    monkeypatch.setattr(running, "_job", result)
    running.cancel()
    assert "warning: the job goes on, as it cannot be canceled: 403 no permission" in (
        capsys.readouterr().err
    )


def test_where_a_job_is_to_be_watched():
    url = "https://console.cloud.google.com/dataflow/jobs/europe-west1/job-7?project=mine"
    assert running.job_url("job-7", "europe-west1", "mine") == url


def test_versions():
    assert set(versions()) - {"cykooz-resizer"} == {  # which is not everywhere
        *("image-labeling", "python", "apache-beam", "tensorflow", "numpy", "pillow")
    }
