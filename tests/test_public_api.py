"""What other people's pipelines import: the names, their types, and errors without flags."""

import inspect
import subprocess
import sys

import apache_beam as beam
import pytest
from helpers import ROOT

import pipeline
from pipeline import errors

NAMES = {
    "LabelImages",
    "LabeledImages",
    "Labeled",
    "Prediction",
    "Failure",
    "Reason",
    "ImageRef",
    "Limits",
    "Execution",
}
ERRORS = {
    name
    for name, value in vars(errors).items()
    if inspect.isclass(value) and issubclass(value, errors.LabelingError)
}


def test_the_names():
    assert sorted(pipeline.__all__) == sorted(NAMES | ERRORS)


@pytest.mark.parametrize("name", sorted(NAMES | ERRORS))
def test_a_name_can_be_imported(name):
    scope = {}
    exec(f"from pipeline import {name}", scope)
    assert inspect.isclass(scope[name])
    assert scope[name].__name__ == name
    assert scope[name].__doc__


def test_other_names_are_not_there():
    with pytest.raises(AttributeError, match="no attribute 'Labelled'"):
        pipeline.Labelled  # noqa: B018


def test_beam_is_imported_when_it_is_needed():
    code = (
        "import sys, pipeline\n"
        "pipeline.Labeled, pipeline.Reason, pipeline.UsageError, pipeline.Limits\n"
        "print({'apache_beam', 'tensorflow'} & sys.modules.keys())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"


def test_the_types_are_shipped(tmp_path):
    command = [sys.executable, "setup.py", "-q", "egg_info", f"--egg-base={tmp_path}"]
    command += ["build_py", f"--build-lib={tmp_path / 'lib'}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "lib" / "pipeline" / "py.typed").is_file()


@pytest.mark.parametrize(
    ("arguments", "subject"),
    [
        ({"model": "absent"}, "model"),
        ({"model": "sample", "labels_file": "absent.txt"}, "labels_file"),
        ({"model": "sample", "signature": "absent"}, "signature"),
    ],
)
def test_errors_name_arguments_and_not_flags(arguments, subject, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    wired = beam.Pipeline() | beam.Create(["a.jpg"])
    with pytest.raises(pipeline.UsageError) as caught:
        _ = wired | pipeline.LabelImages(**arguments)
    assert subject in str(caught.value)
    assert "--" not in str(caught.value)
