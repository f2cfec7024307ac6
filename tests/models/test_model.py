import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers.models import color_logits, color_probabilities, save_model

from pipeline import sample
from pipeline.errors import LabelsError, ModelError, PredictionError
from pipeline.models import model
from pipeline.models.files import fingerprint
from pipeline.models.model import ModelSpec, inspect, load_classifier
from pipeline.models.preprocessing import Preprocessing
from pipeline.models.tensorflow_import import tf


def batch(*colors, size=32):
    """uint8 ``[N, size, size, 3]`` of images of one color each."""
    return np.stack([np.full((size, size, 3), color, np.uint8) for color in colors])


# inspect


def test_a_classifier(color_model):
    assert inspect(color_model) == ModelSpec(
        handle=color_model,
        fingerprint=fingerprint(Path(color_model)),
        height=32,
        width=32,
        outputs=3,
        labels=("red", "green", "blue"),
        signature="serving_default",
        returns_logits=True,
        resample="bicubic",
    )


def test_the_sample():
    spec = inspect("sample")
    assert (spec.height, spec.width, len(spec.labels)) == (224, 224, 10)
    assert spec.returns_logits
    assert spec.resample == "bicubic"


@pytest.mark.parametrize(
    ("options", "signature"),
    [
        ({"signatures": ()}, None),
        ({"signatures": ("image_classification",), "is_callable": False}, "image_classification"),
        ({"signatures": ("other", "default")}, "default"),
        ({"signatures": ("only",), "is_callable": False}, "only"),
        ({"outputs": ("a", "b")}, None),  # which of the two is it? the call has one
    ],
)
def test_signature_or_call(tmp_path, options, signature):
    path = save_model(tmp_path, **options)
    spec = inspect(path)
    assert spec.signature == signature
    (result,) = load_classifier(spec, 1)(batch((0, 255, 0)))
    assert result.class_ids == (1,)


def test_a_keras_3_export_which_is_not_callable(tmp_path):
    import keras

    inputs = keras.Input((32, 32, 3))
    outputs = keras.layers.Softmax()(keras.layers.GlobalAveragePooling2D()(inputs))
    keras.Model(inputs, outputs).export(tmp_path / "m", verbose=False)
    (tmp_path / "labels.txt").write_text("red\ngreen\nblue\n")
    spec = inspect(str(tmp_path / "m"), str(tmp_path / "labels.txt"))
    assert not spec.returns_logits
    (result,) = load_classifier(spec, 1)(batch((0, 0, 255)))
    assert result.class_ids == (2,)


def test_a_keras_2_model_as_hub_has_them(tmp_path):
    import tf_keras

    layers = [tf_keras.layers.GlobalAveragePooling2D(), tf_keras.layers.Dense(3)]
    network = tf_keras.Sequential([tf_keras.Input((32, 32, 3)), *layers])
    network.save(tmp_path / "m", save_format="tf")
    (tmp_path / "labels.txt").write_text("a\nb\nc\n")
    spec = inspect(str(tmp_path / "m"), str(tmp_path / "labels.txt"))
    images = batch((10, 20, 200), (250, 20, 90))
    expected = tf.nn.softmax(network(images / np.float32(255))).numpy()
    for result, row in zip(load_classifier(spec, 3)(images), expected, strict=True):
        np.testing.assert_allclose(result.scores, sorted(row, reverse=True), rtol=1e-5)


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((None, None, None, 3), (224, 224)),
        ((None, 48, 64, 3), (48, 64)),
        ((None, None, 64, None), (224, 64)),
    ],
)
def test_the_size_is_the_signatures_else_224(tmp_path, shape, size):
    spec = inspect(save_model(tmp_path, shape=shape))
    assert (spec.height, spec.width) == size


def test_preprocessing_says_what_cannot_be_seen(tmp_path):
    # Rows that add up to one, but are logits.
    path = save_model(tmp_path, color_probabilities, shape=(None, None, None, 3))
    assert not inspect(path).returns_logits
    Preprocessing(96, 128, "bilinear", "logits").write(tmp_path)
    spec = inspect(path)
    assert (spec.height, spec.width, spec.resample) == (96, 128, "bilinear")
    assert spec.returns_logits
    assert inspect(path, resample="bicubic").resample == "bicubic"


def test_labels_from_a_file(tmp_path, color_model):
    (tmp_path / "labels.txt").write_text("rot\ngrün\nblau\n")
    assert inspect(color_model, str(tmp_path / "labels.txt")).labels == ("rot", "grün", "blau")
    (tmp_path / "labels.txt").write_text("rot\n")
    with pytest.raises(LabelsError, match="has 1 labels, but the model returns 3 numbers"):
        inspect(color_model, str(tmp_path / "labels.txt"))


def error_of(path):
    with pytest.raises(ModelError) as caught:
        inspect(str(path))
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("function", "described"),
    [
        (lambda images: images, "returns float32 [2, 32, 32, 3] for a batch of 2"),
        (lambda images: tf.reduce_sum(images), "returns float32 [] for a batch of 2"),
        (lambda images: color_logits(images)[:1], "returns float32 [1, 3] for a batch of 2"),
        (lambda images: tf.argmax(color_logits(images), 1), "returns int64 [2] for a batch of 2"),
        (lambda images: tf.cast(color_logits(images), tf.int32), "returns int32 [2, 3]"),
        (lambda images: color_logits(images)[:, :1], "returns one number for each image"),
        (lambda images: color_logits(images) / 0.0, "returns numbers that are not finite"),
    ],
)
def test_models_that_are_no_classifiers(tmp_path, function, described):
    assert described in error_of(save_model(tmp_path, function))


def test_a_model_of_several_labels_an_image_gets_a_warning(tmp_path, capsys):
    inspect(save_model(tmp_path, lambda images: tf.sigmoid(color_logits(images))))
    assert "do not add up to 1, as models do that give an image" in capsys.readouterr().err


def test_a_model_of_something_else_than_images(tmp_path):
    path = save_model(tmp_path, lambda x: x, shape=(None,), dtype=tf.int64)
    message = error_of(path)
    assert "is not a model of images" in message
    assert "'images': 'int64 (None,)'" in message


def test_a_model_of_examples_without_scores(tmp_path):
    message = error_of(save_model(tmp_path / "1", lambda x: x, shape=(None,), dtype=tf.string))
    assert "tfx-bsl cannot pass on the output 'output', strings [N]; export it as [N, 1]" in message
    one = save_model(tmp_path / "2", lambda x: x[:, None], shape=(None,), dtype=tf.string)
    assert "one output with a row of numbers for each image is needed" in error_of(one)


def test_a_model_that_has_no_function(tmp_path):
    tf.saved_model.save(tf.Module(), str(tmp_path))
    assert "its signatures take nothing" in error_of(tmp_path)


def test_a_model_that_fails_on_images(tmp_path):
    def picky(images):
        with tf.control_dependencies([tf.debugging.assert_less(images, 0.0, "too bright")]):
            return color_logits(images)

    assert "fails on images of 32 × 32: assertion failed: [too bright]" in error_of(
        save_model(tmp_path, picky)
    )


@pytest.mark.parametrize("content", [b"", b"garbage" * 100])
def test_a_graph_that_cannot_be_loaded(tmp_path, color_model, content):
    path = shutil.copytree(color_model, tmp_path / "m")
    (path / "saved_model.pb").write_bytes(content)
    assert "cannot be loaded" in error_of(path)


def test_variables_that_are_cut_off(tmp_path):
    shutil.copytree(sample.MODEL_DIR, tmp_path / "m")
    (data,) = (tmp_path / "m" / "variables").glob("variables.data-*")
    data.write_bytes(data.read_bytes()[:1000])
    assert "cannot be loaded" in error_of(tmp_path / "m")


# Classifier


def test_best_classes_first_with_probabilities(color_model):
    classifier = load_classifier(inspect(color_model), top_k=2)
    red, mixed = classifier(batch((255, 0, 0), (0, 51, 102)))
    logits = np.exp([10.0, 0, 0])
    assert red.class_ids == (0, 1)
    np.testing.assert_allclose(red.scores, (logits / logits.sum())[:2], rtol=1e-4)
    logits = np.exp([4.0, 2.0, 0.0])
    assert mixed.class_ids == (2, 1)
    np.testing.assert_allclose(mixed.scores, (logits / logits.sum())[:2], rtol=1e-4)


def test_softmax_is_applied_once(tmp_path, color_model):
    probabilities = inspect(save_model(tmp_path, color_probabilities))
    images = batch((255, 0, 0), (9, 80, 30))
    for a, b in zip(
        load_classifier(probabilities, 3)(images),
        load_classifier(inspect(color_model), 3)(images),
        strict=True,
    ):
        assert a.class_ids == b.class_ids
        np.testing.assert_allclose(a.scores, b.scores, rtol=1e-5)


def test_more_than_all_classes_are_all(color_model):
    (result,) = load_classifier(inspect(color_model), top_k=99)(batch((0, 0, 255)))
    assert len(result.class_ids) == len(result.scores) == 3


def test_a_batch_of_any_size(color_model):
    classifier = load_classifier(inspect(color_model), 1)
    for n in (1, 2, 7, 64):
        assert [r.class_ids for r in classifier(batch(*[(0, 255, 0)] * n))] == [(1,)] * n


def only_in_large_batches(otherwise):
    """Well behaved when probed with two images, not with more."""
    return lambda images: tf.cond(
        tf.shape(images)[0] > 2, lambda: otherwise(images), lambda: color_logits(images)
    )


@pytest.mark.parametrize(
    ("otherwise", "message"),
    [
        (lambda images: color_logits(images)[1:], "returned 2 results for a batch of 3 images"),
        (lambda images: color_logits(images) / 0.0, "not finite"),
        (
            lambda images: tf.matmul(color_logits(images), tf.ones([tf.shape(images)[0] + 1, 3])),
            r"the model fails on a batch of 3 images: Matrix size-incompatible: In\[0\]: \[3,3\]",
        ),
    ],
)
def test_a_model_that_goes_wrong_later(tmp_path, otherwise, message):
    classifier = load_classifier(inspect(save_model(tmp_path, only_in_large_batches(otherwise))), 3)
    with pytest.raises(PredictionError, match=message):
        classifier(batch(*[(0, 0, 0)] * 3))


# load_classifier


def test_another_model_under_the_same_handle_is_refused(tmp_path):
    spec = inspect(save_model(tmp_path / "m"))
    shutil.rmtree(tmp_path / "m")
    save_model(tmp_path / "m", lambda images: -color_logits(images))
    with pytest.raises(ModelError, match=f"on this worker, but was {spec.fingerprint}"):
        load_classifier(spec, 1)


def test_a_model_saved_anew_in_the_same_folder_is_the_new_model(tmp_path):
    save_model(tmp_path / "m")
    inspect(str(tmp_path / "m"))
    shutil.rmtree(tmp_path / "m")
    save_model(tmp_path / "m", lambda images: -color_logits(images))
    spec = inspect(str(tmp_path / "m"))
    (result,) = load_classifier(spec, 3)(batch((255, 0, 0)))
    assert result.class_ids[-1] == 0


def test_the_launchers_model_is_not_loaded_a_second_time(color_model, monkeypatch):
    spec = inspect(color_model)
    monkeypatch.setattr(tf.saved_model, "load", None)
    assert load_classifier(spec, 1) is not None


def test_what_failed():
    assert model.what_failed(ValueError("\n one\n two")) == "one"
    assert model.what_failed(ValueError()) == "ValueError"
