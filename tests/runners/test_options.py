import json

import pytest
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
from google.protobuf import json_format

from pipeline.errors import UsageError
from pipeline.runners.options import LOCAL_RUNNER, beam_options, new_pipeline
from pipeline.storage.client_options import ClientOptions


@pytest.mark.parametrize("beam_args", [(), ("--runner=DirectRunner",), ("--runner=direct",)])
def test_the_local_runner_is_pinned(beam_args):
    assert beam_options(beam_args).view_as(StandardOptions).runner == LOCAL_RUNNER


def test_another_runner_is_left_alone():
    options = beam_options(("--runner=FlinkRunner",))
    assert options.view_as(StandardOptions).runner == "FlinkRunner"


@pytest.mark.parametrize(
    ("beam_args", "message"),
    [
        (("--runner=NoRunner",), "Unexpected pipeline runner: NoRunner"),
        (("--runner=DataflowRunner",), "Missing required option: project"),
    ],
)
def test_what_beam_refuses_is_a_line(beam_args, message):
    with pytest.raises(UsageError, match=message) as caught:
        new_pipeline(beam_args)
    assert "\n" not in str(caught.value)


def test_options_reach_workers_in_processes_of_their_own():
    """FnApiRunner itself gives them none."""
    flags = ["--http_user_agent=Me 1.0", "--http_trusted=127.0.0.1:80", "--anonymous"]
    pipeline = new_pipeline((*flags, "--direct_num_workers=2"))
    sent = json_format.MessageToJson(
        pipeline.runner._provision_info.provision_info.pipeline_options
    )
    given = PipelineOptions.from_dictionary(json.loads(sent)).view_as(ClientOptions)
    assert given.http_user_agent == "Me 1.0"
    assert given.http_trusted == ["127.0.0.1:80"]
    assert given.anonymous and not given.allow_private_addresses
