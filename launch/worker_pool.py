#!/usr/bin/env python
"""A pool of Python workers for a portable runner, such as Flink: ``--environment_type=EXTERNAL``.

Beam's ``apache_beam.runners.worker.worker_pool_main`` does the same with other defaults: it listens
on all addresses of the machine, starts the first ``python`` on PATH, and does not bring the
pipeline's options to the workers: headers of requests, addresses of stores, and the like. As with
it, nothing is installed: this package must be there.

Each TaskManager needs a pool of its own: a pool tells its workers apart by their ids, which repeat
from one TaskManager to the next.

Usage: ``python launch/worker_pool.py 127.0.0.1:50000``
"""

import argparse
import os
import signal
import sys
import tempfile
import threading
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

SECONDS_BETWEEN_LOOKS = 2


class Pool(BeamFnExternalWorkerPoolServicer):
    """Beam's pool, which also sees to the workers that no TaskManager stops."""

    def StartWorker(self, start_worker_request, unused_context):  # noqa: D102
        # A worker of this id belongs to a TaskManager that died: the next one counts from 1 again.
        self._end(start_worker_request.worker_id)
        return super().StartWorker(start_worker_request, unused_context)

    def reap(self) -> None:
        """Let go of the workers that have ended by themselves."""
        for name, process in list(self._worker_processes.items()):
            if process.poll() is not None and self._worker_processes.get(name) is process:
                del self._worker_processes[name]

    def end_all(self) -> None:
        """End all workers."""
        for name in list(self._worker_processes):
            self._end(name)

    def _end(self, name: str) -> None:
        process = self._worker_processes.pop(name, None)
        if process is not None:
            process.kill()
            process.wait()


def serve(address: str) -> None:
    """Start workers when a runner asks for them, until SIGTERM; then end them, too.

    Raises:
      RuntimeError: the address is taken.
    """
    # The pool starts this file again for each worker.
    os.environ["PATH"] = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    pool = Pool(use_process=True, container_executable=str(Path(__file__).resolve()))
    # Otherwise a second pool at the same address would get half of the first one's workers.
    server = grpc.server(shared_unbounded_instance(), options=[("grpc.so_reuseport", 0)])
    beam_fn_api_pb2_grpc.add_BeamFnExternalWorkerPoolServicer_to_server(pool, server)
    server.add_insecure_port(address)
    server.start()
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    while not stopped.wait(SECONDS_BETWEEN_LOOKS):
        pool.reap()
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
    if len(sys.argv) == 2:
        serve(sys.argv[1])
    else:
        work(sys.argv[1:])
