import apache_beam as beam
import pytest
from apache_beam.runners.dataflow.dataflow_runner import DataflowRuntimeException
from apache_beam.runners.dataflow.internal.apiclient import DataflowJobAlreadyExistsError

from pipeline.errors import RunError, UsageError
from pipeline.runners.options import beam_options
from pipeline.runners.running import run_pipeline


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
