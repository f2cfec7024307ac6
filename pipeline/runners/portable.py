"""Jobs that a job server of Beam takes: that of Flink, Prism's, and others."""

from __future__ import annotations

import contextlib
import math
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import apache_beam as beam
import grpc
from apache_beam.coders import VarIntCoder
from apache_beam.options.pipeline_options import (
    FlinkRunnerOptions,
    GoogleCloudOptions,
    PortableOptions,
)
from apache_beam.portability.api import beam_job_api_pb2 as job_api
from apache_beam.portability.api import beam_job_api_pb2_grpc, metrics_pb2
from apache_beam.runners.portability.portable_runner import (
    TERMINAL_STATES,
    PipelineResult,
    PortableRunner,
)

from pipeline import console, progress
from pipeline.errors import RunError, UsageError
from pipeline.job_server import in_one_line
from pipeline.progress import Counts
from pipeline.runners import flink

RUNNER = "PortableRunner"

# Seconds for one answer of a job server.
_TIMEOUT = 10.0

# Seconds between two looks at a job.
_BETWEEN_LOOKS = 1.0
_BETWEEN_COUNTS = 5.0

# Seconds in which a canceled job has ended, or it is said that it has not.
_ENDS_IN = 20.0

# Seconds in which a JobManager that is away is back.
_IS_BACK_IN = 300.0

# What ends a job on Flink if a machine is lost, or is not there.
_LOST = re.compile(
    r"TaskManager|TaskExecutor|NoResourceAvailable|PartitionNotFound|Lost connection"
)

# An option with the address of the cluster, as a job server has it.
_MASTER = "beam:option:flink_master:v1"

Tell = Callable[[Mapping[str, Any] | None], None]
Estimate = Callable[[Counts], Counts]


def is_portable(pipeline: beam.Pipeline) -> bool:
    """Tell whether a job server takes the pipeline."""
    return isinstance(pipeline.runner, PortableRunner)


def name_job(pipeline: beam.Pipeline, command: str, output: str) -> None:
    """Name a job after its command and its output, so that it is found again, unless it has a name.

    On Flink, several jobs may have the same name; the last digits tell this one from others.
    """
    cloud = pipeline.options.view_as(GoogleCloudOptions)
    if is_portable(pipeline) and not cloud.job_name:
        last = output.rstrip("/").rpartition("/")[2]
        words = re.sub(r"[^a-z0-9]+", "-", last.lower()).strip("-")[:40]
        cloud.job_name = "-".join(filter(None, (command, words, secrets.token_hex(3))))


def described(pipeline: beam.Pipeline) -> dict[str, Any] | None:
    """Name the job that a pipeline becomes, as ``jobs`` has it; None if no job server takes it."""
    if not is_portable(pipeline):
        return None
    options = pipeline.options
    return {
        "runner": RUNNER,
        "id": None,
        "name": options.view_as(GoogleCloudOptions).job_name,
        "job_endpoint": options.view_as(PortableOptions).job_endpoint,
        "flink": flink.rest_of(options.view_as(FlinkRunnerOptions).flink_master),
    }


def living(job: Mapping[str, Any]) -> str | None:
    """Say which job it is and how to cancel it; None if it has ended. See ``jobs.living``."""
    try:
        rest = job["flink"] or _asked_for_flink(job)
        if rest is None:
            return _living_at_server(job)
        for one in _alive_on_flink(rest, job["id"], job["name"]):
            return (
                f"the Flink job {one.name}, {one.id}, {one.state.lower()}; "
                f"{flink.to_cancel(rest, one.id)} cancels it"
            )
    except (RunError, grpc.RpcError) as error:
        why = in_one_line(error) if isinstance(error, grpc.RpcError) else error
        raise UsageError(
            f"the state of the job {job['name']} cannot be found out: {why}",
            remedy="run the same command again when there is an answer",
        ) from error
    return None


def _alive_on_flink(rest: str, job_id: str | None, name: str) -> list[flink.FlinkJob]:
    if job_id is None:
        return flink.jobs_named(rest, name)
    found = flink.find(rest, job_id)
    return [found] if found is not None and found.state not in flink.ENDED else []


def _listed(job: Mapping[str, Any]) -> list[job_api.JobInfo]:
    """List the jobs of this name that the job server knows; it forgets old ones."""
    if not job["job_endpoint"]:  # Beam has started it for the job, and stopped it again
        return []
    with grpc.insecure_channel(job["job_endpoint"]) as channel:
        stub = beam_job_api_pb2_grpc.JobServiceStub(channel)
        jobs = stub.GetJobs(job_api.GetJobsRequest(), timeout=_TIMEOUT).job_info
    return [one for one in jobs if _name_of(one) == job["name"]]


def _name_of(info: job_api.JobInfo) -> str:
    """Return a job's name; Prism has it among the options only."""
    option = info.pipeline_options.fields.get("beam:option:job_name:v1")
    return option.string_value if option is not None else info.job_name


def _asked_for_flink(job: Mapping[str, Any]) -> str | None:
    """Ask the job server to which cluster it sends the job; None if to none."""
    for info in _listed(job):
        master = info.pipeline_options.fields.get(_MASTER)
        if master is not None:
            return flink.rest_of(master.string_value)
    return None


def _living_at_server(job: Mapping[str, Any]) -> str | None:
    alive = [info for info in _listed(job) if info.state not in TERMINAL_STATES]
    if not alive:
        return None
    state = job_api.JobState.Enum.Name(alive[0].state).lower()
    return f"the job {job['name']} of the job server at {job['job_endpoint']}, {state}"


class Job:
    """A job of a job server that this process waits for.

    Args:
      named: the job, as ``described``.
      tell: is told the job once more when its ID is known; and None when it has ended.
      estimate: makes counts for people of those that the runner tells.
    """

    def __init__(self, named: Mapping[str, Any], tell: Tell, estimate: Estimate):
        self._named = dict(named)
        self._tell = tell
        self._estimate = estimate
        self._result: PipelineResult | None = None
        self._has_ended = threading.Event()
        self._is_canceled = False

    @property
    def name(self) -> str:
        """The job's name, and its ID if that is known."""
        job_id = self._named["id"]
        kind = "Flink job" if self._named["flink"] else "job"
        return f"the {kind} {self._named['name']}" + (f", {job_id}" if job_id else "")

    def begun(self, result: PipelineResult) -> None:
        """Find the job where it runs, say how to cancel it, and show its progress."""
        self._result = result
        threading.Thread(target=self._watch, daemon=True).start()
        if self._named["flink"] is None:
            try:
                self._named["flink"] = _asked_for_flink(self._named)
            except grpc.RpcError:  # it is asked again when the job is to be canceled
                return
        if self._named["flink"] is None:
            self._named["id"] = result._job_id
            self._tell(self._named)
        else:
            threading.Thread(target=self._find, daemon=True).start()

    def _watch(self) -> None:
        while not self._has_ended.wait(_BETWEEN_COUNTS):
            # Without an answer, the counts stay as they are.
            with contextlib.suppress(RunError, grpc.RpcError):
                progress.tell(self._estimate(_counts(self._metrics())))

    def _metrics(self) -> Sequence[metrics_pb2.MonitoringInfo]:
        """Return the metrics of the job.

        The job server of Flink has none until the job has ended, so Flink is asked.
        """
        rest, job_id = self._named["flink"], self._named["id"]
        if rest is not None:
            return flink.metrics(rest, job_id) if job_id is not None else []
        assert self._result is not None
        request = job_api.GetJobMetricsRequest(job_id=self._result._job_id)
        answer = self._result._job_service.GetJobMetrics(request, timeout=_TIMEOUT)
        return list(answer.metrics.attempted)

    def _find(self) -> None:
        is_said = False
        while not self._has_ended.is_set():
            try:
                if self._is_found():
                    if not self._is_canceled:
                        rest, job_id = self._named["flink"], self._named["id"]
                        console.say(f"{self.name}: {rest}")
                        command = flink.to_cancel(rest, job_id)
                        console.say(f"Ctrl-C cancels the job; if this process is killed: {command}")
                    return
            except RunError as error:
                if not is_said:
                    is_said = True
                    console.say(f"warning: the job is looked for again: {error}")
            time.sleep(_BETWEEN_LOOKS)

    def _is_found(self) -> bool:
        """Look for the job on Flink, where it appears some time after it was sent."""
        if self._named["id"] is None:
            alive = flink.jobs_named(self._named["flink"], self._named["name"])
            if len(alive) > 1:
                raise RunError(f"{len(alive)} jobs on Flink are called {self._named['name']}")
            if alive:
                self._named["id"] = alive[0].id
                self._tell(self._named)
        return self._named["id"] is not None

    def wait(self) -> None:
        """Wait until the job has ended.

        Raises:
          RunError: it failed, in one line; or nobody tells any more how it is.
          RuntimeError: it failed with an error on a worker, whose traceback is in the message.
        """
        assert self._result is not None
        try:
            self._result.wait_until_finish()
        except grpc.RpcError as error:
            lost = f"the job server no longer answers: {in_one_line(error)}"
            self._outlive(lost, is_lost=True)
        except RuntimeError as error:
            if "Traceback (most recent call last)" in str(error):
                self._ended()
                raise
            self._outlive(str(error).partition(": ")[2].strip() or str(error), is_lost=False)
        self._ended()

    def _ended(self) -> None:
        self._has_ended.set()
        self._tell(None)

    def _outlive(self, why: str, is_lost: bool) -> None:
        """Find out whether the job has ended; if not, wait for it without the job server.

        Args:
          why: what the job server said, or why it says nothing.
          is_lost: whether it is the job server that is gone.

        Raises:
          RunError: it has failed; or nobody tells how it is.
        """
        rest, job_id = self._named["flink"], self._named["id"]
        again = "the same command goes on with what has been done"
        if rest is None or job_id is None:
            if not is_lost:
                self._ended()
            raise RunError(f"{_in_words(why)}; {again}")
        is_said = False
        while (state := self._state_on_flink()) not in flink.ENDED:
            if not is_said:
                is_said = True
                console.say(f"warning: {_in_words(why)}; waiting for {self.name} at {rest}")
            time.sleep(_BETWEEN_LOOKS)
        self._ended()
        if state == "FINISHED":
            return
        if state == "CANCELED":
            raise RunError(f"{self.name}, was canceled; {again}")
        text = flink.why_failed(rest, job_id)
        if "Traceback (most recent call last)" in text:
            raise RuntimeError(text)
        raise RunError(_why(text or why, again))

    def _state_on_flink(self) -> str:
        """Return the job's state, even if its JobManager is away for a while.

        Raises:
          RunError: Flink does not answer any more, or does not know the job any more.
        """
        until = time.monotonic() + _IS_BACK_IN
        while True:
            try:
                found = flink.find(self._named["flink"], self._named["id"])
                break
            except RunError:
                if time.monotonic() > until:
                    raise
            time.sleep(_BETWEEN_LOOKS)
        if found is None:
            self._ended()
            raise RunError(f"Flink does not know {self.name}, any more: it was started again")
        return found.state

    def cancel(self) -> None:
        """Cancel the job, and wait until it has ended, since it writes into the output until then.

        A job that cannot be canceled is waited for, too. Whoever ends this process before that
        leaves the output to the job.
        """
        self._is_canceled = True
        console.say(f"canceling {self.name}")
        try:
            self._ask_to_cancel()
        except (RunError, grpc.RpcError) as error:
            why = in_one_line(error) if isinstance(error, grpc.RpcError) else error
            console.say(f"warning: {self.name}, goes on, as it cannot be canceled: {why}")
            command = f"flink cancel {self._named['id'] or '…'}"
            if self._named["flink"] is not None:
                console.say(f"cancel it on Flink's page, or where Flink is: {command}")
        until = time.monotonic() + _ENDS_IN
        is_said = False
        try:
            while self._is_alive():
                if time.monotonic() > until and not is_said:
                    is_said = True
                    console.say(
                        f"waiting for the end of {self.name}; Ctrl-C again leaves the output to it"
                    )
                time.sleep(_BETWEEN_LOOKS / 2)
        except (RunError, grpc.RpcError) as error:
            why = in_one_line(error) if isinstance(error, grpc.RpcError) else error
            console.say(f"warning: whether {self.name}, has ended is not known: {why}")
            return
        self._ended()

    def _ask_to_cancel(self) -> None:
        """Cancel the job where it runs.

        A job server of Flink only stops watching a job that it is asked to cancel, and reports it
        as canceled, while it goes on (``JobInvocation.cancel``). So it is not asked.

        Raises:
          RunError: it cannot be found, or Flink does not answer.
          grpc.RpcError: the job server does not answer.
        """
        if self._named["flink"] is None:
            self._named["flink"] = _asked_for_flink(self._named)
        if self._named["flink"] is None:
            if self._result is not None:
                self._result.cancel()
            return
        until = time.monotonic() + (math.inf if self._result is not None else _ENDS_IN / 2)
        while not self._is_found():  # the job server sends its jars first
            if time.monotonic() > until or not self._is_alive_at_server():
                return
            time.sleep(_BETWEEN_LOOKS / 2)
        flink.cancel(self._named["flink"], self._named["id"])

    def _is_alive_at_server(self) -> bool:
        """Tell whether the job server has not seen the job's end."""
        if self._result is None:
            return True
        answer = self._result._job_service.GetState(
            job_api.GetJobStateRequest(job_id=self._result._job_id)
        )
        return answer.state not in TERMINAL_STATES

    def _is_alive(self) -> bool:
        if self._named["flink"] is None or self._named["id"] is None:
            return self._result is not None and self._is_alive_at_server()
        return bool(_alive_on_flink(self._named["flink"], self._named["id"], self._named["name"]))


def _counts(metrics: Iterable[metrics_pb2.MonitoringInfo]) -> Counts:
    """Add up the counters that ``progress.add`` makes on the workers."""
    sums = dict.fromkeys(Counts._fields, 0)
    for info in metrics:
        if info.labels.get("NAMESPACE") == progress.NAMESPACE and info.labels["NAME"] in sums:
            sums[info.labels["NAME"]] += VarIntCoder().decode(info.payload)
    return Counts(**sums)


def _why(text: str, again: str) -> str:
    """Put into words why a job has failed on Flink, and what to do."""
    remedy = again
    if _LOST.search(text):
        remedy += "; with restart-strategy.type in Flink's settings, a job outlives a TaskManager"
    return f"{_in_words(text)}; {remedy}"


def _in_words(text: str) -> str:
    """Return the cause of an error of Java's as one line, without the name of its class."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    causes = [line.partition(": ")[2] for line in lines if line.startswith("Caused by: ")]
    cause = (causes or lines or ["unknown"])[-1 if causes else 0]
    return re.sub(r"^(?:[a-z]\w*\.)+[A-Z][\w$]*(?:: |$)", "", cause) or cause
