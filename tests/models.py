"""Small real SavedModels, whose answers can be foretold."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image

from pipeline.tensorflow_import import tf

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


def image_file(color="red", image_format="PNG", size=(40, 30)) -> bytes:
    """A file with an image of one color."""
    file = io.BytesIO()
    Image.new("RGB", size, COLORS[color]).save(file, image_format)
    return file.getvalue()
