"""What finetune exports: for any scale of the base model, and with any names of classes."""

import json
from pathlib import Path

import numpy as np
import pytest
from helpers.models import COLORS, save_model, write_class_folders

from pipeline.__main__ import main
from pipeline.finetune import export, job
from pipeline.finetune.networks import Head
from pipeline.models.loading import load_classifier, load_extractor, load_probed
from pipeline.models.probing import probe_classifier, probe_extractor
from pipeline.models.signatures import as_unit_function
from pipeline.models.spec import Stated
from pipeline.models.tensorflow_import import tf


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """Three classes of forty images."""
    return write_class_folders(tmp_path_factory.mktemp("photos") / "p")


def run(command, **flags):
    argv = (f"--{name}" if value is True else f"--{name}={value}" for name, value in flags.items())
    return main([command, *argv])


def finetune(**flags):
    return run("finetune", **({"learning_rate": 0.5, "epochs": 5} | flags))


def exported(output):
    (version,) = (Path(output) / "export").iterdir()
    return version


# What a base takes, the flags that say so, and the way from there to [0, 1] in RGB.
BASES = {
    "unit": ({}, {}, lambda x: x),
    "byte": ({}, {"scale": "byte"}, lambda x: x / 255.0),
    "symmetric": ({}, {"scale": "symmetric"}, lambda x: (x + 1.0) / 2.0),
    "caffe": (
        {},
        {"scale": "caffe"},
        lambda x: tf.reverse(x + np.float32([103.939, 116.779, 123.68]), [-1]) / 255.0,
    ),
    "torch": (
        {},
        {"scale": "torch"},
        lambda x: x * [0.229, 0.224, 0.225] + [0.485, 0.456, 0.406],
    ),
    "uint8": ({"dtype": tf.uint8}, {}, lambda x: tf.cast(x, tf.float32) / 255.0),
    "channels_first": (
        {"shape": (None, 3, 32, 32)},
        {"channels_first": True},
        lambda x: tf.transpose(x, [0, 2, 3, 1]),
    ),
}


def save_base(folder, name):
    options, stated, to_unit = BASES[name]
    path = save_model(folder, lambda x: tf.reduce_mean(to_unit(x), [1, 2]), labels=None, **options)
    return path, stated


@pytest.mark.parametrize("name", BASES)
def test_the_export_takes_zero_to_one_whatever_the_base_takes(tmp_path, name):
    path, stated = save_base(tmp_path / "base", name)
    spec, _ = probe_extractor(path, Stated(**stated))
    loaded = load_probed(spec)
    head = Head(3, 3)
    head.weights.assign(np.random.default_rng(0).normal(0, 5, (3, 3)).astype(np.float32))
    classifier = export.Classifier(as_unit_function(loaded, spec), loaded, head, spec)
    export.save(classifier, tmp_path / "export", tuple(COLORS), spec)

    pixels = np.random.default_rng(1).integers(0, 256, (5, 32, 32, 3), np.uint8)
    pixels //= np.array([1, 2, 3, 4, 5], np.uint8)[:, None, None, None]
    classifier_spec = probe_classifier(str(tmp_path / "export"))
    assert (classifier_spec.scale, classifier_spec.batch) == ("unit", None)
    labeled = load_classifier(classifier_spec, 3)(list(pixels))
    trained = classifier.__call__(tf.constant(pixels / np.float32(255.0))).numpy()
    reloaded = tf.saved_model.load(str(tmp_path / "export"))(pixels / np.float32(255.0)).numpy()
    assert np.abs(reloaded - trained).max() == 0.0
    for result, row in zip(labeled, trained, strict=True):
        np.testing.assert_allclose(result.scores, row[list(result.class_ids)], atol=1e-7)
    # And that is what the head is trained on.
    features = load_extractor(spec)(list(pixels))
    np.testing.assert_allclose(features, pixels.mean((1, 2)) / 255, atol=1e-5)
    logits = head.logits(tf.constant(features), None)
    np.testing.assert_allclose(tf.nn.softmax(logits), trained, atol=1e-5)


@pytest.mark.parametrize("name", ["caffe", "uint8", "channels_first"])
def test_from_a_base_of_another_scale_to_labels(tmp_path, photos, name):
    base, stated = save_base(tmp_path / "base", name)
    out = tmp_path / "out"
    assert finetune(input=photos, model=base, output=out, **stated) == 0
    summary = json.loads((out / "summary.json").read_text())
    assert summary["reload_difference"] == 0.0
    assert summary["test"]["accuracy"] == 1.0
    assert run("label", input=photos, model=exported(out), output=tmp_path / "labels") == 0
    text = (tmp_path / "labels" / "labels-00000-of-00001.jsonl").read_text()
    rows = [json.loads(line) for line in text.splitlines()]
    assert len(rows) == 120
    assert all(row["label"] == Path(row["image"]).parent.name for row in rows)


def test_what_cannot_be_exported_is_one_line_before_the_features(
    tmp_path, photos, capsys, monkeypatch
):
    monkeypatch.setattr(job, "train", None)
    base, _ = save_base(tmp_path / "base", "unit")
    fixed = save_model(tmp_path / "fixed", shape=(4, 32, 32, 3), labels=None)
    spaced = write_class_folders(tmp_path / "spaced", count=5)
    (tmp_path / "spaced" / "red").rename(tmp_path / "spaced" / " red")
    lines = tmp_path / "list.jsonl"
    images = sorted(Path(photos).rglob("*.png"))
    lines.write_text(
        "".join(
            json.dumps({"uri": str(path), "label": f"{path.parent.name}\ncolor"}) + "\n"
            for path in images
        )
    )
    columns = {"uri_column": "uri", "truth_column": "label"}
    for changes, message in (
        ({"model": fixed}, f"--model {fixed}: takes batches of 4 images and no others, and so"),
        (
            {"input": spaced},
            "--input: the class name ' red' is empty, or has spaces around it; ren",
        ),
        ({"input": lines, **columns}, r"--input: the class name 'blue\ncolor' has a line break in"),
    ):
        flags = {"input": photos, "model": base, "output": tmp_path / "out"} | changes
        assert finetune(**flags) == 2
        error = capsys.readouterr().err.splitlines()[-1]
        assert error.startswith(f"error: {message}")


def test_names_that_look_like_another_format_are_read_back(tmp_path, capsys):
    photos = Path(write_class_folders(tmp_path / "p", count=20))
    names = {"blue": "0: blue", "green": "1: green", "red": "n01440764 red"}
    for old, new in names.items():
        (photos / old).rename(photos / new)
    base, _ = save_base(tmp_path / "base", "unit")
    assert finetune(input=photos, model=base, output=tmp_path / "out") == 0
    assert probe_classifier(str(exported(tmp_path / "out"))).labels == tuple(names.values())


def test_an_asset_of_the_base_with_the_same_name_is_kept_apart(tmp_path, photos):
    """The base fills a table from its file whenever it is loaded."""
    (tmp_path / "labels.txt").write_text("7\n8\n9\n")

    class Base(tf.Module):
        def __init__(self):
            super().__init__()
            index, line = tf.lookup.TextFileIndex.LINE_NUMBER, tf.lookup.TextFileIndex.WHOLE_LINE
            file = tf.lookup.TextFileInitializer(
                str(tmp_path / "labels.txt"), tf.int64, index, tf.string, line
            )
            self.table = tf.lookup.StaticHashTable(file, "absent")

        @tf.function(input_signature=[tf.TensorSpec((None, 32, 32, 3), tf.float32)])
        def __call__(self, images):
            factors = self.table.lookup(tf.constant([0, 1, 2], tf.int64))
            return tf.reduce_mean(images, [1, 2]) * tf.strings.to_number(factors)

    tf.saved_model.save(Base(), str(tmp_path / "base"))
    (tmp_path / "labels.txt").unlink()
    out = tmp_path / "out"
    assert finetune(input=photos, model=tmp_path / "base", output=out) == 0
    assert json.loads((out / "summary.json").read_text())["reload_difference"] == 0.0
    assets = exported(out) / "assets"
    assert (assets / "labels.txt").read_text() == "blue\ngreen\nred\n"
    assert (assets / "base_labels.txt").read_text() == "7\n8\n9\n"
    assert probe_classifier(str(exported(out))).labels == ("blue", "green", "red")
    # An export is a base, too.
    again = tmp_path / "again"
    assert finetune(input=photos, model=exported(out), output=again, epochs=1) == 0
    assert sorted(path.name for path in (exported(again) / "assets").iterdir()) == [
        *("base_labels.txt", "labels.txt", "preprocessing.json", "trained_on.bin")
    ]
