#!/usr/bin/env python
"""A pool of Python workers for a portable runner, such as Flink: ``--environment_type=EXTERNAL``.

Beam's ``apache_beam.runners.worker.worker_pool_main`` does the same with other defaults: it listens
on all addresses of the machine, starts the first ``python`` on PATH, and does not bring the
pipeline's options to the workers: headers of requests, addresses of stores, and the like. As with
it, nothing is installed: this package must be there.

Each TaskManager needs a pool of its own: a pool tells its workers apart by their ids, which repeat
from one TaskManager to the next.

Usage: ``python launch/worker_pool.py 127.0.0.1:50000 [flink:8081]``

With the address of Flink's REST interface, the pool ends workers whose job has ended, in case Flink
forgets them.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import urllib.request
from pathlib import Path

import grpc
from apache_beam.portability.api import (
    beam_fn_api_pb2_grpc,
    beam_provision_api_pb2,
    beam_provision_api_pb2_grpc,
)
from apache_beam.runners.worker import sdk_worker_main
from apache_beam.runners.worker.worker_pool_main import BeamFnExternalWorkerPoolServicer
from apache_beam.utils.thread_pool_executor import shared_unbounded_instance
from google.protobuf import json_format

SECONDS_BETWEEN_LOOKS = 5

# Flink's states of a job that has ended.
ENDED = frozenset(["FINISHED", "FAILED", "CANCELED"])

# Without a proxy.
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Pool(BeamFnExternalWorkerPoolServicer):
    """Beam's pool, which also ends the workers that Beam leaves behind.

    A TaskManager that dies stops none. One that lives forgets a worker if its task is canceled
    while it waits for that worker to start (``FlinkExecutableStageFunction.open``), which happens
    when Flink tries a job again.
    """

    def __init__(self, flink: str | None) -> None:
        super().__init__(use_process=True, container_executable=str(Path(__file__).resolve()))
        self._flink = flink
        self._jobs: dict[subprocess.Popen, set[str]] = {}

    def StartWorker(self, start_worker_request, unused_context):  # noqa: D102
        name = start_worker_request.worker_id
        # A worker of this id belongs to a TaskManager that died: the next one counts from 1 again.
        self._end(name)
        jobs = self._running_jobs()
        response = super().StartWorker(start_worker_request, unused_context)
        if jobs and name in self._worker_processes:
            self._jobs[self._worker_processes[name]] = jobs
        return response

    def look(self) -> None:
        """Let go of the workers that have ended, and end those whose job has ended."""
        running = self._running_jobs() if self._jobs else None
        for name, process in list(self._worker_processes.items()):
            its_jobs = self._jobs.get(process)
            if running is not None and its_jobs is not None and not its_jobs & running:
                process.kill()
                process.wait()
            if process.poll() is not None and self._worker_processes.get(name) is process:
                del self._worker_processes[name]
        self._jobs = {
            process: jobs for process, jobs in list(self._jobs.items()) if process.poll() is None
        }

    def end_all(self) -> None:
        """End all workers."""
        for name in list(self._worker_processes):
            self._end(name)

    def _end(self, name: str) -> None:
        process = self._worker_processes.pop(name, None)
        if process is not None:
            process.kill()
            process.wait()

    def _running_jobs(self) -> set[str] | None:
        """The ids of the jobs that have not ended; None if Flink does not say.

        https://nightlies.apache.org/flink/flink-docs-release-1.19/docs/ops/rest_api/
        """
        if self._flink is None:
            return None
        try:
            with _DIRECT.open(f"http://{self._flink}/jobs", timeout=5) as answer:
                jobs = json.load(answer)["jobs"]
        except OSError:
            return None
        return {job["id"] for job in jobs if job["status"] not in ENDED}


def serve(address: str, flink: str | None = None) -> None:
    """Start workers when a runner asks for them, until SIGTERM; then end them, too.

    Raises:
      RuntimeError: the address is taken.
    """
    # The pool starts this file again for each worker.
    os.environ["PATH"] = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    pool = Pool(flink)
    # Otherwise a second pool at the same address would get half of the first one's workers.
    server = grpc.server(shared_unbounded_instance(), options=[("grpc.so_reuseport", 0)])
    beam_fn_api_pb2_grpc.add_BeamFnExternalWorkerPoolServicer_to_server(pool, server)
    server.add_insecure_port(address)
    server.start()
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    while not stopped.wait(SECONDS_BETWEEN_LOOKS):
        pool.look()
    server.stop(0)
    pool.end_all()


def work(argv: list[str]) -> None:
    """Become a worker, with the options of the job, as Beam's containers do.

    The arguments and the environment are those of
    https://github.com/apache/beam/blob/master/sdks/python/container/boot.go
    """
    parser = argparse.ArgumentParser()
    for name in ("id", "logging_endpoint", "artifact_endpoint", "provision_endpoint"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--control_endpoint")
    given = parser.parse_args(argv)
    with grpc.insecure_channel(given.provision_endpoint) as channel:
        provision = beam_provision_api_pb2_grpc.ProvisionServiceStub(channel)
        info = provision.GetProvisionInfo(
            beam_provision_api_pb2.GetProvisionInfoRequest(),
            metadata=[("worker_id", given.id)],
            timeout=60,
        ).info
    # As a file, since a long list of inputs does not fit into the environment of child processes.
    with tempfile.TemporaryFile("w") as options:
        options.write(json_format.MessageToJson(info.pipeline_options))
        options.seek(0)
        logging = info.logging_endpoint.url or given.logging_endpoint
        control = info.control_endpoint.url or given.control_endpoint
        os.environ |= {
            "WORKER_ID": given.id,
            "PIPELINE_OPTIONS_FILE": f"/dev/fd/{options.fileno()}",
            "LOGGING_API_SERVICE_DESCRIPTOR": f'url: "{logging}"',
            "CONTROL_API_SERVICE_DESCRIPTOR": f'url: "{control}"',
            "RUNNER_CAPABILITIES": " ".join(info.runner_capabilities),
        }
        os.dup2(2, 1)  # nobody reads the pipe to the pool
        try:
            sdk_worker_main.main([])
        finally:
            # When the TaskManager has died, threads that wait for it would keep this process.
            os._exit(1)


if __name__ == "__main__":
    if sys.argv[1].startswith("--"):
        work(sys.argv[1:])
    else:
        serve(*sys.argv[1:])
