"""Reads from the operations of a model what it takes and returns.

What comes before the first layer with weights maps the input to what that layer was trained on,
which is in one of few ranges: [0, 1], [-1, 1], one of mean 0 and deviation 1, bytes, or bytes less
a mean. If just one of the scales leads there, the model was made for it. And the last operation
says whether there is still a softmax to apply.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from pipeline.models.scaling import SCALES
from pipeline.models.tensorflow_import import tf, what_failed

# Operations that leave a pixel's values linear in the input's, whatever they do to its place.
_LINEAR = frozenset(
    {
        "Add", "AddV2", "BiasAdd", "Cast", "ConcatV2", "Div", "DivNoNan", "EnsureShape",
        "ExpandDims", "FakeQuantWithMinMaxArgs", "FakeQuantWithMinMaxVars", "FusedBatchNormV3",
        "GatherV2", "Identity", "IdentityN", "ImageProjectiveTransformV2",
        "ImageProjectiveTransformV3", "Maximum", "Minimum", "MirrorPad", "Mul", "Neg", "Pack",
        "Pad", "PadV2", "Placeholder", "RealDiv", "Reshape", "ResizeArea", "ResizeBicubic",
        "ResizeBilinear", "ResizeNearestNeighbor", "ReverseV2", "ScaleAndTranslate", "SelectV2",
        "Split", "SplitV", "Squeeze", "StopGradient", "StridedSlice", "Sub", "Transpose",
        "Unpack",
    }
)  # fmt: skip
_IGNORED = frozenset({"Shape", "Rank", "Size", "NoOp", "Assert"})

# Operations at the end that leave the kind of the numbers as it is; and layers, which make logits.
_TRANSPARENT = frozenset(
    {"Identity", "Cast", "Reshape", "Squeeze", "EnsureShape", "FakeQuantWithMinMaxArgs",
     "FakeQuantWithMinMaxVars", "StopGradient"}
)  # fmt: skip
_LAYERS = frozenset({"MatMul", "BatchMatMulV2", "BiasAdd", "Conv2D", "Einsum"})

_RANDOM = re.compile(r"(Stateless)?(Random|TruncatedNormal|ParameterizedTruncatedNormal)")

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
    """The operations of a function, with its calls laid open.

    Args:
      function: a ``ConcreteFunction`` from images, ``[N, height, width, 3]`` or, with channels
        first, ``[N, 3, height, width]``, to one output.

    Raises:
      GraphError: TensorFlow cannot lay it open.
    """

    def __init__(self, function: Any):
        try:
            self._graph_def = _lay_open(function)
        except (tf.errors.OpError, ValueError, TypeError, LookupError, RuntimeError) as error:
            raise GraphError(what_failed(error)) from error  # more than 2 GB, say
        self._nodes = {node.name: node for node in self._graph_def.node}
        self._images = function.inputs[0]
        self._output = function.outputs[0].op.name
        self._captured = {inner.op.name: outer for outer, inner in function.graph.captures}
        self._consumers: dict[str, list[Any]] = {}
        for node in self._graph_def.node:
            for name in {_node_of(name): None for name in node.input}:
                self._consumers.setdefault(name, []).append(node)
        self._reads, self._effects = self._uses_of_resources()
        self.fits_no_scale = False  # known once ``scale`` has been read

    def scale(self) -> str | None:
        """Read which scale the function was made for, a key of ``SCALES``; None if unclear."""
        names = self._first_steps()
        if not names:
            return None
        try:
            steps = self._function_of(names)
        except GraphError:
            return None
        # Which color comes first does not show in the range.
        names = [name for name in SCALES if name != "bgr"]
        seen = {name: colors for name in names if (colors := _seen(steps, name)) is not None}
        # Where a model only takes back what was done to its input, all scales lead to a usual
        # range; but only that for which it was made does on the way.
        usual = {
            name: sum(map(_is_usual, colors))
            for name, colors in seen.items()
            if _is_usual(colors[-1])
        }
        best = max(usual.values(), default=0)
        fitting = [name for name, count in usual.items() if count == best] or [
            name
            for name, colors in seen.items()
            if name != "centered" and _is_normalized(colors[-1])
        ]
        self.fits_no_scale = not fitting and bool(seen)
        scale = _only(fitting)
        if scale is not None and _is_swapped(steps, scale, seen[scale][-1]):
            return None
        return scale

    def returns(self) -> str | None:
        """Read what the function returns, one of ``RETURNS``, from its last operation."""
        node = self._nodes[self._output]
        while node.op in _TRANSPARENT and node.input:
            node = self._inputs(node)[0]
        if node.op in ("Add", "AddV2"):  # a bias
            layers = [before for before in self._inputs(node) if before.op in _LAYERS]
            node = layers[0] if layers else node
        if node.op in _LAYERS:
            return "logits"
        return {"Softmax": "probabilities", "Sigmoid": "sigmoid"}.get(node.op)

    def is_random(self) -> bool:
        """Tell whether the output depends on random numbers, as it does while training."""
        return any(_RANDOM.match(self._nodes[name].op) for name in self._needed([self._output]))

    def _needed(self, names: Sequence[str]) -> list[str]:
        """Name the operations that some operations depend on, and these; control aside."""
        done: dict[str, None] = {}
        pending = [*names]
        while pending:
            name = pending.pop()
            if name not in done:
                done[name] = None
                pending += [node.name for node in self._inputs(self._nodes[name])]
        return [*done]

    def _inputs(self, node: Any) -> list[Any]:
        return [self._nodes[_node_of(name)] for name in node.input if not name.startswith("^")]

    def _uses_of_resources(self) -> tuple[dict[str, str], set[str]]:
        """Tell which operations read a variable, and which do something else with a resource.

        Returns:
          The names of the variables by those of the operations that read them; and the names of
          the others, of what depends on them, and of the resources.
        """
        reads: dict[str, str] = {}
        resources = {
            name: name for name, outer in self._captured.items() if outer.dtype == tf.resource
        }
        others: list[str] = []
        pending = [*resources]
        while pending:
            name = pending.pop()
            for node in self._consumers.get(name, ()):
                if node.op == "ReadVariableOp":
                    reads[node.name] = resources[name]
                elif node.op == "Identity":
                    resources[node.name] = resources[name]
                    pending.append(node.name)
                else:
                    others.append(node.name)
        effects = {*resources}
        while others:
            name = others.pop()
            if name not in effects:
                effects.add(name)
                others += [node.name for node in self._consumers.get(name, ())]
        return reads, effects

    def _first_steps(self) -> list[str]:
        """Name what follows from the input up to the first layer, whose input is the last.

        Empty if the input is not a batch of images, or if no layer follows.
        """
        if self._images.shape.rank != 4:
            return []
        pending = [self._images.op.name]
        done: list[str] = []
        while pending and len(done) < _MOST:
            done.append(pending.pop(0))
            for node in self._consumers.get(done[-1], ()):
                if not {done[-1], f"{done[-1]}:0"} & {*node.input}:
                    continue  # of several outputs, the first is followed
                if node.op in _LINEAR:
                    pending.append(node.name)
                elif node.op not in _IGNORED:
                    return done[1:] or done
        return []

    def _function_of(self, names: Sequence[str]) -> Any:
        """Make the function from the images to the first outputs of some operations.

        Only what they need is in it: most of a model's weights, and whatever else it has, such as
        the state of a random generator, are not.
        """
        parts = tf.compat.v1.GraphDef(
            versions=self._graph_def.versions, library=self._graph_def.library
        )
        done: set[str] = set()
        pending = [*names]
        while pending:
            name = pending.pop()
            if name in done:
                continue
            done.add(name)
            node = parts.node.add()
            node.CopyFrom(self._stand_in(name))
            pending += map(_node_of, node.input)
        try:
            whole = tf.compat.v1.wrap_function(
                lambda: tf.graph_util.import_graph_def(parts, name=""), []
            )
            return whole.prune(f"{self._images.op.name}:0", [f"{name}:0" for name in names])
        except (tf.errors.OpError, ValueError, TypeError, LookupError, RuntimeError) as error:
            raise GraphError(what_failed(error)) from error

    def _stand_in(self, name: str) -> Any:
        """What an operation is replaced by: a variable's value, or itself without side effects."""
        captured = self._captured.get(self._reads.get(name, name))
        node = tf.compat.v1.NodeDef(name=name)
        if captured is None:
            node.CopyFrom(self._nodes[name])
            kept = [it for it in node.input if it[0] != "^" or it[1:] not in self._effects]
            node.input[:] = kept
            return node
        if captured.dtype == tf.resource:
            if name not in self._reads:
                raise GraphError(f"{name} is no variable")
            captured = tf.raw_ops.ReadVariableOp(
                resource=captured, dtype=tf.as_dtype(self._nodes[name].attr["dtype"].type)
            )
        node.op = "Const"
        node.attr["dtype"].type = captured.dtype.as_datatype_enum
        node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(captured.numpy()))
        return node


class GraphError(Exception):
    """A function's graph cannot be read."""


def _only(names: list[str]) -> str | None:
    return names[0] if len(names) == 1 else None


def _node_of(name: str) -> str:
    """The operation that an input of another one comes from: "a", "a:1" or "^a"."""
    return name.removeprefix("^").partition(":")[0]


def _lay_open(function: Any) -> Any:
    """The ``GraphDef`` of a function in which the functions that it calls have been inlined."""
    from tensorflow.python.grappler import tf_optimizer

    graph = function.graph
    meta_graph = tf.compat.v1.train.export_meta_graph(graph_def=graph.as_graph_def(), graph=graph)
    kept = [tensor.name for tensor in (*function.inputs, *function.outputs)]
    meta_graph.collection_def["train_op"].node_list.value.extend(kept)
    config = tf.compat.v1.ConfigProto()
    config.graph_options.rewrite_options.min_graph_nodes = -1  # small graphs as well
    config.graph_options.rewrite_options.optimizers.append("function")
    return tf_optimizer.OptimizeGraph(config, meta_graph)


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
    return _are_close(colors, Colors(np.full(3, -127.5), np.full(3, 127.5)))


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
