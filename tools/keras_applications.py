"""Which exports of keras.applications are labeled as Keras itself labels: a table, made by trying.

Each architecture is built small, with random weights, by Keras 3 and by tf_keras; its preprocessing
is left outside or built in. Each export is probed and called as `label` does it, and its scores are
compared with those of TensorFlow's own call of it, behind Keras' own ``preprocess_input``.

    python -m tools.keras_applications RESULTS.jsonl > docs/keras-applications.md

It takes half an hour; what is in RESULTS.jsonl already is not done again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib
import io
import itertools
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.models.tensorflow_import import tf  # isort: split

from pipeline.errors import ModelError
from pipeline.models.loading import load_classifier
from pipeline.models.probing import probe_classifier
from pipeline.models.scale_trial import settle_scale
from pipeline.models.scaling import SCALES, TRIED_IMAGES
from pipeline.models.spec import ModelSpec, Stated
from tools.sample.drawings import LABELS, draw

CLASSES = 10

# The deviation of the networks' logits. More would only enlarge what arithmetic rounds.
SPREAD = 0.3

TOLERANCE = 1e-4

# Between the scores in the right scale and those in any other; else a case shows little.
LEAST_EFFECT = 100 * TOLERANCE

KERAS = ("keras", "tf_keras")
PLACES = ("outside", "inside")

HEAD = """\
# Models of keras.applications

`python -m tools.keras_applications RESULTS.jsonl` writes this table. It builds {architectures}
architectures with random weights, for the smallest images that they take. Keras 3 and tf_keras
export each of them twice: with its preprocessing outside, so that nothing in the SavedModel tells
what it takes, and inside. Each export labels {images} images by `label`'s own code, and its scores
are compared with those of TensorFlow's own call of it, behind Keras' own `preprocess_input`.

Of {exports} exports, {read} were read without a flag, {flag} need `--scale` and say so,
{refused} are refused until it is given, {unstable} cannot be compared, and {wrong} are wrong in
silence.

A cell has the scale that the model takes and the largest difference of a score, at most
{tolerance:.0e}. **Read**: the scale was read from the graph. **Flag**: the run begins with a
warning that the scale is only assumed, and is right with `--scale`. **Refused**: the first images
speak so clearly against what is assumed that the run is refused, in a line that names `--scale`; it
is right with it. EfficientNet's preprocessing is always inside. **Unstable**: with these random
weights, values that are rounded otherwise in their last bit change the scores by more than that in
TensorFlow's own calls, so nothing can be said.

"""


@dataclass(frozen=True)
class Architecture:
    """A function of keras.applications.

    Attributes:
      name: of the function.
      module: that has its ``preprocess_input``.
      scale: what its first layer takes, a key of ``SCALES``.
      side: of the smallest images that it takes, in pixels.
      has_option: whether its preprocessing is an option, ``include_preprocessing``.
    """

    name: str
    module: str
    scale: str
    side: int = 32
    has_option: bool = False


ARCHITECTURES = (
    Architecture("ConvNeXtSmall", "convnext", "torch", has_option=True),
    Architecture("ConvNeXtTiny", "convnext", "torch", has_option=True),
    Architecture("DenseNet121", "densenet", "torch"),
    Architecture("EfficientNetB0", "efficientnet", "byte"),
    Architecture("EfficientNetB1", "efficientnet", "byte"),
    Architecture("EfficientNetV2B0", "efficientnet_v2", "torch", has_option=True),
    Architecture("EfficientNetV2S", "efficientnet_v2", "symmetric", has_option=True),
    Architecture("InceptionResNetV2", "inception_resnet_v2", "symmetric", 75),
    Architecture("InceptionV3", "inception_v3", "symmetric", 75),
    Architecture("MobileNet", "mobilenet", "symmetric"),
    Architecture("MobileNetV2", "mobilenet_v2", "symmetric"),
    Architecture("MobileNetV3Large", "mobilenet_v3", "symmetric", has_option=True),
    Architecture("MobileNetV3Small", "mobilenet_v3", "symmetric", has_option=True),
    Architecture("NASNetMobile", "nasnet", "symmetric"),
    Architecture("ResNet50", "resnet", "caffe"),
    Architecture("ResNet50V2", "resnet_v2", "symmetric"),
    Architecture("ResNet101", "resnet", "caffe"),
    Architecture("VGG16", "vgg16", "caffe"),
    Architecture("VGG19", "vgg19", "caffe"),
    Architecture("Xception", "xception", "symmetric", 71),
)


@dataclass(frozen=True)
class Result:
    """What came of an export.

    Attributes:
      architecture: its name.
      keras: one of ``KERAS``.
      place: one of ``PLACES``.
      right: the scale that it takes, a key of ``SCALES``.
      taken: the scale that was taken without a flag; "" if it was refused.
      source: how that was known, in words; "" if it was assumed.
      said: what was printed.
      difference: the largest of a score without a flag; infinite if it was refused.
      stated: the same with the right scale stated.
      rounding: the same between two of TensorFlow's own calls, if each value is rounded otherwise.
    """

    architecture: str
    keras: str
    place: str
    right: str
    taken: str
    source: str
    said: str
    difference: float
    stated: float
    rounding: float = 0.0

    @property
    def outcome(self) -> str:
        """One of "read", "flag", "refused", "unstable" and "wrong"."""
        if self.stated > TOLERANCE:
            is_told = self.source or "--scale" in self.said
            return "unstable" if is_told and self.rounding > TOLERANCE else "wrong"
        if self.difference <= TOLERANCE:
            return "read" if self.source == "read from its graph" else "wrong"
        if "--scale" not in self.said:
            return "wrong"
        return "flag" if self.taken else "refused"


def images(side: int) -> np.ndarray:
    """Draw images like the sample's, uint8 ``[N, side, side, 3]``."""
    labels = itertools.islice(itertools.cycle(LABELS), TRIED_IMAGES)
    rng = np.random.default_rng(0)
    return np.stack([np.asarray(draw(label, rng, side)) for label in labels])


def build(keras: Any, architecture: Architecture, place: str, pixels: np.ndarray) -> Any:
    """Build a network with random weights whose answers differ from image to image.

    The statistics of its batch normalization are those of the images, as if it had been trained.
    """
    keras.backend.clear_session()
    keras.utils.set_random_seed(0)
    options = {"include_preprocessing": place == "inside"} if architecture.has_option else {}
    shape = (architecture.side, architecture.side, 3)
    network = getattr(keras.applications, architecture.name)(
        weights=None, classes=CLASSES, input_shape=shape, **options
    )
    if place == "inside" and not architecture.has_option:
        inputs = keras.Input(shape)
        network = keras.Model(inputs, network(preprocessing(keras, architecture)(inputs)))
    given = values_for(keras, architecture, place, pixels)
    layers = list(network._flatten_layers())
    moving = [layer for layer in layers if type(layer).__name__ == "BatchNormalization"]
    for layer in moving:
        layer.momentum = 0.0
    if moving:
        network(given, training=True)
    (last,) = (layer for layer in layers if _is_softmax(layer))
    head = [layer for layer in layers if getattr(layer, "kernel", None) is not None][-1]
    last.activation, softmax = keras.activations.linear, last.activation
    logits = np.asarray(network(given))
    last.activation = softmax
    spread = np.std(logits - logits.mean(axis=1, keepdims=True))
    head.kernel.assign(head.kernel * (SPREAD / spread))
    return network


def _is_softmax(layer: Any) -> bool:
    return getattr(getattr(layer, "activation", None), "__name__", "") == "softmax"


def preprocessing(keras: Any, architecture: Architecture) -> Callable[[Any], Any]:
    """Get Keras' own function from pixels to what the first layer takes."""
    if architecture.has_option:  # its module has one that does nothing
        mode = {"symmetric": "tf", "torch": "torch"}[architecture.scale]
        utils = importlib.import_module(f"{keras.__name__}.applications.imagenet_utils")
        return functools.partial(utils.preprocess_input, mode=mode)
    module = importlib.import_module(f"{keras.__name__}.applications.{architecture.module}")
    return module.preprocess_input


def values_for(
    keras: Any, architecture: Architecture, place: str, pixels: np.ndarray
) -> np.ndarray:
    """Make of pixels what the network takes, by Keras' own code."""
    values = pixels.astype(np.float32)
    return values if place == "inside" else preprocessing(keras, architecture)(values)


def scores(spec: ModelSpec, pixels: np.ndarray) -> np.ndarray:
    """Label as `label` does, float ``[N, CLASSES]``."""
    found = np.zeros((len(pixels), CLASSES))
    for row, answer in zip(found, load_classifier(spec, CLASSES)(list(pixels)), strict=True):
        row[list(answer.class_ids)] = answer.scores
    return found


def call(model: Path, values: np.ndarray) -> np.ndarray:
    """Call an export as TensorFlow does, float ``[N, CLASSES]``."""
    loaded = tf.saved_model.load(str(model))
    (output,) = loaded.signatures["serving_default"](tf.constant(values)).values()
    return output.numpy()


def try_out(architecture: Architecture, keras_name: str, place: str) -> Result:
    """Build, export, label and compare."""
    keras = importlib.import_module(keras_name)
    pixels = images(architecture.side)
    network = build(keras, architecture, place, pixels)
    right = "byte" if place == "inside" else architecture.scale
    others = [
        np.asarray(network(scale.values(pixels).astype(np.float32), training=False))
        for name, scale in SCALES.items()
        if name != right
    ]
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model"
        with contextlib.redirect_stdout(io.StringIO()):
            network.export(str(model))
        values = values_for(keras, architecture, place, pixels)
        direct = call(model, values)
        rounded = call(model, np.nextafter(values, np.float32(np.inf)))
        labels = Path(folder) / "labels.txt"
        labels.write_text("".join(f"class {number}\n" for number in range(CLASSES)))
        taken, source, difference = "", "", np.inf
        with contextlib.redirect_stderr(io.StringIO()) as said:
            try:
                spec = probe_classifier(str(model), Stated(str(labels)))
                spec = settle_scale(spec, pixels)
                taken, source = spec.scale, spec.scale_source
                difference = np.abs(scores(spec, pixels) - direct).max()
            except ModelError as error:
                print(error.said(lambda name: f"--{name}"), file=sys.stderr)
        stated = difference
        if taken != right:
            spec = probe_classifier(str(model), Stated(str(labels), scale=right))
            stated = np.abs(scores(spec, pixels) - direct).max()
    result = Result(
        architecture=architecture.name,
        keras=keras_name,
        place=place,
        right=right,
        taken=taken,
        source=source,
        said=said.getvalue().replace(str(model), "MODEL"),
        difference=float(difference),
        stated=float(stated),
        rounding=float(np.abs(rounded - direct).max()),
    )
    effect = min(np.abs(np.nan_to_num(other, nan=1e9) - direct).max() for other in others)
    if effect < LEAST_EFFECT:
        print(
            f"{architecture.name}, {place}: with these weights, another scale changes the scores "
            f"by {effect:.0e} only",
            file=sys.stderr,
        )
    return result


def table(results: list[Result]) -> str:
    """Draw the page, of the architectures of which all exports have been tried."""
    columns = list(itertools.product(KERAS, PLACES))
    found = {(it.architecture, it.keras, it.place): it for it in results}
    tried = [
        it
        for it in ARCHITECTURES
        if all((it.name, name, place) in found for name, place in columns)
    ]
    counts = Counter(found[it.name, name, place].outcome for it in tried for name, place in columns)
    head = HEAD.format(
        architectures=len(tried),
        images=TRIED_IMAGES,
        tolerance=TOLERANCE,
        exports=len(tried) * len(columns),
        **{
            outcome: counts[outcome] for outcome in ("read", "flag", "refused", "unstable", "wrong")
        },
    )
    lines = [
        head + "| | side | " + " | ".join(f"{name}, {place}" for name, place in columns) + " |",
        "|" + " --- |" * (2 + len(columns)),
    ]
    for it in tried:
        cells = [_cell(found[it.name, name, place]) for name, place in columns]
        lines.append(f"| {it.name} | {it.side} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(result: Result) -> str:
    return f"{result.outcome}: `{result.right}`, {result.stated:.0e}"


def main(path: Path) -> None:
    """Try what is not in the file of results yet, then print the page."""
    path.touch()
    results = [Result(**json.loads(line)) for line in path.read_text().splitlines()]
    done = {(it.architecture, it.keras, it.place) for it in results}
    for architecture, name, place in itertools.product(ARCHITECTURES, KERAS, PLACES):
        if (architecture.name, name, place) in done:
            continue
        result = try_out(architecture, name, place)
        results.append(result)
        with path.open("a") as file:
            file.write(json.dumps(dataclasses.asdict(result)) + "\n")
        print(architecture.name, name, place, result.outcome, result, file=sys.stderr, flush=True)
    print(table(results))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
