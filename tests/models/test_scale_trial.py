"""Which values a model takes for a pixel: read, tried, or refused."""

import numpy as np
import pytest
from helpers.models import COLORS, image_file, save_model
from helpers.runs import rows, run, summary

from pipeline.errors import ModelError
from pipeline.models.loading import load_classifier
from pipeline.models.probing import probe_classifier
from pipeline.models.scale_trial import judge, settle_scale
from pipeline.models.scaling import SCALES
from pipeline.models.spec import Stated
from pipeline.models.tensorflow_import import tf


def color_images(count=9, side=32):
    """Images that are mostly red, green or blue, in turn."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 120, (count, side, side, 3))
    images[np.arange(count), :, :, np.arange(count) % 3] += 120
    return images.astype(np.uint8)


def opaque(images):
    """What no reader of graphs follows: the largest of each pair of pixels."""
    return tf.nn.max_pool2d(images, 2, 2, "VALID")


def color_logits_of(unit):
    return tf.reduce_mean(unit, [1, 2]) @ (20.0 * tf.eye(3))


def inverse(name):
    """A model of colors that takes what the scale makes of images."""
    scale = SCALES[name]

    def function(images):
        values = images[..., ::-1] if scale.is_bgr else images
        unit = (values * scale.deviation + scale.mean) * (scale.divisor / 255.0)
        # A layer with weights, as networks have it.
        return color_logits_of(tf.nn.conv2d(unit, tf.reshape(tf.eye(3), [1, 1, 3, 3]), 1, "SAME"))

    return function


@pytest.mark.parametrize("name", SCALES)
def test_a_scale_is_read_from_a_graph_or_stated(tmp_path, name):
    spec = probe_classifier(save_model(tmp_path, inverse(name)))
    # Of unit there is nothing to take back; a model that turns colors round may take either order;
    # and bytes to which 0.5 is added are still bytes.
    is_read = name not in ("unit", "bgr", "centered")
    assert (spec.scale, spec.scale_source) == (
        (name, "read from its graph") if is_read else ("unit", "")
    )
    spec = probe_classifier(spec.handle, Stated(scale=name))
    images = color_images()
    answers = load_classifier(spec, 3)(images)
    expected = tf.nn.softmax(color_logits_of(images / np.float32(255))).numpy()
    for answer, row in zip(answers, expected, strict=True):
        np.testing.assert_allclose(answer.scores, sorted(row, reverse=True), atol=1e-4)


@pytest.mark.parametrize("name", SCALES)
def test_a_scale_that_is_stated_counts(tmp_path, name):
    path = save_model(tmp_path, inverse("byte"))
    spec = probe_classifier(path, Stated(scale=name))
    assert (spec.scale, spec.scale_source) == (name, "as stated")


@pytest.mark.parametrize("dtype", ["uint8", "int32"])
def test_integers_are_bytes(tmp_path, dtype):
    path = save_model(
        tmp_path, lambda x: color_logits_of(tf.cast(x, tf.float32) / 255.0), dtype=dtype
    )
    spec = probe_classifier(path)
    assert (spec.scale, spec.scale_source) == ("byte", f"as it takes {dtype}")
    answers = load_classifier(spec, 1)(color_images())
    assert [answer.class_ids[0] for answer in answers] == [0, 1, 2] * 3
    with pytest.raises(ModelError, match=f"takes {dtype} images, whose values are 0 to 255"):
        probe_classifier(path, Stated(scale="unit"))


def test_channels_first_is_refused_or_transposed_as_stated(tmp_path):
    path = save_model(
        tmp_path,
        lambda x: color_logits_of(tf.transpose(x, [0, 2, 3, 1])),
        shape=(None, 3, None, None),
    )
    with pytest.raises(ModelError, match=r"channels first; give channels_first to have the"):
        probe_classifier(path)
    spec = probe_classifier(path, Stated(channels_first=True))
    answers = load_classifier(spec, 1)(color_images(side=224))
    assert [answer.class_ids[0] for answer in answers] == [0, 1, 2] * 3


@pytest.mark.parametrize("batch", [1, 4])
def test_a_fixed_batch_is_filled_up(tmp_path, batch):
    path = save_model(tmp_path, inverse("unit"), shape=(batch, 32, 32, 3))
    spec = probe_classifier(path)
    assert spec.batch == batch
    answers = load_classifier(spec, 1)(color_images())
    assert [answer.class_ids[0] for answer in answers] == [0, 1, 2] * 3


# Where the graph does not tell


def collapsed(images):
    """In [0, 1] it answers the same to everything; bytes it tells apart."""
    return tf.reduce_mean(opaque(images), [1, 2]) @ (tf.eye(3) * 20.0 / 255.0)


def settled(path):
    spec = probe_classifier(str(path))
    assert spec.scale_source == ""
    return settle_scale(spec, color_images(12))


def test_a_model_that_sees_nothing_in_the_assumed_scale_is_refused(tmp_path):
    path = save_model(tmp_path, collapsed)
    with pytest.raises(ModelError) as caught:
        settled(path)
    message = caught.value.said(lambda name: f"--{name}")
    assert "is assumed to take 0 to 1, RGB, but then its answers to 12 images are" in message
    assert "say with --scale which it takes: probably byte, else unit" in message


def test_the_assumed_scale_is_confirmed(tmp_path, capsys):
    def function(images):  # made for [0, 1]: the values of other scales saturate it
        return tf.reduce_mean(tf.clip_by_value(opaque(images), 0.2, 1.2), [1, 2]) @ (90 * tf.eye(3))

    path = save_model(tmp_path, function)
    spec = settled(path)
    assert "its answers to 12 images are the clearest" in spec.scale_source
    # Networks also answer to values that are only near to those that they take.
    assert capsys.readouterr().err.count("0 to 1, RGB is assumed; if it takes others, give") == 1


def test_images_of_one_class_speak_against_no_scale(tmp_path, capsys):
    """A sure answer that is always the same is right for them; noise in another scale is not."""

    def function(images):
        red = tf.reduce_mean(opaque(images), [1, 2]) @ tf.constant([[90.0, 0, 0]] + [[0.0] * 3] * 2)
        return tf.where(red > 1000.0, 3.0 * tf.sin(red * 7919.0), red)

    spec = probe_classifier(save_model(tmp_path, function), Stated(returns="logits"))
    red = color_images(36)[::3]
    assert settle_scale(spec, red) == spec
    said = capsys.readouterr().err
    assert "probably" not in said
    assert "0 to 1, RGB is assumed; if it takes others, give --scale" in said


def test_too_few_images_and_a_model_that_knows_nothing_get_a_warning(tmp_path, capsys):
    path = save_model(
        tmp_path, lambda x: tf.reduce_mean(tf.sin(opaque(x)), [1, 2]) @ (tf.eye(3) / 1e3)
    )
    settled(path)
    assert "tells which values it takes for a pixel; 0 to 1, RGB is" in capsys.readouterr().err
    settle_scale(probe_classifier(path), color_images(2))
    assert "tells which values it takes for a pixel; 0 to 1, RGB is" in capsys.readouterr().err


def test_judging():
    assert judge(np.full((4, 3), 1 / 3)) == (pytest.approx(0), pytest.approx(1 / 3), 1)
    assert judge(np.eye(3)) == (pytest.approx(np.log(3)), 1.0, 3)
    assert judge(np.eye(3)[[0, 0, 0]]) == (pytest.approx(0), 1.0, 1)


# From the command line


def test_what_was_taken_is_said_and_kept(tmp_path, capsys):
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in COLORS:
        (photos / f"{name}.png").write_bytes(image_file(name))
    model = save_model(tmp_path / "model", inverse("caffe"))
    out = tmp_path / "out"
    assert run(input=photos, model=model, output=out) == 0
    words = "0 to 255 less ImageNet's mean, BGR (read from its graph)"
    assert f"the model takes {words}, and returns logits" in capsys.readouterr().err
    assert summary(out)["model"]["takes"] == words
    assert summary(out)["settings"]["scale"] == "caffe"
    assert {row["image"].rpartition("/")[2]: row["label"] for row in rows(out, "labels")} == {
        f"{name}.png": name for name in COLORS
    }
    # The same in another scale is another run.
    assert run(input=photos, model=model, output=out, scale="unit") == 2
    assert "scale was caffe, is unit" in capsys.readouterr().err


def test_a_run_in_a_scale_that_shows_nothing_is_refused_before_it(tmp_path, capsys):
    photos = tmp_path / "photos"
    photos.mkdir()
    for n in range(4):
        for name in COLORS:
            (photos / f"{name}{n}.png").write_bytes(image_file(name))
    model = save_model(tmp_path / "model", collapsed)
    out = tmp_path / "out"
    assert run(input=photos, model=model, output=out) == 2
    assert "probably byte, else unit" in capsys.readouterr().err
    assert run(input=photos, model=model, output=out, scale="byte") == 0
    labeled = {row["image"].rpartition("/")[2]: row["label"] for row in rows(out, "labels")}
    assert labeled == {f"{name}{n}.png": name for name in COLORS for n in range(4)}
