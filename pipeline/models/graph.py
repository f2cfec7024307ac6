"""Reads from the operations of a model what it takes and returns.

What comes before the first layer with weights maps the input to what that layer was trained on,
which is in one of few ranges: [0, 1], [-1, 1], one of mean 0 and deviation 1, bytes, or bytes less
a mean. If just one of the scales leads there, the model was made for it. And the last operation
says whether there is still a softmax to apply.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from pipeline.models.scaling import SCALES
from pipeline.models.tensorflow_import import tf, what_failed

# Operations that leave a pixel's values linear in the input's, whatever they do to its place.
_LINEAR = frozenset(
    {
        "Add", "AddV2", "BiasAdd", "Cast", "ConcatV2", "Div", "DivNoNan", "EnsureShape",
        "ExpandDims", "FakeQuantWithMinMaxArgs", "FakeQuantWithMinMaxVars", "FusedBatchNormV3",
        "GatherV2", "Identity", "IdentityN", "Maximum", "Minimum", "MirrorPad", "Mul", "Neg",
        "Pack", "Pad", "PadV2", "Placeholder", "RealDiv", "Reshape", "ResizeArea",
        "ResizeBicubic", "ResizeBilinear", "ResizeNearestNeighbor", "ReverseV2",
        "ScaleAndTranslate", "Split", "SplitV", "Squeeze", "StopGradient", "StridedSlice", "Sub",
        "Transpose", "Unpack",
    }
)  # fmt: skip
_IGNORED = frozenset({"Shape", "Rank", "Size", "NoOp", "Assert"})

# Operations at the end that leave the kind of the numbers as it is; and layers, which make logits.
_TRANSPARENT = frozenset(
    {"Identity", "Cast", "Reshape", "Squeeze", "EnsureShape", "FakeQuantWithMinMaxArgs",
     "FakeQuantWithMinMaxVars", "StopGradient"}
)  # fmt: skip
_LAYERS = frozenset({"MatMul", "BatchMatMulV2", "BiasAdd", "Conv2D", "Einsum"})

# The side of the probe where the model leaves it open, in pixels.
_OPEN_SIDE = 64

_RELATIVE_TOLERANCE = 0.02


# Operations that are looked at; in an honest model a dozen come before the first layer.
_MOST = 40


class Colors(NamedTuple):
    """What an operation makes of black and of white.

    ``black``, ``white``: float ``[3]``, in the order of the operation's channels.
    """

    black: np.ndarray
    white: np.ndarray


class Graph:
    """The operations of a function, with its variables as constants and its calls laid open.

    Args:
      function: a ``ConcreteFunction`` with one input, images ``[N, height, width, 3]`` or, with
        channels first, ``[N, 3, height, width]``, and one output.

    Raises:
      GraphError: TensorFlow cannot lay it open.
    """

    def __init__(self, function: Any):
        from tensorflow.python.framework.convert_to_constants import (
            convert_variables_to_constants_v2,
        )

        try:
            self._frozen = convert_variables_to_constants_v2(function, lower_control_flow=False)
            (self._images,) = self._frozen.inputs
        except (tf.errors.OpError, ValueError, TypeError, LookupError, RuntimeError) as error:
            raise GraphError(what_failed(error)) from error  # more than 2 GB, say
        self.fits_no_scale = False  # known once ``scale`` has been read

    def scale(self) -> str | None:
        """Read which scale the function was made for, a key of ``SCALES``; None if unclear."""
        tensors = _steps(self._images)
        if not tensors:
            return None
        steps = self._frozen.prune(self._images, tensors)
        seen = {name: colors for name in SCALES if (colors := _seen(steps, name)) is not None}
        # Where a model only takes back what was done to its input, all scales lead to a usual
        # range; but only that for which it was made does on the way.
        usual = {
            name: sum(map(_is_usual, colors))
            for name, colors in seen.items()
            if _is_usual(colors[-1])
        }
        best = max(usual.values(), default=0)
        fitting = [name for name, count in usual.items() if count == best] or [
            name for name, colors in seen.items() if _is_normalized(colors[-1])
        ]
        self.fits_no_scale = not fitting and bool(seen)
        scale = _only(fitting)
        if scale is not None and _is_swapped(steps, scale, seen[scale][-1]):
            return None
        return scale

    def returns(self) -> str | None:
        """Read what the function returns, one of ``RETURNS``, from its last operation."""
        operation = self._frozen.outputs[0].op
        while operation.type in _TRANSPARENT and operation.inputs:
            operation = operation.inputs[0].op
        if operation.type in ("Add", "AddV2"):  # a bias
            layers = [tensor.op for tensor in operation.inputs if tensor.op.type in _LAYERS]
            operation = layers[0] if layers else operation
        if operation.type in _LAYERS:
            return "logits"
        return {"Softmax": "probabilities", "Sigmoid": "sigmoid"}.get(operation.type)


class GraphError(Exception):
    """A function's graph cannot be read."""


def _only(names: list[str]) -> str | None:
    return names[0] if len(names) == 1 else None


def _steps(images: tf.Tensor) -> list[tf.Tensor]:
    """What follows from the input up to the first layer, whose input is the last.

    Empty if the input is not a batch of images, or if no layer follows.
    """
    if images.shape.rank != 4:
        return []
    pending: list[tf.Tensor] = [images]
    done: list[tf.Tensor] = []
    while pending and len(done) < _MOST:
        tensor = pending.pop(0)
        done.append(tensor)
        for operation in tensor.consumers():
            if operation.type in _LINEAR:
                pending += operation.outputs[:1]
            elif operation.type not in _IGNORED:
                return done[1:] or [tensor]
    return []


def _seen(steps: Any, scale: str) -> list[Colors] | None:
    """What each step makes of images in a scale; None if it cannot be given such."""
    (spec,) = steps.inputs
    if spec.dtype.is_integer and (scale != "byte" or spec.dtype.max < 255):
        return None
    try:
        found = [_centers(steps, scale, (byte, byte, byte)) for byte in (0, 255)]
    except (tf.errors.OpError, ValueError, TypeError):
        return None
    colors = [
        Colors(black, white)
        for black, white in zip(*found, strict=True)
        if black is not None and white is not None
    ]
    return colors if found[0][-1] is not None else None


def _is_swapped(steps: Any, scale: str, colors: Colors) -> bool:
    """Whether the first layer gets blue first, and not in the range for which that is usual."""
    red = _centers(steps, scale, (255, 0, 0))[-1]
    if red is None:
        return False
    mean = np.array(SCALES["caffe"].mean[::-1])
    is_caffe = _are_close(colors, Colors(-mean, 255 - mean))
    return int(np.argmax(np.abs(red - colors.black))) == 2 and not is_caffe


def _centers(steps: Any, scale: str, color: tuple[int, int, int]) -> list[np.ndarray | None]:
    """What each step makes of an image of one color, RGB in bytes, that is given in a scale."""
    (spec,) = steps.inputs
    shape = [size or (1 if n == 0 else _OPEN_SIDE) for n, size in enumerate(spec.shape)]
    channels_first = spec.shape[1] == 3 and spec.shape[3] != 3
    shape[1 if channels_first else 3] = 3
    values = SCALES[scale].values(np.array(color, np.uint8))
    images = np.broadcast_to(values[:, None, None] if channels_first else values, shape)
    results = steps(tf.constant(images, spec.dtype))
    return [_center(result.numpy().astype(np.float64)) for result in results]


def _center(values: np.ndarray) -> np.ndarray | None:
    """The color in the middle of what is constant but for padding; None if there are no colors."""
    if values.ndim != 4:
        # Flattened: all pixels have the same color, so the first has it.
        flat = values.reshape(-1)
        return flat[:3] if len(flat) >= 3 else None
    if values.shape[3] == 3:
        return values[0, values.shape[1] // 2, values.shape[2] // 2]
    if values.shape[1] == 3:
        return values[0, :, values.shape[2] // 2, values.shape[3] // 2]
    return None


def _is_usual(colors: Colors) -> bool:
    """Whether black and white are where one of the usual ranges has them."""
    for scale in SCALES.values():
        black = (np.zeros(3) - scale.mean) / scale.deviation
        white = (np.full(3, 255 / scale.divisor) - scale.mean) / scale.deviation
        for order in (slice(None), slice(None, None, -1)):
            if _are_close(colors, Colors(black[order], white[order])):
                return True
    return _are_close(colors, Colors(np.full(3, -127.5), np.full(3, 127.5))) or _are_close(
        colors, Colors(np.full(3, -0.5), np.full(3, 0.5))
    )


def _are_close(colors: Colors, expected: Colors) -> bool:
    tolerance = _RELATIVE_TOLERANCE * np.abs(expected.white - expected.black).max()
    return bool(
        np.allclose(colors.black, expected.black, rtol=0, atol=tolerance)
        and np.allclose(colors.white, expected.white, rtol=0, atol=tolerance)
    )


def _is_normalized(colors: Colors) -> bool:
    """Whether a data set's own mean and deviation have been taken off: a few units around 0."""
    span = np.abs(colors.white - colors.black)
    middle = np.abs(colors.white + colors.black) / 2
    return bool((span > 1.5).all() and (span < 12).all() and (middle < 1.5).all())
