"""Chooses which function of a SavedModel to call, and which of its outputs to use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from pipeline.models.scaling import SCALES
from pipeline.models.spec import ExtractorSpec
from pipeline.models.tensorflow_import import tf

# The usual name first, then those of TensorFlow 1 Hub modules and of this package's exports.
_USUAL = ("serving_default", "default", "image_classification", "serving_examples")


# Types of integers that hold bytes by custom; others may have a range of their own.
_INTEGERS = (tf.uint8, tf.int32, tf.int64)


class Door(NamedTuple):
    """A function of a model that takes a batch.

    Attributes:
      signature: its name; None if it is the model itself that is called.
      spec: of its input, as TensorFlow has it.
      channels_first: whether its images are ``[N, 3, height, width]``.
    """

    signature: str | None
    spec: Any
    channels_first: bool = False

    @property
    def takes_strings(self) -> bool:
        """Whether it takes strings instead of images: files, tf.Examples, or texts."""
        return bool(self.spec.dtype == tf.string)

    @property
    def height(self) -> int | None:
        """Of its images, in pixels; None if that is open."""
        return self.spec.shape[2 if self.channels_first else 1]

    @property
    def width(self) -> int | None:
        """Of its images, in pixels; None if that is open."""
        return self.spec.shape[3 if self.channels_first else 2]


def find_door(loaded: Any, wanted: str | None, takes_strings: bool) -> Door | None:
    """Find the function to call: the one that whoever serves the model would call.

    Args:
      loaded: a SavedModel.
      wanted: the only signature to consider, or None for whichever fits.
      takes_strings: whether it may take strings.

    Returns:
      A signature with a usual name, else the only one that fits, else the model itself if it can be
      called with images; None if nothing fits, or if ``serving_default`` does not.
    """
    doors = {
        name: door
        for name, function in loaded.signatures.items()
        if wanted in (None, name)
        and (door := _door(name, function.structured_input_signature[1])) is not None
        and (takes_strings or not door.takes_strings)
    }
    for name in _USUAL:
        if name in doors:
            return doors[name]
    if wanted is None and _USUAL[0] in loaded.signatures:
        return None  # whoever serves the model calls that one, and it takes something else
    images = [door for door in doors.values() if not door.takes_strings]
    if len(images) == 1:
        return images[0]
    if wanted is None and callable(loaded):
        for function in getattr(loaded.__call__, "concrete_functions", ()):
            for spec in tf.nest.flatten(function.structured_input_signature):
                door = _door(None, {"": spec})
                if door is not None and not door.takes_strings:
                    return door
    return next(iter(doors.values())) if len(doors) == 1 else None


def _door(signature: str | None, inputs: Mapping[str, Any]) -> Door | None:
    """Make the door to a function with these inputs; None if it takes something else."""
    if len(inputs) != 1:
        return None
    (spec,) = inputs.values()
    if not isinstance(spec, tf.TensorSpec):
        return None
    if spec.dtype == tf.string and spec.shape.rank == 1:
        return Door(signature, spec)
    if not (spec.dtype.is_floating or spec.dtype in _INTEGERS) or spec.shape.rank != 4:
        return None
    if spec.shape[3] == 3 or (spec.shape[3] is None and spec.shape[1] != 3):
        return Door(signature, spec)
    return Door(signature, spec, True) if spec.shape[1] == 3 else None


def describe(loaded: Any) -> dict[str, dict[str, str]]:
    """Tell what each signature takes: dtype and shape, by the signature's and the input's name."""
    return {
        name: {
            key: f"{spec.dtype.name} {spec.shape}"
            for key, spec in function.structured_input_signature[1].items()
        }
        for name, function in loaded.signatures.items()
    }


def remedy_for(loaded: Any) -> str:
    """Say how to export a model again that takes images, but not such as are given; else ""."""
    for function in loaded.signatures.values():
        for spec in function.structured_input_signature[1].values():
            if not isinstance(spec, tf.TensorSpec) or spec.shape.rank != 4:
                continue
            channels = spec.shape[3]
            if not (spec.dtype.is_floating or spec.dtype in _INTEGERS):
                return f"export it with float32 or uint8 images instead of {spec.dtype.name}"
            if channels == 1:
                return "export it behind tf.image.rgb_to_grayscale, since the images are RGB"
            if channels not in (3, None):
                return f"export it behind a layer that makes {channels} channels of RGB"
    return ""


def outputs_of(loaded: Any, signature: str | None, batch: tf.Tensor) -> dict[str | None, tf.Tensor]:
    """Call a model.

    Args:
      loaded: a SavedModel.
      signature: to call, or None for the model itself.
      batch: in the form that it takes.

    Returns:
      Its outputs by their names; a single one of a model that is called has the name None.
    """
    if signature is not None:
        function = loaded.signatures[signature]
        (name,) = function.structured_input_signature[1]
        return dict(function(**{name: batch}))
    outputs = loaded(batch)
    if isinstance(outputs, Mapping):
        return dict(outputs)
    if isinstance(outputs, (list, tuple)):
        return {str(number): output for number, output in enumerate(outputs)}
    return {None: outputs}


def choose_output(outputs: Mapping[Any, np.ndarray], wanted: str | None, images: int) -> str | None:
    """Choose the output with a row of numbers for each image.

    Two that say the same, logits and their softmax, are one: the probabilities.

    Args:
      outputs: values by name.
      wanted: the name that was stated, or None.
      images: the number that the model was given.

    Returns:
      The name.

    Raises:
      OutputChoiceError: no output has that name or such rows, or several have.
    """
    if wanted is not None and wanted not in outputs:
        raise OutputChoiceError(f"has no output {wanted!r}; it has {_described(outputs)}")
    usable = {
        name: values
        for name, values in outputs.items()
        if wanted in (None, name) and _is_row_for_each(values, images)
    }
    if len(usable) == 2:
        for name, other in (tuple(usable), tuple(usable)[::-1]):
            if _say_the_same(usable[name], usable[other]):
                return name
    if len(usable) > 1:
        raise OutputChoiceError(f"returns several outputs: {_described(outputs)}")
    if not usable:
        raise OutputChoiceError(
            f"returns {_described(outputs)} for a batch of {images} images; a classifier returns "
            "float [N, classes], a feature extractor float [N, features]"
        )
    return next(iter(usable))


def _say_the_same(values: np.ndarray, others: np.ndarray) -> bool:
    """Tell whether two outputs are equal, or the first is the softmax of the second."""
    return values.shape == others.shape and (
        np.array_equal(values, others) or np.allclose(values, _softmax(others), atol=1e-4)
    )


class OutputChoiceError(ValueError):
    """No output, or more than one, can be used."""


def _is_row_for_each(values: np.ndarray, images: int) -> bool:
    """Tell whether it is ``[N, outputs]``, or ``[N, 1, 1, outputs]``, as without a head."""
    return (
        np.issubdtype(values.dtype, np.floating)
        and values.ndim >= 2
        and values.shape[0] == images
        and set(values.shape[1:-1]) <= {1}
    )


def _softmax(values: np.ndarray) -> np.ndarray:
    shifted = np.exp(values - values.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)


def _described(outputs: Mapping[Any, np.ndarray]) -> str:
    described = {
        name: f"{'string' if values.dtype == object else values.dtype} {list(values.shape)}"
        for name, values in outputs.items()
    }
    if len(described) == 1:
        return next(iter(described.values()))
    return ", ".join(f"{name} {what}" for name, what in described.items()) or "nothing"


def as_function(loaded: Any, spec: ExtractorSpec) -> Callable[[tf.Tensor], tf.Tensor]:
    """Make the model a function of images in its scale.

    Args:
      loaded: the SavedModel that was probed.
      spec: what the probe has found out.

    Returns:
      A function from float32 ``[N, height, width, 3]`` in ``spec.scale`` to ``[N, outputs]``.
    """
    dtype = tf.as_dtype(spec.input_type)

    def call(images: tf.Tensor) -> tf.Tensor:
        if dtype != tf.float32:
            images = tf.cast(tf.round(images) if dtype.is_integer else images, dtype)
        if spec.channels_first:
            images = tf.transpose(images, [0, 3, 1, 2])
        output = outputs_of(loaded, spec.signature, images)[spec.output]
        return output if output.shape.rank == 2 else tf.reshape(output, [-1, spec.outputs])

    return call


def as_unit_function(loaded: Any, spec: ExtractorSpec) -> Callable[[tf.Tensor], tf.Tensor]:
    """Make the model a function of images in [0, 1], whatever its scale.

    Args:
      loaded: the SavedModel that was probed.
      spec: what the probe has found out.

    Returns:
      A function from float32 ``[N, height, width, 3]`` in [0, 1] to float32 ``[N, outputs]``.
    """
    function, scale = as_function(loaded, spec), SCALES[spec.scale]
    return lambda images: tf.cast(function(scale.of_unit(images)), tf.float32)
