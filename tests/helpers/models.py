"""Small real SavedModels with predictable answers."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.models.tensorflow_import import tf

COLORS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}


def color_logits(images):
    """float32 ``[N, H, W, 3]`` in [0, 1] → ten times the mean of each color: ``[N, 3]``."""
    return 10.0 * tf.reduce_mean(images, [1, 2])


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
