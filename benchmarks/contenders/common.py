"""What the contenders share, so that they differ in their engine alone.

Every contender is a program of its own, in the environment of its own lock:

    CONTENDER.py LIST MODEL ROWS [FLAG …]

``LIST`` is a text file with one path per line, ``MODEL`` the folder of a SavedModel; it writes
``ROWS``, one ``{"image": path, "class_id": n}`` per line. Where the engine lets it, it decodes with
``decode`` and calls the model in batches of ``BATCH_SIZE`` through ``load``.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

BATCH_SIZE = 64
SIZE = 224

# Read by TensorFlow when it is imported, by load().
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def arguments() -> tuple[list[str], str, str]:
    """The paths to label, the model's folder, and the file to write."""
    listing, model, rows = sys.argv[1:4]
    return Path(listing).read_text().split("\n")[:-1], model, rows


def decode(path: str) -> np.ndarray:
    """Decode a file to uint8 ``[224, 224, 3]``, in the best way with Pillow.

    Where the environment has ``BENCHMARK_DECODE=package``, this package's own, which gives the same
    labels in half the time.
    """
    if os.environ.get("BENCHMARK_DECODE") == "package":  # Ray's workers see no arguments
        from pipeline.images import decode as images

        return images.decode(Path(path).read_bytes(), SIZE, SIZE).pixels
    from PIL import Image

    with Image.open(path) as image:
        image.draft("RGB", (2 * SIZE, 2 * SIZE))
        return np.asarray(image.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BICUBIC))


def load(model: str) -> Callable[[np.ndarray | Sequence[np.ndarray]], np.ndarray]:
    """The model as a function from uint8 ``[N, 224, 224, 3]`` to class ids, int ``[N]``."""
    import tensorflow as tf

    loaded = tf.saved_model.load(model)

    @tf.function(input_signature=[tf.TensorSpec((None, SIZE, SIZE, 3), tf.uint8)])
    def classify(pixels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        logits = loaded(tf.cast(pixels, tf.float32) / 255.0)
        return tf.math.top_k(tf.nn.softmax(logits), 5)

    def predict(pixels: np.ndarray | Sequence[np.ndarray]) -> np.ndarray:
        class_ids = classify(np.asarray(pixels))[1].numpy()[:, 0]
        mark(len(class_ids))
        return class_ids

    return predict


def mark(images: int) -> None:
    """Note that so many images have just been predicted, in the file ``BENCHMARK_MARKS``.

    The steady rate is taken from these marks: that of all images after the first batch.
    """
    if path := os.environ.get("BENCHMARK_MARKS"):
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(descriptor, b"%.6f %d\n" % (time.time(), images))
        os.close(descriptor)


def write(rows: str, answers: Iterable[tuple[str, int]]) -> None:
    """Write the rows of ``(path, class_id)`` pairs."""
    with Path(rows).open("w") as file:
        for image, class_id in answers:
            file.write(json.dumps({"image": image, "class_id": int(class_id)}) + "\n")
