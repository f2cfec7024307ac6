"""Which of a SavedModel's graphs is loaded, on real models of TensorFlow 1."""

import shutil

import numpy as np
import pytest
from helpers.models import COLORS, color_logits, save_frozen, save_graphs, save_model
from helpers.runs import rows, run, write_colors

from pipeline.errors import ModelError
from pipeline.models.files import resolve
from pipeline.models.loading import load_classifier
from pipeline.models.meta_graphs import has_variables, tags_of
from pipeline.models.probing import probe_classifier, probe_extractor
from pipeline.models.spec import Stated
from pipeline.models.tensorflow_import import tf

PIXELS = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)


@pytest.fixture
def labels(tmp_path):
    path = tmp_path / "labels.txt"
    path.write_text("\n".join(COLORS))
    return str(path)


def answers(model, labels):
    """The scores of each class, in order, of three images."""
    found = load_classifier(probe_classifier(model, Stated(labels)), 3)(PIXELS)
    return [dict(zip(row.class_ids, row.scores, strict=True)) for row in found]


def direct(model):
    """What TensorFlow itself says."""
    function = tf.saved_model.load(model).signatures["serving_default"]
    logits = function(image=tf.constant(PIXELS / np.float32(255)))["scores"]
    return [dict(enumerate(row)) for row in tf.nn.softmax(logits).numpy().tolist()]


@pytest.mark.parametrize(
    ("tag_sets", "tags"),
    [
        (((), ("train",)), []),  # a module of TensorFlow 1 Hub
        ((("train",), ()), []),
        ((("serve",), ("train",)), ["serve"]),
        ((("train",), ("serve",), ("eval",)), ["serve"]),
        ((("serve",), ("serve", "tpu")), ["serve"]),
        (((), ("serve",)), ["serve"]),
        (((),), None),
        ((("serve",),), None),
        ((("serve", "gpu"),), None),
        ((("my_own",),), None),
    ],
)
def test_the_graph_for_serving_is_loaded(tmp_path, labels, tag_sets, tags):
    others = [some for some in tag_sets if tags is not None and list(some) != tags]
    model = save_graphs(tmp_path / "m", *tag_sets, noisy=others[0] if others else ())
    assert tags_of(tmp_path / "m") == tags
    expected = tf.nn.softmax(color_logits(PIXELS / np.float32(255))).numpy()
    for found, row in zip(answers(model, labels), expected, strict=True):
        assert found == pytest.approx(dict(enumerate(row)), abs=1e-4)


@pytest.mark.parametrize(
    ("tag_sets", "named"),
    [
        ((("train",),), "[train]"),
        ((("train",), ("eval",)), "[train], [eval]"),
        ((("serve", "tpu"), ("train", "tpu")), "[serve, tpu], [tpu, train]"),
    ],
)
def test_models_without_a_graph_for_serving_are_refused(tmp_path, tag_sets, named):
    model = save_graphs(tmp_path / "m", *tag_sets)
    with pytest.raises(ModelError) as caught:
        probe_classifier(model)
    assert f"has no graph for serving: its graphs have the tags {named};" in str(caught.value)


def test_a_frozen_graph_has_no_variables(tmp_path, labels):
    model = save_frozen(tmp_path / "m")
    assert list((tmp_path / "m" / "variables").iterdir()) == []
    assert not has_variables(tmp_path / "m")
    for found, expected in zip(answers(model, labels), direct(model), strict=True):
        assert found == pytest.approx(expected, abs=1e-4)
    (tmp_path / "m" / "variables").rmdir()  # as git and some archives leave it
    assert answers(model, labels) == answers(save_frozen(tmp_path / "n"), labels)


@pytest.mark.parametrize("emptied", ["m", "hub"])
def test_variables_that_are_missing_are_still_missed(tmp_path, emptied):
    save_model(tmp_path / "m")
    save_graphs(tmp_path / "hub", (), ("train",))
    shutil.rmtree(tmp_path / emptied / "variables")
    (tmp_path / emptied / "variables").mkdir()
    assert has_variables(tmp_path / emptied)
    with pytest.raises(ModelError, match=r"variables/variables\.index is missing"):
        resolve(str(tmp_path / emptied))


def test_a_shard_of_the_variables_that_is_missing(tmp_path):
    data = next((tmp_path / save_model(tmp_path / "m") / "variables").glob("variables.data-*"))
    data.rename(data.with_name("variables.data-00000-of-00002"))
    with pytest.raises(ModelError, match="data-00001-of-00002 is missing"):
        resolve(str(tmp_path / "m"))


@pytest.mark.parametrize("save", [save_frozen, lambda folder: save_graphs(folder, (), ("train",))])
def test_rows_have_the_scores_of_a_direct_call(tmp_path, labels, save):
    model = save(tmp_path / "m")
    images = write_colors(tmp_path / "photos")
    assert run(input=images, model=model, output=tmp_path / "out", labels_file=labels) == 0
    best = np.exp(10) / (np.exp(10) + 2)
    found = rows(tmp_path / "out", "labels")
    assert len(found) == 3
    for row in found:
        assert row["label"] in row["image"]
        assert row["score"] == pytest.approx(best, abs=1e-4)


def test_a_module_of_tensorflow_1_is_a_base_for_finetune(tmp_path):
    spec, _ = probe_extractor(save_graphs(tmp_path / "m", (), ("train",)))
    assert (spec.outputs, spec.signature) == (3, "default")
