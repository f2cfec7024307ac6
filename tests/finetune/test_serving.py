"""An export where others serve it, and the decoding that it carries; see docs/serving.md."""

import base64
import io
import json

import numpy as np
import pytest
from helpers.models import COLORS, save_extractor
from PIL import Image, ImageDraw

from pipeline.finetune import export, graph_decoding
from pipeline.finetune.networks import Head
from pipeline.images.decode import decode
from pipeline.models.examples import to_example
from pipeline.models.loading import load_probed
from pipeline.models.probing import probe_extractor
from pipeline.models.signatures import as_unit_function
from pipeline.models.tensorflow_import import tf


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The folder of an export that takes 32 × 32."""
    folder = tmp_path_factory.mktemp("models")
    spec, _ = probe_extractor(save_extractor(folder / "base"))
    loaded, head = load_probed(spec), Head(3, 3)
    head.weights.assign(np.eye(3, dtype=np.float32) * 8)
    classifier = export.Classifier(as_unit_function(loaded, spec), loaded, head, spec)
    export.save(classifier, folder / "export", tuple(COLORS), spec)
    return folder / "export"


@pytest.fixture(scope="module")
def images():
    """Float32 ``[4, 32, 32, 3]`` in [0, 1]."""
    return np.random.default_rng(0).random((4, 32, 32, 3), np.float32) * [1.0, 0.5, 0.2]


@pytest.fixture(scope="module")
def expected(model, images):
    """Probabilities ``[4, 3]``."""
    return tf.saved_model.load(str(model))(tf.constant(images, tf.float32)).numpy()


def drawing(mode="RGB", size=(150, 90)):
    """Smooth, and of another look in each of its eight orientations."""
    image = Image.new("RGBA", size)
    across, down = np.meshgrid(np.linspace(0, 255, size[0]), np.linspace(0, 255, size[1]))
    colors = np.stack([across, down, 255 - across, 255 - down // 2], -1).astype(np.uint8)
    image.paste(Image.fromarray(colors))
    ImageDraw.Draw(image).ellipse((5, 5, 60, 30), fill=(250, 20, 20, 255))
    return image.convert(mode)


def written(image, image_format, **options):
    file = io.BytesIO()
    image.save(file, image_format, **options)
    return file.getvalue()


def turned(orientation):
    exif = Image.Exif()
    exif[0x010F] = "a maker"
    exif[0x0112] = orientation
    return written(drawing(), "JPEG", exif=exif, quality=95)


FILES = {
    "JPEG": written(drawing(), "JPEG", quality=95),
    "gray JPEG": written(drawing("L"), "JPEG", quality=95),
    "PNG": written(drawing(), "PNG"),
    "PNG with alpha": written(drawing("RGBA"), "PNG"),
    "gray PNG with alpha": written(drawing("LA"), "PNG"),
    "PNG with a transparent color": written(
        drawing().quantize(64), "PNG", transparency=bytes(range(0, 256, 4))
    ),
    "PNG of 1 bit": written(drawing().convert("1"), "PNG"),
    "PNG with few colors": written(drawing().quantize(16), "PNG"),
    "BMP": written(drawing(), "BMP"),
    "animation": written(
        drawing(), "GIF", save_all=True, append_images=[Image.new("RGB", (150, 90), "red")]
    ),
    **{f"orientation {number}": turned(number) for number in range(10)},
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("resample", ["bicubic", "bilinear"])
def test_the_graph_decodes_as_label_does(name, resample):
    function = tf.function(graph_decoding.decode, autograph=False)
    got = function(tf.constant(FILES[name]), 32, 40, resample).numpy()
    wanted = decode(FILES[name], 32, 40, resample).pixels.astype(np.float32)
    assert got.shape == wanted.shape
    assert np.abs(got - wanted).mean() < 0.6
    assert np.abs(got - wanted).max() <= 8


def test_a_palette_in_a_bmp_is_refused():
    """TensorFlow takes its indices for shades of gray."""
    with pytest.raises(tf.errors.InvalidArgumentError, match="no BMP file with a palette"):
        tf.function(graph_decoding.decode, autograph=False)(
            tf.constant(written(drawing().quantize(16), "BMP")), 32, 40, "bicubic"
        )


def test_no_metadata_make_the_graph_fail():
    orientation = tf.function(
        graph_decoding.jpeg_orientation, [tf.TensorSpec((), tf.string)], autograph=False
    )
    rng, file = np.random.default_rng(0), turned(6)
    assert orientation(file) == 6
    for number in range(500):
        data = bytearray(file)
        for place in rng.integers(2, 100, 3):
            data[place] = rng.integers(256)
        length = len(data) if number % 2 else rng.integers(2, 120)
        orientation(bytes(data[:length]))


def requested(model, body):
    """Answer a request of TensorFlow Serving's REST interface, in its row format.

    As https://www.tensorflow.org/tfx/serving/api_rest has it: an instance is the value of the only
    input, and an object with the one key "b64" stands for bytes.
    """
    request = json.loads(body)
    signature = tf.saved_model.load(str(model)).signatures[request["signature_name"]]
    ((name, spec),) = signature.structured_input_signature[1].items()
    values = [
        base64.b64decode(value["b64"]) if isinstance(value, dict) else value
        for value in request["instances"]
    ]
    (output,) = signature(**{name: tf.constant(values, spec.dtype)}).values()
    return {"predictions": output.numpy().tolist()}


def test_requests_to_tensorflow_serving(model, images, expected):
    body = {"signature_name": "serving_default", "instances": images.tolist()}
    answer = requested(model, json.dumps(body))
    np.testing.assert_allclose(answer["predictions"], expected, atol=1e-6)

    instances = [
        {"b64": base64.b64encode(to_example(FILES[name])).decode()}
        for name in ("PNG with alpha", "orientation 6")
    ]
    body = {"signature_name": "serving_examples", "instances": instances}
    answer = requested(model, json.dumps(body))
    pixels = [decode(FILES[name], 32, 32).pixels for name in ("PNG with alpha", "orientation 6")]
    direct = tf.saved_model.load(str(model))(np.stack(pixels) / np.float32(255)).numpy()
    np.testing.assert_allclose(answer["predictions"], direct, atol=5e-3)


def test_a_layer_of_keras_3(model, images, expected):
    import keras

    inputs = keras.Input((32, 32, 3))
    layer = keras.layers.TFSMLayer(str(model), call_endpoint="serving_default")
    network = keras.Model(inputs, layer(inputs)["probabilities"])
    np.testing.assert_allclose(network(images.astype(np.float32)), expected, atol=1e-6)


def test_a_layer_of_tensorflow_hub(model, images, expected):
    import tensorflow_hub as hub
    import tf_keras

    network = tf_keras.Sequential([tf_keras.Input((32, 32, 3)), hub.KerasLayer(str(model))])
    np.testing.assert_allclose(network(images.astype(np.float32)), expected, atol=1e-6)


@pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated")
def test_tensorflow_lite(model, images, expected):
    """Only the signature on images: decoding files is no operation of TensorFlow Lite."""
    converter = tf.lite.TFLiteConverter.from_saved_model(
        str(model), signature_keys=["serving_default"]
    )
    interpreter = tf.lite.Interpreter(model_content=converter.convert())
    runner = interpreter.get_signature_runner("serving_default")
    for image, row in zip(images.astype(np.float32), expected, strict=True):
        answer = runner(inputs=image[None])["probabilities"]
        np.testing.assert_allclose(answer, row[None], atol=1e-5)
