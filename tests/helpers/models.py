"""Small real SavedModels with predictable answers."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.models.tensorflow_import import tf

COLORS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}


def color_logits(images):
    """float32 ``[N, H, W, 3]`` in [0, 1] → ten times the mean of each color: ``[N, 3]``.

    By way of [-1, 1], as networks have it, so that the scale can be read from the graph.
    """
    return 5.0 * (1.0 + tf.reduce_mean(2.0 * images - 1.0, [1, 2]))


def color_probabilities(images):
    return tf.nn.softmax(color_logits(images))


def save_model(
    folder: Path,
    function=color_logits,
    *,
    shape=(None, 32, 32, 3),
    dtype=tf.float32,
    labels=tuple(COLORS),
    signatures=("serving_default",),
    is_callable=True,
    outputs=("output",),
) -> str:
    """Save ``function`` as a SavedModel and return its path.

    Args:
      folder: where to.
      function: from a batch of images to the output.
      shape: of the input.
      dtype: of the input.
      labels: content of ``assets/labels.txt``; None for no such file.
      signatures: names under which the function is a signature.
      is_callable: whether the model itself can be called.
      outputs: names of the signatures' outputs, all the same tensor.
    """
    module = tf.train.Checkpoint(weight=tf.Variable(1.0))
    specs = [tf.TensorSpec(shape, dtype, "images")]

    @tf.function(input_signature=specs)
    def call(images):
        return function(images)

    @tf.function(input_signature=specs)
    def serve(images):
        return dict.fromkeys(outputs, function(images))

    if is_callable:
        module.__call__ = call
    tf.saved_model.save(module, str(folder), signatures=dict.fromkeys(signatures, serve))
    if labels is not None:
        (folder / "assets").mkdir(exist_ok=True)
        (folder / "assets" / "labels.txt").write_text("\n".join(labels))
    return str(folder)


def save_hungry_model(folder: Path, most: int = 4) -> str:
    """A model that asks for a petabyte when it is given more images than ``most``."""

    def function(images):
        wanted = tf.where(tf.shape(images)[0] > most, tf.constant(2**48, tf.int64), 1)
        return 10.0 * tf.reduce_mean(images, [1, 2]) + tf.fill([wanted], 0.0)[0]

    return save_model(folder, function)


def image_file(color="red", image_format="PNG", size=(40, 30)) -> bytes:
    """A file with an image of one color."""
    file = io.BytesIO()
    Image.new("RGB", size, COLORS[color]).save(file, image_format)
    return file.getvalue()


def save_extractor(folder: Path, trainable=True, features=3) -> str:
    """Save a feature extractor as Hub has them: mean colors times weights, for 32 × 32."""
    weights = tf.Variable(tf.eye(3, features), name="weights")
    module = tf.train.Checkpoint(
        variables=[weights], trainable_variables=[weights] if trainable else []
    )
    images = tf.TensorSpec((None, 32, 32, 3), tf.float32, "inputs")
    module.__call__ = tf.function(
        lambda inputs, training=False: tf.reduce_mean(inputs, [1, 2]) @ weights
    )
    for training in (False, True):
        module.__call__.get_concrete_function(images, training=training)
    serve = tf.function(lambda inputs: {"features": module.__call__(inputs)}, [images])
    tf.saved_model.save(module, str(folder), signatures=serve)
    return str(folder)


def write_class_folders(folder: Path, count=40, classes=tuple(COLORS), size=(40, 30)) -> str:
    """Class folders of noise with a tint; every file has other bytes."""
    rng = np.random.default_rng(0)
    for name in classes:
        (folder / name).mkdir(parents=True)
        for n in range(count):
            noise = rng.integers(0, 100, (*size[::-1], 3)) + np.array(COLORS[name]) // 4
            Image.fromarray(noise.astype(np.uint8)).save(folder / name / f"{n:03}.png")
    return str(folder)


def _color_network():
    """A network of TensorFlow 1: mean colors times weights, for 32 × 32."""
    v1 = tf.compat.v1
    images = v1.placeholder(tf.float32, [None, 32, 32, 3], "images")
    with v1.variable_scope("head", reuse=v1.AUTO_REUSE):
        initial = v1.constant_initializer(np.eye(3, dtype=np.float32) * 10)
        weights = v1.get_variable("weights", [3, 3], initializer=initial)
    return images, tf.matmul(tf.reduce_mean(images, [1, 2]), weights, name="logits")


def save_graphs(folder: Path, *tag_sets: tuple[str, ...], noisy: tuple[str, ...] = ()) -> str:
    """Save a model of TensorFlow 1 with a graph for each set of tags.

    Args:
      folder: where to.
      tag_sets: of the graphs; ``()`` for no tags.
      noisy: the tags of the graph that answers otherwise, as one for training does.
    """
    v1 = tf.compat.v1
    builder = v1.saved_model.Builder(str(folder))
    for number, tags in enumerate(tag_sets):
        with tf.Graph().as_default(), v1.Session() as session:
            images, logits = _color_network()
            logits = -logits if noisy and tags == noisy else logits
            session.run(v1.global_variables_initializer())
            info = v1.saved_model.utils.build_tensor_info
            signature = v1.saved_model.signature_def_utils.build_signature_def(
                {"images": info(images)}, {"default": info(logits)}, "tensorflow/serving/predict"
            )
            signatures = {"default": signature, "image_classification": signature}
            if number:
                builder.add_meta_graph(tags, signatures)
            else:
                builder.add_meta_graph_and_variables(session, tags, signatures)
    builder.save()
    return str(folder)


def save_frozen(folder: Path) -> str:
    """Save a model of TensorFlow 1 whose variables have become constants; ``variables/`` is empty.

    The frozen graph itself is beside it, with ``.pb`` added to the folder's name.
    """
    v1 = tf.compat.v1
    with tf.Graph().as_default() as graph, v1.Session() as session:
        _color_network()
        session.run(v1.global_variables_initializer())
        frozen = v1.graph_util.convert_variables_to_constants(
            session, graph.as_graph_def(), ["logits"]
        )
    folder.with_name(f"{folder.name}.pb").write_bytes(frozen.SerializeToString())
    with tf.Graph().as_default(), v1.Session() as session:
        images, logits = v1.import_graph_def(frozen, return_elements=["images:0", "logits:0"])
        v1.saved_model.simple_save(session, str(folder), {"image": images}, {"scores": logits})
    return str(folder)
