"""Runs a pipeline to its end, and cancels its job if this process ends before."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from typing import Any

import apache_beam as beam
import grpc
from apache_beam.runners.dataflow.dataflow_runner import (
    DataflowPipelineResult,
    DataflowRuntimeException,
)
from apache_beam.runners.dataflow.internal.apiclient import DataflowJobAlreadyExistsError

from pipeline import progress
from pipeline.errors import LabelingError, RunError
from pipeline.job_server import in_one_line
from pipeline.runners import dataflow, portable
from pipeline.runners.options import is_only_described
from pipeline.shutdown import Step, at

# Errors whose message is enough, by their names in a runner's traceback: ours and the system's.
_IN_ONE_LINE = r"pipeline\.errors\.\w+|OSError|PermissionError|FileNotFoundError"

# The job elsewhere that this process waits for.
_job: dataflow.Job | portable.Job | None = None


def run_pipeline(
    pipeline: beam.Pipeline,
    tell: Callable[[Mapping[str, Any] | None], None] = lambda _: None,
    estimate: Callable[[progress.Counts], progress.Counts] = lambda counts: counts,
) -> bool:
    """Run a pipeline to its end, with its progress on the console.

    Args:
      pipeline: with all its steps.
      tell: is told the job elsewhere that this becomes, as ``jobs`` has it, once before it exists
        and once more with its ID; and None if there is no such job any more.
      estimate: makes counts for people of those that the workers of a cluster have told.

    Returns:
      False if the pipeline has only been described, for Beam's ``template_location``.

    Raises:
      UsageError: Dataflow refuses the job, such as one of a name that a running job has.
      RunError: a step failed with an error of this package, or of the system, such as a full disk.
      RuntimeError: a step failed with another error.
      DataflowRuntimeException: a step failed with another error, on Dataflow.
    """
    global _job
    logging.getLogger("apache_beam.runners.common").addFilter(_is_not_ours)
    logging.getLogger().addFilter(_is_not_of_job_server)
    job = dataflow.described(pipeline.options) or portable.described(pipeline)
    if job is not None:
        dataflow.keep_logs_short()
        tell(job)
    if job is not None and portable.is_portable(pipeline):
        _job = portable.Job(job, tell, estimate)
    try:
        with progress.shown():
            result = pipeline.run()
            if is_only_described(pipeline):
                return False
            if job is not None and isinstance(result, DataflowPipelineResult):
                _job = dataflow.begun(result, pipeline.options)
                tell(job | {"id": result.job_id()})
                dataflow.wait(_job)
                tell(None)
            elif isinstance(_job, portable.Job) and isinstance(result, portable.PipelineResult):
                _job.begun(result)
                _job.wait()
            else:
                result.wait_until_finish()
            return True
    except dataflow.GoesOnError:
        raise
    except DataflowJobAlreadyExistsError as error:
        tell(None)
        raise dataflow.name_in_use(error, pipeline.options) from error
    except grpc.RpcError as error:
        raise RunError(f"the job server does not take the job: {in_one_line(error)}") from error
    except dataflow.ERRORS as error:
        if job is None:
            raise
        refusal, is_certain = dataflow.refusal(error, pipeline.options)
        if is_certain:
            tell(None)
        raise refusal from error
    except (LabelingError, RuntimeError, DataflowRuntimeException) as error:
        if job is not None and not isinstance(_job, portable.Job):  # which tells by itself
            tell(None)
        # Runners wrap any other error in their own.
        raise _run_error(error) from error
    except OSError as error:
        raise RunError(f"the run failed: {error}") from error
    finally:
        _job = None


@at(Step.CANCEL_JOB)
def cancel() -> None:
    """Cancel the job that this process waits for, as nobody else knows about it."""
    if _job is not None:
        _job.cancel()


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


def _is_not_of_job_server(record: logging.LogRecord) -> bool:
    """Tell whether a log record is no error that a job server tells, as the end of the job does."""
    return not record.pathname.endswith("portable_runner.py")
