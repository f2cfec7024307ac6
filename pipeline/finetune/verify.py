"""``python -m pipeline.finetune.verify``: the answers of an exported model, for ``Verifier``.

Reads three paths from standard input, a line each: the model, an ``.npy`` file with pixels, and
the ``.npy`` file to write the answers to.
"""

from __future__ import annotations

import sys

import numpy as np

from pipeline.models.tensorflow_import import tf

if __name__ == "__main__":
    model, pixels, output = sys.stdin.read().splitlines()
    images = tf.constant(np.load(pixels) / np.float32(255.0))
    np.save(output, tf.saved_model.load(model)(images).numpy())
