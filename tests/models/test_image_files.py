"""Models that decode files by themselves, which they take as they are or in tf.Examples."""

import csv
import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from helpers.models import COLORS, color_logits, color_probabilities, image_file
from helpers.runs import rows, run
from PIL import Image

from pipeline import sample
from pipeline.errors import ModelError
from pipeline.models.examples import to_example
from pipeline.models.loading import load_classifier
from pipeline.models.preprocessing import Preprocessing
from pipeline.models.probing import probe_classifier
from pipeline.models.spec import Stated, Takes
from pipeline.models.tensorflow_import import tf


def decode_any(data):
    return tf.io.decode_image(data, channels=3, expand_animations=False)


def answer_files(files, function=color_probabilities, decode=decode_any):
    images = tf.map_fn(
        lambda data: tf.ensure_shape(tf.image.resize(decode(data), [32, 32]), [32, 32, 3]),
        files,
        fn_output_signature=tf.TensorSpec((32, 32, 3), tf.float32),
    )
    return function(images / 255.0)


def answer_examples(examples, key="image/encoded", **arguments):
    feature = {key: tf.io.FixedLenFeature([], tf.string)}
    return answer_files(tf.io.parse_example(examples, feature)[key], **arguments)


def save(folder, function, batch=None):
    """A model with one signature, from strings ``[batch]`` to what the function returns."""
    spec = tf.TensorSpec((batch,), tf.string, "strings")

    def serve(strings):
        outputs = function(strings)
        return outputs if isinstance(outputs, dict) else {"scores": outputs}

    module = tf.train.Checkpoint(weight=tf.Variable(1.0))
    tf.saved_model.save(module, str(folder), signatures=tf.function(serve, [spec]))
    (folder / "assets").mkdir(exist_ok=True)
    (folder / "assets" / "labels.txt").write_text("\n".join(COLORS))
    return str(folder)


def refusal(path, **stated):
    with pytest.raises(ModelError) as caught:
        probe_classifier(path, Stated(**stated))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def photo(seed=0, image_format="JPEG", size=(50, 40), **options):
    pixels = np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, image_format, **options)
    return file.getvalue()


def test_files_are_told_from_examples(tmp_path):
    spec = probe_classifier(save(tmp_path / "1", answer_files))
    assert (spec.takes, spec.decodes, spec.output) == (Takes.FILES, True, "scores")
    assert spec.input_words == "image files, decoded by the model"
    spec = probe_classifier(save(tmp_path / "2", answer_examples))
    assert (spec.takes, spec.decodes, spec.output) == (Takes.EXAMPLES, True, "scores")
    assert spec.input_words == "tf.Examples, decoded by the model"


@pytest.mark.parametrize("function", [answer_files, answer_examples])
@pytest.mark.parametrize(
    "decode",
    [
        lambda data: tf.io.decode_jpeg(data, channels=3),  # no BMP
        lambda data: tf.io.decode_png(data, channels=3),
        lambda data: tf.io.decode_and_crop_jpeg(data, [0, 0, 30, 30], channels=3),  # no PNG
    ],
)
def test_models_that_decode_few_formats(tmp_path, function, decode):
    path = save(tmp_path, lambda strings: function(strings, decode=decode))
    takes = Takes.FILES if function is answer_files else Takes.EXAMPLES
    assert probe_classifier(path).takes is takes


@pytest.mark.parametrize("batch", [None, 1, 3])
@pytest.mark.parametrize("logits", [False, True])
def test_the_answers_are_those_of_the_direct_call(tmp_path, batch, logits):
    function = color_logits if logits else color_probabilities
    path = save(tmp_path, lambda files: answer_files(files, function), batch)
    spec = probe_classifier(path)
    assert (spec.batch, spec.takes) == (batch, Takes.FILES)
    files = [photo(seed, name) for seed, name in enumerate(["JPEG", "PNG", "GIF", "BMP"])]
    files[1] += b"\0\0"  # bytes at the end that NumPy's strings would lose
    expected = np.sort(answer_files(tf.constant(files)).numpy())[:, ::-1]
    got = load_classifier(spec, 3)(files)
    np.testing.assert_allclose([result.scores for result in got], expected, atol=1e-6)


@pytest.mark.parametrize("batch", [1, 3])
def test_examples_in_a_fixed_batch(tmp_path, batch):
    spec = probe_classifier(save(tmp_path, answer_examples, batch))
    assert (spec.batch, spec.takes) == (batch, Takes.EXAMPLES)
    given = [to_example(image_file(color)) for color in ("blue", "red", "green", "red")]
    got = load_classifier(spec, 1)(given)
    assert [result.class_ids for result in got] == [(2,), (0,), (1,), (0,)]


def test_one_of_several_outputs(tmp_path):
    def function(files):
        scores = answer_files(files)
        return {"a": scores, "b": scores[:, ::-1] * 0.5, "n": tf.size(files), "file": files}

    path = save(tmp_path, function)
    message = refusal(path)
    for described in ("a float32 [2, 3]", "b float32 [2, 3]", "file string [2]", "n int32 []"):
        assert described in message.partition("returns several outputs: ")[2]
    assert "name the one to use with model_output" in message
    spec = probe_classifier(path, Stated(output="a"))
    assert spec.output == "a"
    assert load_classifier(spec, 1)([image_file("green")])[0].class_ids == (1,)


def test_a_model_of_examples_without_scores(tmp_path):
    path = save(tmp_path / "1", lambda x: {"scores": answer_examples(x), "output": x})
    message = refusal(path, output="scores")
    assert "tfx-bsl cannot pass on the output 'output', strings [N]; export it as [N, 1]" in message
    path = save(tmp_path / "2", lambda x: {"output": tf.cast(1e6 * answer_examples(x), tf.int64)})
    assert "returns int64 [2, 3] for a batch of 2 images; a classifier returns float [N," in (
        refusal(path)
    )


@pytest.mark.parametrize(
    ("function", "described"),
    [
        # Of texts: an answer to anything.
        (lambda texts: tf.one_hot(tf.strings.length(texts) % 3, 3), "answers one that is no image"),
        # Of the names of files.
        (
            lambda paths: answer_files(
                tf.map_fn(tf.io.read_file, paths, fn_output_signature=tf.string)
            ),
            "takes strings, but neither tf.Examples with image/encoded (",
        ),
        # Of files as text.
        (
            lambda texts: answer_files(tf.io.decode_base64(texts)),
            "takes strings, but neither tf.Examples with image/encoded (",
        ),
        # Of examples with another feature.
        (lambda strings: answer_examples(strings, key="jpeg"), "Feature: jpeg (data type: string)"),
    ],
)
def test_strings_that_are_something_else(tmp_path, function, described):
    assert described in refusal(save(tmp_path, function))


def test_a_feature_that_may_be_missing(tmp_path):
    """Without the feature that it is really about, all images get the same answer."""

    def function(examples):
        feature = {"x": tf.io.FixedLenFeature([], tf.float32, 0.5)}
        return tf.stack([tf.io.parse_example(examples, feature)["x"]] * 3, 1) / 1.5

    assert "image/encoded (all images get the same answer)" in refusal(save(tmp_path, function))


def test_what_a_model_does_by_itself_cannot_be_stated(tmp_path):
    path = save(tmp_path, answer_files)
    for stated in ({"scale": "byte"}, {"resample": "bilinear"}):
        assert "; leave out scale and resample" in refusal(path, **stated)


def test_pixels_in_files_for_a_model_that_says_its_size(tmp_path):
    path = save(tmp_path, answer_files)
    Preprocessing(32, 32, "bilinear", "probabilities").write(tmp_path)
    spec = probe_classifier(path)
    assert (spec.decodes, spec.input_words) == (False, "32×32 pixels in image files")
    assert probe_classifier(path, Stated(resample="bicubic")).resample == "bicubic"


def write_photos(folder):
    """Some that TensorFlow decodes, and some that only this package does."""
    folder.mkdir()
    for name, options in {
        **{"a.jpg": {}, "b.png": {}, "c.gif": {}, "d.bmp": {}},
        **{"e.webp": {"lossless": True}, "f.tif": {}, "g.jp2": {}},
    }.items():
        image_format = {"jpg": "JPEG", "tif": "TIFF", "jp2": "JPEG2000"}
        kind = image_format.get(name[2:], name[2:].upper())
        (folder / name).write_bytes(photo(ord(name[0]), kind, **options))
    (folder / "cut.jpg").write_bytes(photo()[:900])
    return folder


@pytest.mark.parametrize("function", [answer_files, answer_examples])
def test_what_tensorflow_cannot_decode_fails_alone(tmp_path, capsys, function):
    photos, model = write_photos(tmp_path / "p"), save(tmp_path / "m", function)
    assert run(input=photos, model=model, output=tmp_path / "out", max_failure_ratio=0.5) == 0
    words = "image files" if function is answer_files else "tf.Examples"
    assert f"labeling with {model}, {words}, decoded by the model, 3 classes" in (
        capsys.readouterr().err
    )
    labeled = {Path(row["image"]).name: row for row in rows(tmp_path / "out", "labels")}
    assert sorted(labeled) == ["a.jpg", "b.png", "c.gif", "d.bmp", "e.webp"]
    for name, row in labeled.items():
        (direct,) = answer_files(tf.constant([(photos / name).read_bytes()])).numpy()
        assert row["class_id"] == direct.argmax()
        assert row["score"] == pytest.approx(direct.max(), abs=1e-6)
    failures = {Path(row["image"]).name: row for row in rows(tmp_path / "out", "failures")}
    assert {name: row["reason"] for name, row in failures.items()} == {
        **{"cut.jpg": "truncated"},
        **{"f.tif": "unsupported_format", "g.jp2": "unsupported_format"},
    }
    assert (
        "the model decodes images by itself, and TensorFlow cannot"
        in (failures["f.tif"]["message"])
    )


def test_a_precision_is_refused(tmp_path, capsys):
    model = save(tmp_path / "m", answer_files)
    photos = sample.IMAGES_DIR
    assert run(input=photos, model=model, output=tmp_path / "out", precision="bfloat16") == 2
    message = capsys.readouterr().err
    assert f"error: --model {model}: takes image files, and runs in float32 and without" in message
    assert message.endswith("; leave out --precision and --xla\n")


# Around real weights.


@pytest.fixture(scope="module")
def mobilenet(fixtures, tmp_path_factory):
    """From ``[0, 1]`` to the probabilities of 1001 classes; and the module to save with it."""
    folder = tmp_path_factory.mktemp("mobilenet")
    with tarfile.open(fixtures / "models" / "mobilenet_v2_classification.tar.gz") as tar:
        tar.extractall(folder, filter="data")
    module = tf.Module()
    module.base = tf.saved_model.load(str(folder))
    return module, lambda images: tf.nn.softmax(module.base(images, False))


def enlarged(files):
    def one(data):
        image = tf.image.convert_image_dtype(decode_any(data), tf.float32)
        return tf.ensure_shape(tf.image.resize(image, [224, 224]), [224, 224, 3])

    return tf.map_fn(one, files, fn_output_signature=tf.TensorSpec((224, 224, 3), tf.float32))


@pytest.mark.parametrize("takes", [Takes.FILES, Takes.EXAMPLES])
def test_photographs(fixtures, mobilenet, tmp_path, takes):
    """The model's own signature is used, not a second one on pixels from -1 to 1."""
    module, classify = mobilenet

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "strings")])
    def serve(strings):
        if takes is Takes.EXAMPLES:
            feature = {"image/encoded": tf.io.FixedLenFeature([], tf.string)}
            strings = tf.io.parse_example(strings, feature)["image/encoded"]
        return {"probs": classify(enlarged(strings))}

    @tf.function(input_signature=[tf.TensorSpec((None, 224, 224, 3), tf.float32, "transformed")])
    def serve_transformed(transformed):
        return {"probs": classify((transformed + 1.0) / 2.0)}

    signatures = {"serving_default": serve, "serving_transformed": serve_transformed}
    tf.saved_model.save(module, str(tmp_path / "m"), signatures=signatures)
    with (fixtures / "photos" / "truth.csv").open() as file:
        truth = {row["file"]: int(row["class_id"]) for row in list(csv.DictReader(file))[:40]}
    (tmp_path / "list.txt").write_text("".join(f"{fixtures}/photos/{name}\n" for name in truth))
    flags = {
        "input": tmp_path / "list.txt",
        "model": tmp_path / "m",
        "labels_file": fixtures / "labels" / "imagenet_labels.txt",
    }
    assert run(output=tmp_path / "out", **flags) == 0
    labeled = {Path(row["image"]).name: row for row in rows(tmp_path / "out", "labels")}
    assert np.mean([labeled[name]["class_id"] == truth[name] for name in truth]) == 0.8
    for name, row in labeled.items():
        data = (fixtures / "photos" / name).read_bytes()
        direct = classify(enlarged(tf.constant([data])))[0].numpy()
        assert row["class_id"] == direct.argmax()
        assert row["score"] == pytest.approx(direct.max(), abs=1e-4)
