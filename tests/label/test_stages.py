"""The stages that a runner makes of the job: each costs time, and each with the model loads it."""

import pytest
from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner
from helpers.models import image_file
from helpers.runs import run
from helpers.tfrecords import write_tfrecord

from pipeline.label import job

SHUFFLES = ("beam:transform:group_by_key:v1", "beam:transform:reshuffle:v1")


@pytest.fixture
def described(monkeypatch, flags):
    """A function that describes the job."""

    def describe(*argv, **changed):
        pipelines = []
        with monkeypatch.context() as patch:
            patch.setattr(job, "run_pipeline", lambda pipeline, *_: pipelines.append(pipeline))
            assert run(*argv, **(flags | changed)) == 0
        return pipelines[0].to_runner_api()

    return describe


def stages(proto):
    """The names of the steps of each stage, as the local runner fuses them."""
    _, made = FnApiRunner().create_stages(proto)
    return [[step.unique_name for step in stage.transforms] for stage in made]


def loads(proto):
    """How many stages have the model, on a runner that fuses all that follows a shuffle with it.

    Flink's copies the steps behind a Flatten into the stages of all its inputs.
    """
    steps = [one for one in proto.components.transforms.values() if not one.subtransforms]
    made_by = {output: step for step in steps for output in step.outputs.values()}
    # Of the same stage, since pixels are never shuffled.
    [decode] = [one for one in steps if "ReadAndDecode/ParDo(" in one.unique_name]
    shuffles, behind = set(), list(decode.inputs.values())
    while behind:
        step = made_by[behind.pop()]
        if step.spec.urn in SHUFFLES or not step.inputs:
            shuffles.add(step.unique_name)
        else:
            behind.extend(step.inputs.values())
    return len(shuffles)


@pytest.mark.parametrize(
    ("argv", "most"),
    [
        ([], 5),
        (["--output_format=jsonl,parquet", "--copy_to=copies"], 5),
        (["--truth=truth.csv"], 13),
        (["--incremental", "--limit=3"], 8),
    ],
)
def test_a_job_has_few_stages_and_one_with_the_model(
    described, tmp_path, monkeypatch, photos, argv, most
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "truth.csv").write_text(f"image,label\n{photos}/red-0.png,red\n")
    proto = described(*argv)
    assert loads(proto) == 1
    made = stages(proto)
    assert len(made) <= most, made


@pytest.mark.parametrize("name", ["a.tfrecord", "list.txt", "table.csv"])
def test_images_inside_of_other_files_make_no_second_stage_with_the_model(
    described, tmp_path, name
):
    if name == "a.tfrecord":
        write_tfrecord(tmp_path / name, [("a.png", image_file())])
    else:
        (tmp_path / "a.png").write_bytes(image_file())
        (tmp_path / name).write_text("image\na.png\n")
    proto = described(input=tmp_path / name)
    assert loads(proto) == 1
    assert len(stages(proto)) <= 6


def test_the_next_night_has_few_stages_and_one_with_the_model(described, flags):
    assert run("--incremental", **flags) == 0
    proto = described("--incremental")
    assert loads(proto) == 1
    assert len(stages(proto)) <= 10
