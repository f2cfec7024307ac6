"""Which function of a SavedModel to call: one of its signatures, or the model itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from pipeline.models.tensorflow_import import tf

# The usual name first, then those of TensorFlow 1 Hub modules.
_OF_IMAGES = ("serving_default", "default", "image_classification")
_OF_EXAMPLES = ("serving_default", "serving_examples")


def image_interface(loaded: Any, wanted: str | None) -> tuple[str | None, tf.TensorShape] | None:
    """Find what takes a batch of images: a signature or, failing that, the model itself.

    Args:
      loaded: a SavedModel.
      wanted: the only signature to consider, or None for whichever fits.

    Returns:
      The signature's name (None: call the model) and the shape of its input, rank 4; or None if
      nothing takes images.
    """
    signature = _choose(
        (
            name
            for name, function in loaded.signatures.items()
            if wanted in (None, name)
            and len(function.structured_input_signature[1]) == 1
            and _is_images(next(iter(function.structured_input_signature[1].values())))
            and len(function.structured_outputs) == 1
        ),
        _OF_IMAGES,
    )
    if signature is not None:
        (spec,) = loaded.signatures[signature].structured_input_signature[1].values()
        return signature, spec.shape
    if callable(loaded) and wanted is None:
        for function in getattr(loaded.__call__, "concrete_functions", ()):
            for spec in tf.nest.flatten(function.structured_input_signature):
                if _is_images(spec):
                    return None, spec.shape
    return None


def example_signature(loaded: Any, wanted: str | None) -> str | None:
    """Find the signature that takes serialized tf.Examples.

    Args:
      loaded: a SavedModel.
      wanted: the only signature to consider, or None for whichever fits.

    Returns:
      The name of a signature with one input, strings ``[N]``; None if there is no such signature,
      or if several fit and none of them has a usual name.
    """
    return _choose(
        (
            name
            for name, function in loaded.signatures.items()
            if wanted in (None, name) and _is_strings(function.structured_input_signature[1])
        ),
        _OF_EXAMPLES,
    )


def describe(loaded: Any) -> dict[str, dict[str, str]]:
    """Tell what each signature takes: dtype and shape, by the signature's and the input's name."""
    return {
        name: {
            key: f"{spec.dtype.name} {spec.shape}"
            for key, spec in function.structured_input_signature[1].items()
        }
        for name, function in loaded.signatures.items()
    }


def as_function(loaded: Any, signature: str | None) -> Callable[[tf.Tensor], tf.Tensor]:
    """Make the model a function from float32 ``[N, height, width, 3]`` to ``[N, outputs]``."""
    if signature is None:
        return loaded
    function = loaded.signatures[signature]
    (name,) = function.structured_input_signature[1]

    def call(images: tf.Tensor) -> tf.Tensor:
        (output,) = function(**{name: images}).values()
        return output

    return call


def _choose(fitting: Iterable[str], usual: Sequence[str]) -> str | None:
    """The one with the most usual name, else the only one."""
    names = list(fitting)
    for name in usual:
        if name in names:
            return name
    return names[0] if len(names) == 1 else None


def _is_images(spec: Any) -> bool:
    return (
        isinstance(spec, tf.TensorSpec)
        and spec.dtype == tf.float32
        and spec.shape.rank == 4
        and spec.shape[3] in (3, None)
    )


def _is_strings(inputs: dict[str, Any]) -> bool:
    specs = list(inputs.values())
    return len(specs) == 1 and specs[0].dtype == tf.string and specs[0].shape.rank == 1
