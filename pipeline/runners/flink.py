"""Jobs on a Flink cluster: found by name, watched and canceled through its REST interface.

The requests are those of https://nightlies.apache.org/flink/flink-docs-stable/docs/ops/rest_api/.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any, NamedTuple

from apache_beam.portability.api import beam_job_api_pb2 as job_api
from apache_beam.portability.api import metrics_pb2
from google.protobuf import json_format

from pipeline.errors import RunError

# Seconds for one answer.
_TIMEOUT = 10.0

# States in which a job writes no more. A suspended one is taken up again by another JobManager.
ENDED = ("FINISHED", "CANCELED", "FAILED")

# Without a proxy, as the job server reaches it.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class FlinkJob(NamedTuple):
    """A job as Flink lists it. ``state``: such as RUNNING; see ``ENDED``."""

    id: str
    name: str
    state: str


def rest_of(master: str | None) -> str | None:
    """Return the address of the REST interface of what Beam calls a Flink master.

    Args:
      master: as ``--flink_master`` has it: ``host:8081``, with or without ``http://``.

    Returns:
      None if it names no cluster, as ``[auto]`` and ``[local]``.
    """
    master = (master or "").strip().rstrip("/")
    if not master or master.startswith("["):
        return None
    return master if "://" in master else f"http://{master}"


def jobs_named(rest: str, name: str) -> list[FlinkJob]:
    """List the jobs of a name that have not ended.

    Raises:
      RunError: Flink does not answer.
    """
    jobs = [
        FlinkJob(job["jid"], job["name"], job["state"])
        for job in _ask(rest, "jobs/overview")["jobs"]
    ]
    return [job for job in jobs if job.name == name and job.state not in ENDED]


def find(rest: str, job_id: str) -> FlinkJob | None:
    """Return a job; None if Flink does not know it, as after a restart.

    Raises:
      RunError: Flink does not answer.
    """
    try:
        found = _ask(rest, f"jobs/{job_id}")
    except _NotFoundError:
        return None
    return FlinkJob(found["jid"], found["name"], found["state"])


def cancel(rest: str, job_id: str) -> None:
    """Ask Flink to cancel a job; it has ended some time later.

    Raises:
      RunError: Flink does not answer, or refuses.
    """
    _ask(rest, f"jobs/{job_id}?mode=cancel", "PATCH")


def to_cancel(rest: str, job_id: str) -> str:
    """Return the command that cancels a job."""
    return f"curl -X PATCH '{rest}/jobs/{job_id}?mode=cancel'"


def why_failed(rest: str, job_id: str) -> str:
    """Return the error with which a job has failed, with the stack that Flink has of it.

    Raises:
      RunError: Flink does not answer.
    """
    return str(_ask(rest, f"jobs/{job_id}/exceptions").get("root-exception") or "")


def metrics(rest: str, job_id: str) -> list[metrics_pb2.MonitoringInfo]:
    """Return Beam's metrics of the bundles that a job has finished.

    Beam's runner keeps them in an accumulator (``FlinkMetricContainer``), whose text is JSON.

    Raises:
      RunError: Flink does not answer.
    """
    found = _ask(rest, f"jobs/{job_id}/accumulators")["user-task-accumulators"]
    infos = []
    for one in found:
        if one["name"] == "__metricscontainers":
            results = json_format.Parse(one["value"], job_api.GetJobMetricsResponse())
            infos += results.metrics.attempted
    return infos


class _NotFoundError(RunError):
    """Flink does not know what it was asked for."""


def _ask(rest: str, path: str, method: str = "GET") -> dict[str, Any]:
    """Send a request, and return the answer.

    Raises:
      RunError: there is none, or an error.
    """
    request = urllib.request.Request(f"{rest}/{path}", method=method)
    try:
        with _OPENER.open(request, timeout=_TIMEOUT) as answer:
            return dict(json.load(answer))
    except urllib.error.HTTPError as error:
        kind = _NotFoundError if error.code == 404 else RunError
        raise kind(f"Flink at {rest} answers {error.code} {error.reason}") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise RunError(f"Flink at {rest} does not answer: {reason}") from error
