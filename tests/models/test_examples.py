"""Models of serialized tf.Examples, and TFRecord files of them as input, in the label job."""

import json
from pathlib import Path

import numpy as np
import pytest
from helpers.models import COLORS, color_logits, color_probabilities, image_file
from helpers.tfrecords import write_tfrecord

from pipeline.__main__ import main
from pipeline.errors import ImageError, ModelError
from pipeline.models.examples import check_decodable, to_example, to_file
from pipeline.models.loading import load_classifier
from pipeline.models.preprocessing import Preprocessing
from pipeline.models.probing import probe_classifier
from pipeline.models.spec import Stated, Takes
from pipeline.models.tensorflow_import import tf


def rows(output, name="labels"):
    files = sorted(Path(output).glob(f"{name}-*-of-*.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def save_example_model(folder, function=color_probabilities, with_images=False, extra=False):
    """A model whose signature takes tf.Examples, as TFX exports them; labels as in ``COLORS``."""

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, "examples")])
    def serve(examples):
        feature = {"image/encoded": tf.io.FixedLenFeature([], tf.string)}
        encoded = tf.io.parse_example(examples, feature)["image/encoded"]
        images = tf.map_fn(
            lambda data: tf.image.resize(
                tf.io.decode_image(data, channels=3, expand_animations=False), [32, 32]
            ),
            encoded,
            fn_output_signature=tf.TensorSpec((32, 32, 3), tf.float32),
        )
        more = {"names": tf.fill([tf.size(encoded), 1], "x")} if extra else {}
        return {"scores": function(images / 255.0)} | more

    @tf.function(input_signature=[tf.TensorSpec((None, 32, 32, 3), tf.float32, "images")])
    def serve_images(images):
        return {"scores": function(images)}

    module = tf.train.Checkpoint(weight=tf.Variable(1.0))
    signatures = {"serving_default": serve}
    if with_images:
        signatures = {"serving_default": serve_images, "serving_examples": serve}
    tf.saved_model.save(module, str(folder), signatures=signatures)
    (folder / "assets").mkdir(exist_ok=True)
    (folder / "assets" / "labels.txt").write_text("\n".join(COLORS))
    return str(folder)


@pytest.fixture(scope="module")
def example_model(tmp_path_factory):
    return save_example_model(tmp_path_factory.mktemp("models") / "m", extra=True)


def test_a_model_of_examples_is_recognized(example_model):
    spec = probe_classifier(example_model)
    assert (spec.signature, spec.takes) == ("serving_default", Takes.EXAMPLES)
    assert spec.output == "scores"
    assert spec.labels == ("red", "green", "blue")
    assert spec.returns == "probabilities"
    assert spec.decodes


def test_images_are_preferred_and_the_other_can_be_asked_for(tmp_path):
    path = save_example_model(tmp_path, with_images=True)
    assert probe_classifier(path).takes is Takes.IMAGES
    spec = probe_classifier(path, Stated(signature="serving_examples"))
    assert (spec.signature, spec.takes) == ("serving_examples", Takes.EXAMPLES)
    with pytest.raises(ModelError, match="has no signature 'x'; it has serving_default, serving_"):
        probe_classifier(path, Stated(signature="x"))


@pytest.mark.parametrize("function", [color_logits, color_probabilities])
def test_best_classes_first_with_probabilities(tmp_path, function):
    classifier = load_classifier(probe_classifier(save_example_model(tmp_path, function)), top_k=2)
    results = classifier([to_example(image_file(color)) for color in ("blue", "red")])
    assert [result.class_ids[0] for result in results] == [2, 0]
    logits = np.exp([10.0, 0.0, 0.0])
    np.testing.assert_allclose(results[0].scores, (logits / logits.sum())[:2], rtol=1e-4)


def test_pixels_arrive_as_they_are():
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    feature = tf.train.Example.FromString(to_example(to_file(pixels))).features.feature
    data = feature["image/encoded"].bytes_list.value[0]
    np.testing.assert_array_equal(tf.io.decode_image(data, channels=3), pixels)


def test_what_tensorflow_cannot_decode():
    check_decodable(image_file("red", "JPEG"))
    with pytest.raises(ImageError, match=r"unsupported_format: .* TensorFlow cannot"):
        check_decodable(image_file("red", "TIFF"))


def write_photos(folder):
    folder.mkdir()
    for color in COLORS:
        (folder / f"{color}.jpg").write_bytes(image_file(color, "JPEG"))
    (folder / "green.tif").write_bytes(image_file("green", "TIFF"))
    (folder / "cut.jpg").write_bytes(image_file("red", "JPEG", (200, 200))[:900])
    return str(folder)


def label(output, **flags):
    argv = [f"--{name}={value}" for name, value in (flags | {"output": output}).items()]
    return main(["label", *argv, "--max_failure_ratio=0.5"])


def test_one_bad_image_fails_alone(tmp_path, example_model):
    out = tmp_path / "out"
    assert label(out, input=write_photos(tmp_path / "p"), model=example_model) == 0
    labeled = {Path(row["image"]).stem: row["label"] for row in rows(out)}
    assert labeled == {color: color for color in COLORS}
    failed = {Path(row["image"]).name: row["reason"] for row in rows(out, "failures")}
    assert failed == {"cut.jpg": "truncated", "green.tif": "unsupported_format"}
    assert "image/encoded" not in "".join(map(str, rows(out)))


def test_a_precision_that_tfx_bsl_does_not_know_is_refused(tmp_path, example_model, capsys):
    photos = write_photos(tmp_path / "p")
    flags = {"input": photos, "model": example_model, "precision": "bfloat16"}
    assert label(tmp_path / "out", **flags) == 2
    message = capsys.readouterr().err
    assert f"error: --model {example_model}: takes tf.Examples, and runs through tfx-bsl" in message
    assert message.endswith("; leave out --precision and --xla\n")


def test_both_handlers_give_the_same_rows(tmp_path):
    """A model that says its size is given the very pixels that the other handler gets."""
    model = save_example_model(tmp_path / "m", with_images=True)
    Preprocessing(32, 32, "bicubic", "probabilities").write(tmp_path / "m")
    photos = write_photos(tmp_path / "p")
    for name in ("serving_default", "serving_examples"):
        assert label(tmp_path / name, input=photos, model=model, signature=name) == 0
    a, b = (
        sorted(rows(tmp_path / name), key=lambda row: row["image"])
        for name in ("serving_default", "serving_examples")
    )
    assert len(a) == len(b) == 4
    for left, right in zip(a, b, strict=True):
        assert list(left) == list(right)
        assert [p["class_id"] for p in left["predictions"]] == [
            p["class_id"] for p in right["predictions"]
        ]
        assert left["score"] == pytest.approx(right["score"], abs=1e-5)


@pytest.mark.parametrize("suffix", [".tfrecord", ".tfrecord.gz", ".tfrecord-00000-of-00001"])
def test_tfrecords_as_input(tmp_path, color_model, suffix):
    named = [(f"{color}.jpg", image_file(color, "JPEG")) for color in COLORS]
    path = write_tfrecord(tmp_path / f"a{suffix}", [*named, (None, image_file()), ("bad", b"")])
    assert label(tmp_path / "out", input=path, model=color_model) == 0
    labeled = {row["image"]: row["label"] for row in rows(tmp_path / "out")}
    assert labeled == {
        "red.jpg": "red",
        "green.jpg": "green",
        "blue.jpg": "blue",
        f"{path}#3": "red",
    }
    (failed,) = rows(tmp_path / "out", "failures")
    assert (failed["image"], failed["reason"]) == ("bad", "empty")


def test_tfrecords_and_images_together_through_both_handlers(tmp_path, color_model, example_model):
    write_tfrecord(tmp_path / "a.tfrecord", [("x.jpg", image_file("blue", "JPEG"))])
    (tmp_path / "y.jpg").write_bytes(image_file("green", "JPEG"))
    for name, model in (("images", color_model), ("examples", example_model)):
        assert label(tmp_path / name, input=f"{tmp_path}/*.*", model=model) == 0
        labeled = {Path(row["image"]).name: row["label"] for row in rows(tmp_path / name)}
        assert labeled == {"x.jpg": "blue", "y.jpg": "green"}


@pytest.mark.parametrize("content", [b"garbage" * 10, b""])
def test_a_damaged_tfrecord_is_an_error(tmp_path, color_model, capsys, content):
    (tmp_path / "a.tfrecord").write_bytes(content)
    assert label(tmp_path / "out", input=tmp_path / "a.tfrecord", model=color_model) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert f"{tmp_path}/a.tfrecord" in error
    assert "Traceback" not in error
