"""What people take for a SavedModel, made by the libraries that write it."""

import json
import re
import shlex
import shutil
import subprocess
import sys
import zipfile

import pytest
from helpers import ROOT
from helpers.models import save_frozen, save_model

from pipeline.errors import ModelError
from pipeline.models.files import resolve
from pipeline.models.loading import load_classifier
from pipeline.models.other_formats import by_name
from pipeline.models.probing import probe_classifier
from pipeline.models.spec import Stated
from pipeline.models.tensorflow_import import tf


def error_of(path):
    with pytest.raises(ModelError) as caught:
        resolve(str(path))
    message = str(caught.value)
    assert message.startswith(f"model {path}: is ")
    assert "no such folder" not in message
    assert "\n" not in message
    return message.removeprefix(f"model {path}: ")


def keras_model(library):
    """Says how red, green and blue an image is, 0 to 255."""
    layers = library.layers
    return library.Sequential(
        [
            library.Input((32, 32, 3)),
            layers.Rescaling(1 / 255),
            layers.GlobalAveragePooling2D(),
            layers.Dense(3, kernel_initializer=library.initializers.Identity(10.0)),
        ]
    )


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
@pytest.mark.parametrize("library", ["keras", "tf_keras"])
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_the_line_that_exports_a_keras_file(tmp_path, library, suffix):
    """It is run as the user would run it, and what it makes is labeled as Keras itself does."""
    keras = pytest.importorskip(library)
    network = keras_model(keras)
    path = tmp_path / f"my model's{suffix}"
    network.save(path)
    message = error_of(path)
    assert f'{library}.models.load_model("{path}").export("' in message.replace("'\"'\"'", "'")
    line = re.search(r"export it with python (.*) and give (.*)", message)
    subprocess.run(
        [sys.executable, *shlex.split(line[1])], cwd=tmp_path, check=True, capture_output=True
    )
    (tmp_path / "labels").write_text("red\ngreen\nblue\n")
    spec = probe_classifier(line[2], Stated(str(tmp_path / "labels")))
    assert spec.scale == "byte"
    pixels = tf.random.stateless_uniform((2, 32, 32, 3), (1, 2), 0, 255, tf.int32)
    expected = tf.nn.softmax(network(tf.cast(pixels, tf.float32))).numpy()
    for found, row in zip(
        load_classifier(spec, 3)(tf.cast(pixels, tf.uint8).numpy()), expected, strict=True
    ):
        assert found.scores == pytest.approx(sorted(row, reverse=True), abs=1e-4)


def test_the_line_writes_over_nothing(tmp_path):
    import keras

    keras_model(keras).save(tmp_path / "m.keras")
    (tmp_path / "m").mkdir()
    assert f'.export("{tmp_path}/m_saved_model")' in error_of(tmp_path / "m.keras")


def test_weights_of_keras(tmp_path):
    import keras

    keras_model(keras).save_weights(tmp_path / "m.weights.h5")
    shutil.copy(tmp_path / "m.weights.h5", tmp_path / "m.h5")
    for name in ("m.weights.h5", "m.h5"):
        assert "is a file of Keras weights, without the network" in error_of(tmp_path / name)


def test_a_keras_file_that_was_unpacked(tmp_path):
    import keras

    keras_model(keras).save(tmp_path / "m.keras")
    with zipfile.ZipFile(tmp_path / "m.keras") as packed:
        packed.extractall(tmp_path / "m")
    assert "is a Keras file that was unpacked; pack it again" in error_of(tmp_path / "m")
    shutil.copy(tmp_path / "m.keras", tmp_path / "m.zip")
    assert "is a Keras file, not a SavedModel" in error_of(tmp_path / "m.zip")


def test_a_tensorflow_lite_model(tmp_path):
    loaded = tf.saved_model.load(save_model(tmp_path / "m"))
    function = loaded.signatures["serving_default"]
    content = tf.lite.TFLiteConverter.from_concrete_functions([function]).convert()
    for name in ("m.tflite", "model"):
        (tmp_path / name).write_bytes(content)
        assert "is a TensorFlow Lite model; give the SavedModel" in error_of(tmp_path / name)


def test_a_frozen_graph_alone(tmp_path):
    save_frozen(tmp_path / "m")
    assert "is a graph alone, a frozen one perhaps; make a SavedModel" in error_of(
        tmp_path / "m.pb"
    )
    (tmp_path / "folder").mkdir()
    shutil.move(tmp_path / "m.pb", tmp_path / "folder" / "frozen.pb")
    assert "is a folder with frozen.pb, a graph alone" in error_of(tmp_path / "folder")


def test_checkpoints(tmp_path):
    tf.train.Checkpoint(v=tf.Variable(1.0)).save(str(tmp_path / "folder" / "model.ckpt"))
    assert "with checkpoint, part of a checkpoint, which has variables but no graph; build" in (
        error_of(tmp_path / "folder")
    )
    for path in (tmp_path / "folder").iterdir():
        assert "is part of a checkpoint" in error_of(path)
    assert "there is no such folder" in missing(tmp_path / "folder" / "model.ckpt-1")


def missing(path):
    with pytest.raises(ModelError) as caught:
        resolve(str(path))
    return str(caught.value)


def test_a_file_of_a_saved_model(tmp_path):
    save_model(tmp_path / "m")
    for path in (tmp_path / "m").rglob("*"):
        if path.is_file() and path.name != "labels.txt":
            assert error_of(path) == "is a file of a SavedModel; give the folder that it is in"


def test_folders_of_saved_models(tmp_path):
    save_model(tmp_path / "parent" / "flowers")
    assert error_of(tmp_path / "parent") == (
        f"is a folder with a SavedModel in flowers; give {tmp_path}/parent/flowers"
    )
    save_model(tmp_path / "parent" / "deep" / "1")
    assert error_of(tmp_path / "parent") == (
        "is a folder with SavedModels in deep/1, flowers; give one of them"
    )


@pytest.mark.parametrize(
    ("files", "what"),
    [
        (("config.json", "model.safetensors"), "a model of Hugging Face's transformers; export it"),
        (("config.json", "tf_model.h5"), "a model of Hugging Face's transformers; export it"),
        (("weights.pth",), "a folder with weights.pth, a PyTorch file; export the model to ONNX"),
        (("model.json", "group1-shard1of1.bin"), "a TensorFlow.js model; give the SavedModel"),
        (("saved_model.pbtxt",), "a SavedModel in text form; save it in binary form"),
        (("model.onnx",), "a folder with model.onnx, an ONNX model; convert it"),
    ],
)
def test_folders_of_other_libraries(tmp_path, files, what):
    for name in files:
        (tmp_path / name).write_text(json.dumps({"model_type": "vit"}))
    assert what in error_of(tmp_path)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "is a Git LFS pointer in"),
        (b"<!doctype html><html>", "is a web page; download the model's archive in a browser"),
        (b"", "is called a Keras file, but no whole one; fetch it again"),
        (b"PK\x03\x04 cut off", "is called a Keras file, but no whole one; fetch it again"),
    ],
)
def test_files_that_are_not_what_their_names_say(tmp_path, content, what):
    (tmp_path / "m.keras").write_bytes(content)
    assert what in error_of(tmp_path / "m.keras")


def test_a_torch_file_by_its_content(tmp_path):
    with zipfile.ZipFile(tmp_path / "weights", "w") as packed:
        packed.writestr("weights/data.pkl", b"")
    assert "is a PyTorch file" in error_of(tmp_path / "weights")
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as packed:
        packed.writestr("a.jpg", b"")
    assert "is a .zip archive; unpack it, and give the folder" in error_of(tmp_path / "photos.zip")


@pytest.mark.parametrize("name", ["saved_model.pb", "variables/variables.data-00000-of-00001"])
def test_a_saved_model_that_git_has_not_fetched(tmp_path, name):
    save_model(tmp_path)
    (tmp_path / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1\n")
    assert f"{name} is a Git LFS pointer; fetch the file with git lfs pull" in error_of(tmp_path)


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("gs://b/M.KERAS", "a Keras file, not a SavedModel"),
        ("model.pt", "a PyTorch file"),
        ("model.pkl", "a Python pickle"),
        ("model.tar.bz2", "an archive of another kind than .tar.gz"),
        ("model.TAR.GZ", "a compressed file"),
        ("model.ckpt-12.index", "part of a checkpoint, which has variables but no graph"),
    ],
)
def test_names(name, what):
    assert by_name(name).what == what


@pytest.mark.parametrize("name", ["model", "model.v2", "gs://b/export", "photo.jpg", "m.onnx/1"])
def test_names_that_do_not_say(name):
    assert by_name(name) is None


def test_nothing_is_said_of_a_folder_of_something_else(tmp_path):
    (tmp_path / "a.jpg").touch()
    assert "saved_model.pb is missing" in error_of(tmp_path)


def test_the_command_says_it_in_one_line(tmp_path):
    (tmp_path / "m.onnx").touch()
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pipeline", "label", "--input", "sample"),
            *("--model", str(tmp_path / "m.onnx"), "--output", str(tmp_path / "out")),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "loading TensorFlow and Apache Beam …\n"
        f"error: --model {tmp_path}/m.onnx: is an ONNX model; convert it to a SavedModel, with "
        "onnx2tf, say\n"
    )
