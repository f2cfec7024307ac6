import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from helpers.models import (
    color_logits,
    color_probabilities,
    save_extractor,
    save_model,
    write_class_folders,
)

from pipeline import sample
from pipeline.__main__ import main
from pipeline.errors import LabelsError, ModelError
from pipeline.models.files import fingerprint
from pipeline.models.loading import load_classifier
from pipeline.models.preprocessing import Preprocessing
from pipeline.models.probing import probe_classifier, probe_extractor
from pipeline.models.spec import ModelSpec, Stated
from pipeline.models.tensorflow_import import tf


def batch(*colors, size=32):
    """uint8 ``[N, size, size, 3]`` of images of one color each."""
    return np.stack([np.full((size, size, 3), color, np.uint8) for color in colors])


def test_a_classifier(color_model):
    assert probe_classifier(color_model) == ModelSpec(
        handle=color_model,
        fingerprint=fingerprint(Path(color_model)),
        height=32,
        width=32,
        outputs=3,
        labels=("red", "green", "blue"),
        signature="serving_default",
        returns="logits",
        resample="bicubic",
        output="output",
        scale_source="read from its graph",
    )


def test_the_sample():
    spec = probe_classifier("sample")
    assert (spec.height, spec.width, len(spec.labels)) == (224, 224, 10)
    assert spec.returns == "logits"
    assert spec.resample == "bicubic"


@pytest.mark.parametrize(
    ("options", "signature"),
    [
        ({"signatures": ()}, None),
        ({"signatures": ("image_classification",), "is_callable": False}, "image_classification"),
        ({"signatures": ("other", "default")}, "default"),
        ({"signatures": ("only",), "is_callable": False}, "only"),
        ({"outputs": ("a", "b")}, "serving_default"),  # they say the same
    ],
)
def test_signature_or_call(tmp_path, options, signature):
    path = save_model(tmp_path, **options)
    spec = probe_classifier(path)
    assert spec.signature == signature
    (result,) = load_classifier(spec, 1)(batch((0, 255, 0)))
    assert result.class_ids == (1,)


def test_a_keras_3_export_which_is_not_callable(tmp_path):
    import keras

    inputs = keras.Input((32, 32, 3))
    outputs = keras.layers.Softmax()(keras.layers.GlobalAveragePooling2D()(inputs))
    keras.Model(inputs, outputs).export(tmp_path / "m", verbose=False)
    (tmp_path / "labels.txt").write_text("red\ngreen\nblue\n")
    spec = probe_classifier(str(tmp_path / "m"), Stated(str(tmp_path / "labels.txt")))
    assert spec.returns == "probabilities"
    (result,) = load_classifier(spec, 1)(batch((0, 0, 255)))
    assert result.class_ids == (2,)


def test_a_keras_2_model_as_hub_has_them(tmp_path):
    import tf_keras

    # Weights by chance could make numbers from 0 to 1, which may be anything.
    dense = tf_keras.layers.Dense(3, kernel_initializer=tf_keras.initializers.Identity(10.0))
    layers = [tf_keras.layers.GlobalAveragePooling2D(), dense]
    network = tf_keras.Sequential([tf_keras.Input((32, 32, 3)), *layers])
    network.save(tmp_path / "m", save_format="tf")
    (tmp_path / "labels.txt").write_text("a\nb\nc\n")
    spec = probe_classifier(str(tmp_path / "m"), Stated(str(tmp_path / "labels.txt")))
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
    spec = probe_classifier(save_model(tmp_path, shape=shape))
    assert (spec.height, spec.width) == size


def test_preprocessing_says_what_cannot_be_seen(tmp_path):
    # Rows that add up to one, but are logits.
    path = save_model(tmp_path, color_probabilities, shape=(None, None, None, 3))
    assert probe_classifier(path).returns == "probabilities"
    Preprocessing(96, 128, "bilinear", "logits").write(tmp_path)
    spec = probe_classifier(path)
    assert (spec.height, spec.width, spec.resample) == (96, 128, "bilinear")
    assert spec.returns == "logits"
    assert probe_classifier(path, Stated(resample="bicubic")).resample == "bicubic"


def test_labels_from_a_file(tmp_path, color_model):
    (tmp_path / "labels.txt").write_text("rot\ngrün\nblau\n")
    spec = probe_classifier(color_model, Stated(str(tmp_path / "labels.txt")))
    assert spec.labels == ("rot", "grün", "blau")
    (tmp_path / "labels.txt").write_text("rot\n")
    with pytest.raises(LabelsError, match="has 1 labels, but the model returns 3 numbers"):
        probe_classifier(color_model, Stated(str(tmp_path / "labels.txt")))


def error_of(path):
    with pytest.raises(ModelError) as caught:
        probe_classifier(str(path))
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
        (lambda images: color_logits(images) / 0.0, "returns numbers that are not finite"),
    ],
)
def test_models_that_are_no_classifiers(tmp_path, function, described):
    assert described in error_of(save_model(tmp_path, function))


def test_a_model_of_several_labels_an_image(tmp_path):
    path = save_model(tmp_path / "1", lambda images: tf.sigmoid(color_logits(images)))
    assert probe_classifier(path).returns == "sigmoid"  # by its last operation
    path = save_model(tmp_path / "2", lambda images: 0.5 + 0.01 * tf.sin(color_logits(images)))
    assert "returns numbers from 0 to 1 that do not add up to 1" in error_of(path)
    assert "give returns sigmoid" in error_of(path)
    assert probe_classifier(path, Stated(returns="sigmoid")).returns == "sigmoid"
    path = save_model(tmp_path / "3", lambda images: tf.sigmoid(0.0 * color_logits(images) - 0.69))
    assert probe_classifier(path).returns == "sigmoid"  # though three thirds add up to 1


def test_what_is_no_probability_is_not_taken_for_one(tmp_path):
    path = save_model(tmp_path)
    for returns in ("sigmoid", "probabilities"):
        with pytest.raises(ModelError, match="which are no probabilities; leave returns out"):
            probe_classifier(path, Stated(returns=returns))


def test_which_models_give_an_image_several_labels(tmp_path):
    def sigmoid(images):
        return tf.sigmoid(color_logits(images))

    assert probe_classifier(save_model(tmp_path / "1", sigmoid)).is_multi_label
    assert not probe_classifier(save_model(tmp_path / "2")).is_multi_label
    # One number is the probability of the second of two classes.
    binary = save_model(
        tmp_path / "3",
        lambda images: tf.sigmoid(color_logits(images)[:, :1]),
        labels=("other", "red"),
    )
    assert not probe_classifier(binary).is_multi_label


def test_a_model_of_something_else_than_images(tmp_path):
    path = save_model(tmp_path, lambda x: x, shape=(None,), dtype=tf.int64)
    message = error_of(path)
    assert "is not a model of images" in message
    assert "'images': 'int64 (None,)'" in message


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


# Feature vectors


def test_features_are_not_taken_for_classes(tmp_path, fixtures):
    """By their name, or since none of a thousand is negative."""
    with tarfile.open(fixtures / "models" / "mobilenet_v2_feature_vector.tar.gz") as packed:
        packed.extractall(tmp_path / "real", filter="data")
    for path, count in (
        (str(tmp_path / "real"), 1280),
        (save_extractor(tmp_path / "named"), 3),
        (save_model(tmp_path / "m", rectified, labels=None), 300),
    ):
        message = error_of(path)
        assert f"returns {count} features for each image, not classes; python -m pipeline fine" in (
            message
        )
        assert probe_extractor(path)[0].outputs == count


def rectified(images):
    """Like the features of a network, float32 ``[N, 300]``."""
    return tf.repeat(tf.nn.relu(color_logits(images)), 100, 1)


def test_features_with_names_are_classes(tmp_path):
    names = [str(number) for number in range(300)]
    assert probe_classifier(save_model(tmp_path / "m", rectified, labels=names)).outputs == 300
    path = save_model(tmp_path / "n", rectified, labels=None)
    (tmp_path / "names").write_text("\n".join(names))
    assert len(probe_classifier(path, Stated(str(tmp_path / "names"))).labels) == 300


def test_logits_without_names_are_not_taken_for_features(tmp_path):
    path = save_model(
        tmp_path, lambda images: tf.repeat(color_logits(images) - 5.0, 100, 1), labels=None
    )
    with pytest.raises(LabelsError, match="the model has 300 classes and no assets/labels"):
        probe_classifier(path)


def test_a_model_is_called_in_the_scale_that_it_takes(tmp_path):
    """In another scale this one's logits are all from 0 to 1, like those of several labels."""

    def function(images):
        filters = tf.reshape(tf.eye(3), [1, 1, 3, 3])
        return 10.0 * tf.reduce_mean(tf.nn.conv2d(images / 255.0, filters, 1, "SAME"), [1, 2])

    spec = probe_classifier(save_model(tmp_path, function))
    assert (spec.scale, spec.returns) == ("byte", "logits")


# Fingerprints and versions


def test_no_other_model_than_the_one_with_the_fingerprint(tmp_path, color_model):
    right = fingerprint(Path(color_model))
    assert probe_classifier(color_model, Stated(fingerprint=right)).fingerprint == right
    other = save_model(tmp_path / "m", color_probabilities)
    for probe in (probe_classifier, probe_extractor):
        with pytest.raises(ModelError) as caught:
            probe(other, Stated(fingerprint=right))
        message = f"model {other}: is {fingerprint(Path(other))}, not {right}; use that model, or"
        assert message in str(caught.value)


@pytest.mark.parametrize("command", ["label", "check", "finetune"])
def test_every_command_refuses_another_model(tmp_path, color_model, capsys, command):
    wrong = f"sha256:{'0' * 64}"
    argv = [command, "--input", write_class_folders(tmp_path / "photos", count=20)]
    argv += ["--model", color_model, f"--output={tmp_path}/out", "--model_fingerprint", wrong]
    assert main(argv) == 2
    assert (
        f"error: --model {color_model}: is {fingerprint(Path(color_model))}, not {wrong}; use that "
        "model, or give the fingerprint of this one with --model_fingerprint, if you trust it\n"
    ) in capsys.readouterr().err
    assert [path for path in (tmp_path / "out").rglob("*") if path.is_file()] == []


def test_another_model_is_not_even_loaded(tmp_path, color_model):
    path = shutil.copytree(color_model, tmp_path / "m")
    (path / "saved_model.pb").write_bytes(b"garbage")
    with pytest.raises(ModelError, match=r"is sha256:\w+, not sha256:\w+;"):
        probe_classifier(str(path), Stated(fingerprint=fingerprint(Path(color_model))))


def test_a_folder_of_versions_stands_for_its_newest(tmp_path):
    save_model(tmp_path / "export" / "9", color_probabilities)
    newest = save_model(tmp_path / "export" / "10")
    spec = probe_classifier(str(tmp_path / "export"))
    assert (spec.handle, spec.returns) == (newest, "logits")
    # A worker that comes later takes the same one.
    save_model(tmp_path / "export" / "11", color_probabilities)
    assert load_classifier(spec, 1)(batch((255, 0, 0)))[0].class_ids == (0,)


# Plausible, and wrong


def test_a_served_signature_of_something_else_is_not_passed_over(tmp_path):
    module = tf.train.Checkpoint(weight=tf.Variable(1.0))
    images = tf.TensorSpec((None, 32, 32, 3), tf.float32, "images")

    @tf.function(input_signature=[images, tf.TensorSpec((None,), tf.float32, "weight")])
    def serve(images, weight):
        return {"logits": color_logits(images) * weight[:, None]}

    @tf.function(input_signature=[images])
    def other(images):
        return {"logits": -color_logits(images)}

    signatures = {"serving_default": serve, "adversarial": other}
    tf.saved_model.save(module, str(tmp_path / "m"), signatures=signatures)
    (tmp_path / "labels.txt").write_text("red\ngreen\nblue\n")
    assert "is not a model of images" in error_of(tmp_path / "m")
    stated = Stated(str(tmp_path / "labels.txt"), signature="adversarial")
    assert probe_classifier(str(tmp_path / "m"), stated).signature == "adversarial"


@pytest.mark.parametrize(
    ("function", "described"),
    [
        (lambda x: tf.sort(tf.repeat(color_logits(x), 2, 1), 1, "DESCENDING"), "descending order"),
        (lambda x: 100.0 * color_probabilities(x), "add up to 100 for each image"),
    ],
)
def test_numbers_that_are_not_one_for_each_class(tmp_path, function, described):
    assert described in error_of(save_model(tmp_path, function))


@pytest.mark.parametrize("scale", [1.0, 255.0])
def test_a_model_that_takes_blue_first_is_not_said_to_take_red_first(tmp_path, scale):
    path = save_model(tmp_path, lambda images: color_logits(images[..., ::-1] / scale))
    assert probe_classifier(path, Stated(returns="logits")).scale_source == ""


def save_augmented(folder, *layers):
    """A Keras 3 export whose augmentation layers go on working, as they do by default."""
    import keras

    network = keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            *layers,
            keras.layers.Conv2D(3, 3),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Softmax(),
        ]
    )
    network.export(folder, verbose=False)
    (folder / "assets" / "labels.txt").write_text("red\ngreen\nblue\n")
    return network


def test_an_export_with_augmentation_is_read_and_said_to_be_random(tmp_path, capsys):
    import keras

    rescaling = keras.layers.Rescaling(1 / 127.5, -1.0)
    flip, zoom = keras.layers.RandomFlip("horizontal"), keras.layers.RandomZoom(0.1)
    network = save_augmented(tmp_path / "m", flip, zoom, rescaling)
    spec = probe_classifier(str(tmp_path / "m"))
    assert (spec.scale, spec.scale_source) == ("byte", "read from its graph")
    assert "draws random numbers, as augmentation does in training" in capsys.readouterr().err

    archive = keras.export.ExportArchive()
    archive.track(network)
    archive.add_endpoint(
        "serve",
        lambda images: network(images, training=False),
        input_signature=[keras.InputSpec(shape=(None, 32, 32, 3), dtype="float32")],
    )
    archive.write_out(tmp_path / "n", verbose=False)
    shutil.copy(tmp_path / "m" / "assets" / "labels.txt", tmp_path / "n" / "assets")
    assert probe_classifier(str(tmp_path / "n")).scale == "byte"
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("shape", "dtype", "remedy"),
    [
        ((None, 32, 32, 1), tf.float32, "export it behind tf.image.rgb_to_grayscale"),
        ((None, 32, 32, 4), tf.float32, "behind a layer that makes 4 channels of RGB"),
        ((None, 32, 32, 3), tf.int8, "with float32 or uint8 images instead of int8"),
    ],
)
def test_other_images_are_refused_with_what_to_do(tmp_path, shape, dtype, remedy):
    def function(images):
        return tf.reduce_mean(tf.cast(images, tf.float32), [1, 2])

    assert remedy in error_of(save_model(tmp_path, function, shape=shape, dtype=dtype))


def test_a_range_of_its_own_gets_a_warning(tmp_path, capsys):
    probe_classifier(save_model(tmp_path, lambda images: color_logits(images * 37.0 + 400.0)))
    assert "fit none of the scales" in capsys.readouterr().err
