import apache_beam as beam
import pytest
from apache_beam.coders import VarIntCoder
from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions
from apache_beam.portability.api import metrics_pb2
from apache_beam.runners.portability.portable_runner import PortableRunner

from pipeline.errors import UsageError
from pipeline.progress import Counts
from pipeline.runners import flink, jobs, portable


def pipeline_with(*flags):
    return beam.Pipeline(PortableRunner(), PipelineOptions(list(flags)))


def name_of(pipeline):
    return pipeline.options.view_as(GoogleCloudOptions).job_name


def test_a_job_is_named_after_its_output():
    first, second = pipeline_with(), pipeline_with()
    for pipeline in (first, second):
        portable.name_job(pipeline, "label", "gs://bucket/Labels of 2026/")
        assert name_of(pipeline).rpartition("-")[0] == "label-labels-of-2026"
    assert name_of(first) != name_of(second)
    portable.name_job(first, "label", "elsewhere")
    assert name_of(first).startswith("label-labels-of-2026-")


def test_a_name_that_the_user_gave_stays():
    pipeline = pipeline_with("--job_name=night")
    portable.name_job(pipeline, "label", "out")
    assert name_of(pipeline) == "night"


@pytest.mark.parametrize(
    ("master", "rest"),
    [
        ("flink:8081", "http://flink:8081"),
        ("https://flink.example/", "https://flink.example"),
        ("[auto]", None),
        ("[local]", None),
        ("", None),
        (None, None),
    ],
)
def test_where_flink_is_asked(master, rest):
    assert flink.rest_of(master) == rest


@pytest.mark.parametrize(
    "address",
    [{"flink": "http://127.0.0.1:1"}, {"flink": None, "job_endpoint": "127.0.0.1:1"}],
)
def test_a_job_of_which_nobody_tells(address):
    """Then nothing is written beside it."""
    job = {"runner": portable.RUNNER, "id": None, "name": "night", "job_endpoint": None, **address}
    with pytest.raises(
        UsageError, match="the state of the job night cannot be found out"
    ) as caught:
        jobs.living(job)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "org.apache.flink.runtime.JobException: Recovery is suppressed by NoRestart\n\tat a.b\n"
            "Caused by: java.util.concurrent.TimeoutException: Heartbeat of TaskManager with id "
            "10.0.0.7:1-a timed out.\n\tat c.d",
            "Heartbeat of TaskManager with id 10.0.0.7:1-a timed out.; again; with "
            "restart-strategy.type in Flink's settings, a job outlives a TaskManager",
        ),
        ("java.io.IOException: Insufficient buffers", "Insufficient buffers; again"),
        ("java.lang.NullPointerException", "java.lang.NullPointerException; again"),
        ("", "unknown; again"),
    ],
)
def test_why_a_job_failed_is_a_line(text, words):
    assert portable._why(text, "again") == words


def counter(name, count, namespace="progress"):
    return metrics_pb2.MonitoringInfo(
        labels={"NAMESPACE": namespace, "NAME": name}, payload=VarIntCoder().encode(count)
    )


def test_counters_of_all_steps_are_counts():
    told = [
        counter("found", 300),
        counter("found", 20),
        counter("done", 7),
        counter("set_aside", -2),
        counter("done", 9, "labeling"),
        metrics_pb2.MonitoringInfo(),
    ]
    assert portable._counts(told) == Counts(found=320, done=7, set_aside=-2)
