"""The two networks that are trained: a head on features, and an extractor with that head."""

from __future__ import annotations

import warnings

import numpy as np

from pipeline.errors import ModelError
from pipeline.models import files as model_files
from pipeline.models.model import ExtractorSpec, load
from pipeline.models.tensorflow_import import tf

# The part of the features that each training step leaves out.
DROPOUT = 0.2

# Random crops have at least this part of the image's width and height.
_LEAST_CROP = 0.75


class Head:
    """Features → logits: dropout while training, then one dense layer.

    Args:
      features: how many there are for each image.
      classes: how many there are.
    """

    def __init__(self, features: int, classes: int):
        # Zeros: the loss of a linear classifier has one minimum, whatever it starts from.
        self.weights = tf.Variable(tf.zeros([features, classes]), name="head/weights")
        self.bias = tf.Variable(tf.zeros([classes]), name="head/bias")
        self.variables = [self.weights, self.bias]

    def logits(self, inputs: tf.Tensor, seed: tf.Tensor | None) -> tf.Tensor:
        """Float32 ``[N, features]`` → logits ``[N, classes]``."""
        if seed is not None:
            inputs = tf.nn.experimental.stateless_dropout(inputs, DROPOUT, seed)
        return tf.matmul(inputs, self.weights) + self.bias


class WholeNetwork:
    """Pixels → logits, through an extractor whose variables are trained, too.

    Args:
      spec: of the extractor.
      head: what follows it.

    Raises:
      ModelError: the extractor cannot be trained.
    """

    def __init__(self, spec: ExtractorSpec, head: Head):
        # The same object that was probed says in one word whether there is anything to train.
        if not getattr(load(spec), "trainable_variables", None):
            raise ModelError(
                f"--model {spec.handle}: has nothing that can be trained, so --unfreeze is not "
                "possible; leave it out, or use a TensorFlow 2 feature vector of the Hub"
            )
        with warnings.catch_warnings():  # tensorflow_hub imports pkg_resources, which warns
            warnings.simplefilter("ignore")
            import tensorflow_hub as hub
        self.extractor = hub.KerasLayer(str(model_files.resolve(spec.handle)), trainable=True)
        self.extractor.build([None, spec.height, spec.width, 3])
        self._head = head
        self.variables = [*self.extractor.trainable_variables, *head.variables]

    def logits(self, inputs: tf.Tensor, seed: tf.Tensor | None) -> tf.Tensor:
        """Uint8 ``[N, height, width, 3]`` → logits ``[N, classes]``."""
        images = tf.cast(inputs, tf.float32) / 255.0
        if seed is not None:
            images = augment(images, seed)
        return self._head.logits(self.features(images, training=seed is not None), seed)

    def features(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Float32 ``[N, height, width, 3]`` in [0, 1] → features ``[N, features]``."""
        return self.extractor(images, training=training)


def augment(images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Flip half of the images sideways, and crop all of them, each in its own way.

    Args:
      images: float32 ``[N, height, width, 3]``.
      seed: int64 ``[2]``; the same seed does the same.

    Returns:
      The same shape.
    """
    count, (height, width) = tf.shape(images)[0], images.shape[1:3]
    side, top, left, flip = tf.unstack(tf.random.stateless_uniform([4, count], seed))
    side = _LEAST_CROP + (1.0 - _LEAST_CROP) * side
    top, left = top * (1.0 - side), left * (1.0 - side)
    right = left + side
    # A box from right to left is a flip.
    flipped = flip < 0.5
    boxes = tf.stack(
        [top, tf.where(flipped, right, left), top + side, tf.where(flipped, left, right)], axis=1
    )
    return tf.image.crop_and_resize(images, boxes, tf.range(count), [height, width])


def number_of_weights(variables: list[tf.Variable]) -> int:
    """How many numbers are trained."""
    return sum(int(np.prod(variable.shape)) for variable in variables)
