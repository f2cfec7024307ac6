"""Defines the networks that are trained: a head on features, and an extractor with that head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from pipeline.errors import ModelError
from pipeline.models.loading import load_anew
from pipeline.models.signatures import as_unit_function
from pipeline.models.spec import ExtractorSpec
from pipeline.models.tensorflow_import import tf, what_failed

# The share of the features that each training step drops.
DROPOUT = 0.2

# Random crops have at least this share of the image's width and height.
_LEAST_CROP = 0.75


class Draw(NamedTuple):
    """The random numbers of one training step, for some consecutive images of its batch.

    An image draws the same numbers whether its batch is taken at once or in several parts.

    Attributes:
      seed: int64 ``[2]``, of the step.
      first: int32, the position of the first of these images in the batch.
      total: int32, number of images in the batch.
    """

    seed: tf.Tensor
    first: tf.Tensor
    total: tf.Tensor


class Head:
    """Features → logits: dropout while training, then one dense layer.

    Args:
      features: number of features per image.
      classes: the number of classes.

    Attributes:
      variables: what is trained.
      state: every variable that affects the answers; here the same.
    """

    def __init__(self, features: int, classes: int):
        # Zeros: the loss of a linear classifier has one minimum, whatever it starts from.
        self.weights = tf.Variable(tf.zeros([features, classes]), name="head/weights")
        self.bias = tf.Variable(tf.zeros([classes]), name="head/bias")
        self.variables = [self.weights, self.bias]
        self.state = self.variables

    def logits(self, inputs: tf.Tensor, draw: Draw | None) -> tf.Tensor:
        """Float32 ``[N, features]`` → logits ``[N, classes]``; with dropout if there is a draw."""
        if draw is not None:
            shape = tf.stack([draw.total, tf.shape(inputs)[1]])
            drawn = tf.random.stateless_uniform(shape, draw.seed)
            drawn = drawn[draw.first : draw.first + tf.shape(inputs)[0]]
            inputs = tf.where(drawn >= DROPOUT, inputs * (1.0 / (1.0 - DROPOUT)), 0.0)
        return tf.matmul(inputs, self.weights) + self.bias


class WholeNetwork:
    """Pixels → logits, through an extractor whose weights are trained together with the head's.

    The extractor is the function that was probed, and that computed the features: the same
    signature. Its normalization keeps the statistics that it came with, as advised for fine-tuning
    a network (https://keras.io/guides/transfer_learning/), so a step on a batch does not
    depend on how many images fit in memory at a time.

    Args:
      spec: of the extractor.
      head: what follows it.

    Attributes:
      extractor: the loaded SavedModel, a copy of its own.
      variables: what is trained.
      state: every variable that affects the answers, trained or not.

    Raises:
      ModelError: the extractor cannot be trained.
    """

    def __init__(self, spec: ExtractorSpec, head: Head):
        self.extractor = load_anew(spec)
        self._function = as_unit_function(self.extractor, spec)
        self._head = head
        captured = _captured(self.extractor, spec.signature)
        trained = _with_gradient(self.features, _trainable(self.extractor, captured), spec)
        self.variables = [*trained, *head.variables]
        self.state = [*captured, *head.variables]

    def logits(self, inputs: tf.Tensor, draw: Draw | None) -> tf.Tensor:
        """Uint8 ``[N, height, width, 3]`` → logits ``[N, classes]``; a draw augments them."""
        images = tf.cast(inputs, tf.float32) / 255.0
        if draw is not None:
            images = augment(images, draw)
        return self._head.logits(self.features(images), draw)

    def features(self, images: tf.Tensor) -> tf.Tensor:
        """Float32 ``[N, height, width, 3]`` in [0, 1] → features ``[N, features]``."""
        return self._function(images)


def _captured(loaded: Any, signature: str | None) -> list[tf.Variable]:
    """Find the variables that a function of a SavedModel reads or writes, each once."""
    if signature is None:
        functions = loaded.__call__.concrete_functions
    else:
        functions = [loaded.signatures[signature]]
    found = {variable.ref(): variable for function in functions for variable in function.variables}
    return list(found.values())


def _trainable(loaded: Any, variables: Sequence[tf.Variable]) -> list[tf.Variable]:
    """Select the variables that a SavedModel lists as trainable, as the Hub's models do."""
    listed = getattr(loaded, "trainable_variables", None)
    if listed is None:
        return [variable for variable in variables if variable.trainable]
    wanted = {variable.ref() for variable in listed}
    return [variable for variable in variables if variable.ref() in wanted]


def _with_gradient(
    function: Any, candidates: Sequence[tf.Variable], spec: ExtractorSpec
) -> list[tf.Variable]:
    """Select the candidates on which the features depend.

    Raises:
      ModelError: there are none, or TensorFlow cannot compute the gradient.
    """
    remedy = "leave {unfreeze} out, or use a TensorFlow 2 feature vector of the Hub"
    images = np.random.default_rng(0).random((2, spec.height, spec.width, 3), np.float32)
    try:
        with tf.GradientTape() as tape:
            total = tf.reduce_sum(function(tf.constant(images)))
        gradients = tape.gradient(total, candidates)
    except (tf.errors.OpError, LookupError, ValueError, TypeError) as error:
        raise ModelError(
            f"cannot be trained: TensorFlow has no gradient of it: {what_failed(error)}",
            subject="model",
            given=spec.handle,
            remedy=remedy,
        ) from error
    pairs = zip(candidates, gradients, strict=True)
    trained = [variable for variable, gradient in pairs if gradient is not None]
    if not trained:
        raise ModelError(
            "has nothing that can be trained", subject="model", given=spec.handle, remedy=remedy
        )
    return trained


def augment(images: tf.Tensor, draw: Draw) -> tf.Tensor:
    """Flip half of the images sideways, and crop all of them, each in its own way.

    Args:
      images: float32 ``[N, height, width, 3]``.
      draw: the random numbers; the same draw gives the same result.

    Returns:
      Images of the same shape.
    """
    count, (height, width) = tf.shape(images)[0], images.shape[1:3]
    drawn = tf.random.stateless_uniform(tf.stack([4, draw.total]), draw.seed)
    side, top, left, flip = tf.unstack(drawn[:, draw.first : draw.first + count])
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
    """Count the numbers that are trained."""
    return sum(int(np.prod(variable.shape)) for variable in variables)
