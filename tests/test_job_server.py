"""A job server's options, asked of one that answers as Beam's own for Flink does."""

import socket
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from apache_beam.portability.api import beam_job_api_pb2 as job_api
from apache_beam.portability.api import beam_job_api_pb2_grpc
from apache_beam.runners.portability.portable_runner import JobServiceHandle

from pipeline.config.commands import LABEL
from pipeline.errors import UsageError
from pipeline.runners.options import new_pipeline

FLAGS = ["--input=in", "--model=m", "--output=out", "--runner=PortableRunner"]
TYPE = job_api.PipelineOptionType


class Server(beam_job_api_pb2_grpc.JobServiceServicer):
    """What Flink's job server says of four of its options."""

    def DescribePipelineOptions(self, request, context):
        of = job_api.PipelineOptionDescriptor
        return job_api.DescribePipelineOptionsResponse(
            options=[
                of(name="number_of_execution_retries", type=TYPE.INTEGER, default_value="-1"),
                of(name="object_reuse", type=TYPE.BOOLEAN, default_value="false"),
                of(name="execution_mode_for_batch", type=TYPE.STRING, default_value="PIPELINED"),
                of(name="files_to_stage", type=TYPE.ARRAY),
                of(name="parallelism", type=TYPE.INTEGER, default_value="-1"),
            ]
        )


@pytest.fixture(scope="module")
def endpoint():
    server = grpc.server(ThreadPoolExecutor(2))
    beam_job_api_pb2_grpc.add_JobServiceServicer_to_server(Server(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None)


@pytest.fixture
def free_port():
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


def test_what_the_job_server_knows_reaches_it(endpoint):
    given = [
        *("--number_of_execution_retries=3", "--object_reuse", "--files_to_stage", "a.jar"),
        *("--execution_mode_for_batch=BATCH", "--parallelism=2"),
    ]
    config = LABEL.parse([*FLAGS, f"--job_endpoint={endpoint}", *given])
    assert config.beam_args[2:] == tuple(given)
    pipeline = new_pipeline(config.all_beam_args)
    channel = grpc.insecure_channel(endpoint)
    stub = beam_job_api_pb2_grpc.JobServiceStub(channel)
    sent = JobServiceHandle(stub, pipeline.options).get_pipeline_options()
    names = ("number_of_execution_retries", "object_reuse", "execution_mode_for_batch")
    values = [sent[f"beam:option:{name}:v1"] for name in (*names, "parallelism")]
    assert values == ["3", True, "BATCH", "2"]
    assert list(sent["beam:option:files_to_stage:v1"]) == ["a.jar"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            "--number_of_execution_retriez=3",
            "did you mean --number_of_execution_retries.* the job server at .* does not know it",
        ),
        ("--top_n=1", "did you mean --top_k"),
        ("--number_of_execution_retries=many", "invalid int value: 'many'"),
        ("--object_reuse=yes", "ignored explicit argument 'yes'"),
    ],
)
def test_what_nobody_knows_is_refused(endpoint, given, message):
    with pytest.raises(UsageError, match=message) as caught:
        LABEL.parse([*FLAGS, f"--job_endpoint={endpoint}", given])
    assert "\n" not in str(caught.value)


def test_no_job_server_is_a_line(free_port):
    beam_args = ("--runner=PortableRunner", f"--job_endpoint=127.0.0.1:{free_port}")
    for refused in (
        lambda: LABEL.parse([*FLAGS, beam_args[1], "--object_reuse"]),
        lambda: new_pipeline(beam_args),
    ):
        with pytest.raises(UsageError, match=r"no job server answers there: .*refused") as caught:
            refused()
        assert "\n" not in str(caught.value)


def test_nobody_is_asked_without_need(free_port):
    LABEL.parse([*FLAGS, f"--job_endpoint=127.0.0.1:{free_port}", "--parallelism=2"])
