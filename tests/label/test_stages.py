"""The stages that a runner makes of the job: each costs time, and each with the model loads it."""

import pytest
from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner
from helpers.models import image_file
from helpers.runs import run
from helpers.tfrecords import write_tfrecord

from pipeline.label import job


@pytest.fixture
def stages(monkeypatch, flags):
    """A function that describes the job, and returns the names of the transforms of each stage."""

    def describe(*argv, **changed):
        pipelines = []
        with monkeypatch.context() as patch:
            patch.setattr(job, "run_pipeline", pipelines.append)
            assert run(*argv, **(flags | changed)) == 0
        _, made = FnApiRunner().create_stages(pipelines[0].to_runner_api())
        return [[transform.unique_name for transform in stage.transforms] for stage in made]

    return describe


def with_model(stages):
    return sum(any("RunInference" in name for name in stage) for stage in stages)


@pytest.mark.parametrize(
    ("argv", "most"),
    [
        ([], 16),
        (["--incremental"], 16),
        (["--truth=truth.csv"], 32),
        (["--incremental", "--limit=3"], 32),
    ],
)
def test_a_job_has_few_stages_and_one_with_the_model(
    stages, tmp_path, monkeypatch, photos, argv, most
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "truth.csv").write_text(f"image,label\n{photos}/red-0.png,red\n")
    described = stages(*argv)
    assert with_model(described) == 1
    assert len(described) <= most, described


@pytest.mark.parametrize("name", ["a.tfrecord", "list.txt", "table.csv"])
def test_images_inside_of_other_files_make_no_second_stage_with_the_model(stages, tmp_path, name):
    if name == "a.tfrecord":
        write_tfrecord(tmp_path / name, [("a.png", image_file())])
    else:
        (tmp_path / "a.png").write_bytes(image_file())
        (tmp_path / name).write_text("image\na.png\n")
    assert with_model(stages(input=tmp_path / name)) == 1
