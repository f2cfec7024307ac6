import pytest
from helpers.stores import OBJECTS, memory_store

from pipeline.config.commands import LABEL
from pipeline.errors import UsageError
from pipeline.inputs.truth import PARENT
from pipeline.label import elsewhere
from pipeline.models import files
from pipeline.models.probing import probe_classifier

GIVEN = {"input": "gs://b/photos", "model": "gs://b/model", "output": "gs://b/out"}
ON_DATAFLOW = ["--runner=DataflowRunner", "--sdk_container_image=image"]
TMP = "mem://bucket/tmp"


def command(runner=(), **more):
    flags = GIVEN | more
    return LABEL.parse([*(f"--{name}={value}" for name, value in flags.items()), *runner])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("input", "photos"),
        ("input", "/photos/*.jpg"),
        ("input", "file:///photos"),
        ("input", "~/list.txt"),
        ("input", "sample"),
        ("truth", "truth.csv"),
        ("output", "out"),
        ("copy_to", "/sorted"),
        ("http_headers", "headers"),
    ],
)
@pytest.mark.parametrize("runner", ["DataflowRunner", "dataflow"])
def test_a_file_of_this_machine_is_refused(name, value, runner):
    with pytest.raises(UsageError) as caught:
        elsewhere.refuse_local(command([f"--runner={runner}"], **{name: value}))
    assert str(caught.value) == (
        f"{name} {value}: is on this machine, which the workers of Dataflow do not see; copy it to "
        "a bucket, and give its gs:// URI"
    )
    elsewhere.refuse_local(command(**{name: value}))  # and this machine sees it


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("input", "bigquery:SELECT image FROM photos"),
        ("input", "https://example.com/a.jpg"),
        ("input", "s3://b/photos"),
        ("truth", PARENT),
        ("labels_file", "classes.txt"),  # is read before the job begins
        ("model", "sample"),
    ],
)
def test_what_workers_see_is_not_refused(name, value):
    elsewhere.refuse_local(command(ON_DATAFLOW, **{name: value}))


def test_the_images_of_the_sample_are_in_the_image(monkeypatch):
    monkeypatch.setenv("IMAGE", "image")
    elsewhere.refuse_local(command(ON_DATAFLOW, input="sample"))


def test_a_model_of_this_machine_is_staged_once(color_model, monkeypatch):
    spec = probe_classifier(str(color_model))
    config = command([*ON_DATAFLOW, f"--temp_location={TMP}"], model=color_model)
    with memory_store({}):
        staged = elsewhere.with_staged_model(spec, config)
        assert (staged.handle, staged.fingerprint) == (spec.handle, spec.fingerprint)
        assert staged.source == f"{TMP}/models/{spec.fingerprint.replace(':', '-')}"
        assert files.fingerprint(files.resolve(staged.source)) == spec.fingerprint
        before = {name: id(content) for name, content in OBJECTS.items()}
        assert elsewhere.with_staged_model(spec, config) == staged
        assert {name: id(content) for name, content in OBJECTS.items()} == before
        monkeypatch.setenv("IMAGE", "image")  # as in the launcher, where /model is the workers'
        assert elsewhere.with_staged_model(spec, config) is spec


def test_a_model_that_workers_can_read_stays_where_it_is(color_model):
    spec = probe_classifier("sample")
    assert elsewhere.with_staged_model(spec, command(ON_DATAFLOW, model="sample")) is spec
    spec = probe_classifier(str(color_model))
    assert elsewhere.with_staged_model(spec, command(model=color_model)) is spec


def test_a_bucket_that_takes_no_model(color_model):
    config = command([*ON_DATAFLOW, "--temp_location=nowhere://tmp"], model=color_model)
    with pytest.raises(
        UsageError, match=r"^temp_location nowhere://tmp: the model cannot be copied"
    ):
        elsewhere.with_staged_model(probe_classifier(str(color_model)), config)
