"""Jobs elsewhere, as the claim on an output and the note of a run name them.

A job is a dict that fits into JSON: ``runner``, the name of Beam's runner; ``id``, None until it is
known; and what else its runner needs to find it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.errors import UsageError
from pipeline.runners import dataflow, portable


def living(job: Mapping[str, Any], own_job: Mapping[str, Any] | None = None) -> str | None:
    """Say which job it is and how to cancel it; None if it has ended.

    Args:
      job: the job.
      own_job: the job that this process describes, if there is one; it is never in its own way.

    Raises:
      UsageError: that cannot be found out; the message says why, and what to do.
    """
    if job.get("runner") == dataflow.RUNNER:
        return dataflow.living(job, own_job)
    if job.get("runner") == portable.RUNNER:
        return portable.living(job)
    raise UsageError(f"jobs of {job.get('runner')} are not known")
