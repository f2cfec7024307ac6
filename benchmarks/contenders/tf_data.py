"""A plain TensorFlow loop: ``tf.data`` reads, decodes and resizes in parallel, Keras predicts.

TensorFlow's own JPEG decoder and antialiased bicubic resize, parallelism and prefetching tuned by
``tf.data`` itself; the model in a Keras layer, batches of 64, ``model.predict``.
"""

from __future__ import annotations

import os

from common import BATCH_SIZE, SIZE, arguments, mark, write

os.environ["TF_USE_LEGACY_KERAS"] = "1"

import tensorflow as tf
import tensorflow_hub as hub
import tf_keras


class Mark(tf_keras.callbacks.Callback):
    """Notes each batch."""

    def on_predict_batch_end(self, batch: int, logs: dict[str, tf.Tensor]) -> None:
        """Called by Keras after a batch."""
        mark(len(logs["outputs"]))


def decode(path: tf.Tensor) -> tf.Tensor:
    """A file's pixels, float32 ``[224, 224, 3]`` in [0, 1]."""
    pixels = tf.io.decode_image(tf.io.read_file(path), channels=3, expand_animations=False)
    resized = tf.image.resize(pixels, (SIZE, SIZE), "bicubic", antialias=True)
    return tf.clip_by_value(resized, 0.0, 255.0) / 255.0


def main() -> None:
    """Predict, then write all rows."""
    paths, model, rows = arguments()
    images = (
        tf.data.Dataset.from_tensor_slices(paths)
        .map(decode, num_parallel_calls=tf.data.AUTOTUNE)
        .batch(BATCH_SIZE)
        .prefetch(tf.data.AUTOTUNE)
    )
    network = tf_keras.Sequential([hub.KerasLayer(model)])
    logits = network.predict(images, verbose=0, callbacks=[Mark()])
    write(rows, zip(paths, logits.argmax(axis=1), strict=True))


if __name__ == "__main__":
    main()
