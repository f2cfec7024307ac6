import pytest
from apache_beam.options.pipeline_options import StandardOptions

from pipeline.errors import UsageError
from pipeline.running import LOCAL_RUNNER, beam_options, new_pipeline, versions


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


def test_versions():
    assert set(versions()) - {"cykooz-resizer"} == {  # which is not everywhere
        *("image-labeling", "python", "apache-beam", "tensorflow", "numpy", "pillow")
    }
