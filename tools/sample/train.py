"""Trains the sample's model on drawn images and saves it: ``python -m tools.sample.train``.

A network of depthwise separable convolutions as in MobileNet (arXiv:1704.04861), small enough to
be part of the package. The same packages on the same machine give the same result.
"""

from __future__ import annotations

import multiprocessing
import shutil
from pathlib import Path

import numpy as np

from pipeline.models.preprocessing import Preprocessing
from pipeline.models.tensorflow_import import tf  # isort: split

import tf_keras  # after TensorFlow, whose notes are suppressed
from tf_keras import layers

from pipeline.sample import FEATURES_DIR, MODEL_DIR
from tools.sample.drawings import LABELS, draw

SIZE = 224
TRAIN_IMAGES = 8000
HELD_OUT_IMAGES = 1000
EPOCHS = 12
BATCH_SIZE = 32

# The first of each image's random numbers; those of the embedded images begin with 2.
TRAIN_SEED = 0
HELD_OUT_SEED = 1


def draw_pixels(seed: tuple[int, int]) -> np.ndarray:
    """Draw an image, uint8 ``[SIZE, SIZE, 3]``; its class cycles with the seed's second number."""
    label = LABELS[seed[1] % len(LABELS)]
    return np.asarray(draw(label, np.random.default_rng(seed), SIZE))


def draw_all(seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw images, uint8 ``[count, SIZE, SIZE, 3]``, and classes for them, int ``[count]``."""
    with multiprocessing.get_context("spawn").Pool() as pool:
        images = pool.map(draw_pixels, [(seed, n) for n in range(count)], chunksize=100)
    return np.stack(images), np.arange(count) % len(LABELS)


def build() -> tf_keras.Model:
    """Make the network: float32 ``[N, SIZE, SIZE, 3]`` in [0, 1] → logits ``[N, classes]``."""
    images = tf_keras.Input((SIZE, SIZE, 3))
    x = images
    for filters in (16, 32, 64, 96, 128):
        if filters == 16:
            x = layers.Conv2D(filters, 3, 2, padding="same", use_bias=False)(x)
        else:
            x = layers.SeparableConv2D(filters, 3, 2, padding="same", use_bias=False)(x)
        x = layers.BatchNormalization(momentum=0.9)(x)
        x = layers.ReLU(6)(x)
    x = layers.GlobalAveragePooling2D()(x)
    return tf_keras.Model(images, layers.Dense(len(LABELS))(layers.Dropout(0.2)(x)))


def save(model: tf_keras.Model) -> None:
    """Write the classifier, with its label file and preprocessing, and its features alone."""
    _save(MODEL_DIR, model, "logits")
    (MODEL_DIR / "assets").mkdir(exist_ok=True)
    (MODEL_DIR / "assets" / "labels.txt").write_text("".join(f"{label}\n" for label in LABELS))
    Preprocessing(SIZE, SIZE, resample="bicubic", returns="logits").write(MODEL_DIR)
    pooled = next(layer for layer in model.layers if "pooling" in layer.name)
    _save(FEATURES_DIR, tf_keras.Model(model.input, pooled.output), "features")


def _save(folder: Path, model: tf_keras.Model, output: str) -> None:
    """Write a SavedModel like TensorFlow Hub's: callable, trainable, with one signature."""
    module = tf.train.Checkpoint(
        variables=model.variables,
        trainable_variables=model.trainable_variables,
        regularization_losses=[],
    )
    images = tf.TensorSpec((None, SIZE, SIZE, 3), tf.float32, "inputs")
    module.__call__ = tf.function(lambda inputs, training=False: model(inputs, training=training))
    for training in (False, True):
        module.__call__.get_concrete_function(images, training=training)
    signature = tf.function(
        lambda inputs: {output: model(inputs, training=False)}, input_signature=[images]
    )
    shutil.rmtree(folder, ignore_errors=True)
    tf.saved_model.save(
        module,
        str(folder),
        signatures=signature,
        options=tf.saved_model.SaveOptions(save_debug_info=False),
    )
    (folder / "fingerprint.pb").unlink(missing_ok=True)  # TensorFlow's, new each time


def main() -> None:
    """Draw, train, report the accuracy, and save."""
    tf_keras.utils.set_random_seed(0)
    tf.config.experimental.enable_op_determinism()
    print(f"drawing {TRAIN_IMAGES + HELD_OUT_IMAGES} images")
    images, classes = draw_all(TRAIN_SEED, TRAIN_IMAGES)
    held_out_images, held_out_classes = draw_all(HELD_OUT_SEED, HELD_OUT_IMAGES)
    steps = EPOCHS * TRAIN_IMAGES // BATCH_SIZE
    model = build()
    model.compile(
        tf_keras.optimizers.Adam(tf_keras.optimizers.schedules.CosineDecay(3e-3, steps)),
        tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )

    def dataset(images: np.ndarray, classes: np.ndarray) -> tf.data.Dataset:
        return tf.data.Dataset.from_tensor_slices((images, classes))

    def scale(image: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return tf.cast(image, tf.float32) / 255.0, label

    train = dataset(images, classes).shuffle(TRAIN_IMAGES, seed=0).map(scale).batch(BATCH_SIZE)
    held_out = dataset(held_out_images, held_out_classes).map(scale).batch(BATCH_SIZE)
    model.fit(train, epochs=EPOCHS, validation_data=held_out, verbose=2)
    save(model)
    print(f"saved in {MODEL_DIR} and {FEATURES_DIR}")


if __name__ == "__main__":
    main()
