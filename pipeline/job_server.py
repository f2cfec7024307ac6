"""Asks a job server of Beam for the options that it knows."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from pipeline.errors import UsageError

if TYPE_CHECKING:
    from apache_beam.portability.api import beam_job_api_pb2

# Seconds for one answer, and for a job server that is just being started.
_TIMEOUT = 10.0
_PATIENCE = 3.0


def options_of(endpoint: str) -> list[beam_job_api_pb2.PipelineOptionDescriptor]:
    """Return the options that a job server knows; Prism knows none of its own.

    Args:
      endpoint: ``host:port``.

    Raises:
      UsageError: nobody answers there, or somebody else.
    """
    # Beam takes seconds to import; not for --help.
    import grpc
    from apache_beam.portability.api import beam_job_api_pb2, beam_job_api_pb2_grpc

    started = time.monotonic()
    with grpc.insecure_channel(endpoint) as channel:
        stub = beam_job_api_pb2_grpc.JobServiceStub(channel)
        request = beam_job_api_pb2.DescribePipelineOptionsRequest()
        while True:
            try:
                return list(stub.DescribePipelineOptions(request, timeout=_TIMEOUT).options)
            except grpc.RpcError as error:
                waited = time.monotonic() - started
                if error.code() == grpc.StatusCode.UNIMPLEMENTED:
                    return []
                if error.code() != grpc.StatusCode.UNAVAILABLE or waited > _PATIENCE:
                    raise UsageError(
                        f"no job server answers there: {in_one_line(error)}",
                        subject="job_endpoint",
                        given=endpoint,
                        remedy="start it, or give its address",
                    ) from error
            time.sleep(0.5)


def in_one_line(error: Any) -> str:
    """Return what a call of gRPC raised as one line."""
    said = error.details() or error.code().name
    return " ".join(said.rpartition("last error: ")[2].split())
