"""Beam's worker pool, on one address.

``apache_beam.runners.worker.worker_pool_main`` listens on all addresses of the machine, and starts
whatever code it is told to. On a machine with several TaskManagers, each needs a pool of its own at
the same port, and none of them should be reachable from outside.

Usage: ``python worker_pool.py 127.0.0.1:50000``
"""

import os
import signal
import sys
import threading
from pathlib import Path

import grpc
from apache_beam.portability.api import beam_fn_api_pb2_grpc
from apache_beam.runners.worker.worker_pool_main import BeamFnExternalWorkerPoolServicer
from apache_beam.utils.thread_pool_executor import shared_unbounded_instance


def serve(address: str) -> None:
    """Start workers when a TaskManager asks for them, until SIGTERM; then end them, too.

    Raises:
      RuntimeError: the address is taken.
    """
    # The pool starts workers as "python", whichever comes first.
    os.environ["PATH"] = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    # Without this, a second pool at the same address would get half of the first one's workers.
    server = grpc.server(shared_unbounded_instance(), options=[("grpc.so_reuseport", 0)])
    pool = BeamFnExternalWorkerPoolServicer(use_process=True)
    beam_fn_api_pb2_grpc.add_BeamFnExternalWorkerPoolServicer_to_server(pool, server)
    server.add_insecure_port(address)
    server.start()
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    stopped.wait()
    server.stop(0)
    for worker in list(pool._worker_processes.values()):
        worker.kill()
        worker.wait()


if __name__ == "__main__":
    serve(sys.argv[1])
