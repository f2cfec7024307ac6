"""Chooses test images to show in the report, and makes thumbnails of them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Sequence

import numpy as np
from PIL import Image

from pipeline.errors import ImageError, InputError
from pipeline.finetune.mislabeled import Suspects
from pipeline.html.figures import Thumbnail
from pipeline.images.decode import decode
from pipeline.images.loading import read_image
from pipeline.images.pixels import Decoded
from pipeline.inputs.embedded import load_embedded
from pipeline.limits import Limits
from pipeline.models.spec import ExtractorSpec
from pipeline.records import ImageRef
from pipeline.redaction import name_of
from pipeline.report.thumbnails import SIDE, encode

# The most of them, which bounds the size of the page.
MOST_WRONG = 50
MOST_RIGHT = 16
MOST_SUSPECTS = 30


@dataclasses.dataclass(frozen=True)
class Example:
    """A test image and the model's answer.

    Attributes:
      image: its name.
      truth: the name of its class.
      label: the name of the class that the model finds most probable.
      score: the probability that the model gives it, in [0, 1].
      thumbnail: None if it could not be read again.
      is_file: whether the name is that of a file which has just this image.
    """

    image: str
    truth: str
    label: str
    score: float
    thumbnail: Thumbnail | None
    is_file: bool


def choose(classes: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Choose the mistakes with the highest probabilities, and right answers at random.

    Args:
      classes: ids of the true classes, int ``[N]``.
      probabilities: the model's answers, float ``[N, classes]``.

    Returns:
      Indices, int ``[n]``: mistakes, then right answers, always the same ones.
    """
    right = probabilities.argmax(1) == classes
    wrong = np.flatnonzero(~right)
    most_certain = wrong[np.argsort(-probabilities[wrong].max(1), kind="stable")]
    others = np.random.default_rng(0).permutation(np.flatnonzero(right))
    return np.concatenate([most_certain[:MOST_WRONG], others[:MOST_RIGHT]])


def load(
    refs: Sequence[ImageRef],
    classes: np.ndarray,
    probabilities: np.ndarray,
    labels: Sequence[str],
    spec: ExtractorSpec,
    limits: Limits,
) -> tuple[list[Example], list[np.ndarray]]:
    """Read chosen test images again.

    Args:
      refs: all test images.
      classes: ids of their true classes, int ``[N]``.
      probabilities: the model's answers, float ``[N, classes]``.
      labels: the names of the classes.
      spec: says how the images are resized.
      limits: of each image.

    Returns:
      The examples, and the pixels of those that can still be read, as the model takes them: uint8
      ``[height, width, 3]``.
    """
    chosen = choose(classes, probabilities)
    loaded = _loaded([refs[index] for index in chosen])
    examples, pixels = [], []
    for index in chosen:
        ref = loaded.get(refs[index].uri, refs[index])
        thumbnail = None
        if (decoded := _decoded(ref, spec, limits)) is not None:
            pixels.append(decoded.pixels)
            thumbnail = _thumbnail(decoded.pixels, decoded.width, decoded.height)
        answer = int(probabilities[index].argmax())
        score = float(probabilities[index, answer])
        truth = labels[classes[index]]
        image, is_file = name_of(ref.uri), ref.place is None
        examples.append(Example(image, truth, labels[answer], score, thumbnail, is_file))
    return examples, pixels


def load_suspects(
    refs: Sequence[ImageRef],
    suspects: Suspects,
    labels: Sequence[str],
    spec: ExtractorSpec,
    limits: Limits,
) -> list[Example]:
    """Read the worst of the images whose given class is improbable.

    Args:
      refs: all of them.
      suspects: likewise.
      labels: the names of the classes.
      spec: see ``load``.
      limits: likewise.

    Returns:
      Examples, the worst first; ``truth`` is the given class, ``label`` the suggested one.
    """
    refs = refs[:MOST_SUSPECTS]
    loaded = _loaded(refs)
    examples = []
    for n, ref in enumerate(refs):
        decoded = _decoded(loaded.get(ref.uri, ref), spec, limits)
        thumbnail = decoded and _thumbnail(decoded.pixels, decoded.width, decoded.height)
        given, suggested = labels[suspects.given[n]], labels[suspects.suggested[n]]
        score = float(suspects.probabilities[n])
        is_file = ref.place is None
        examples.append(Example(name_of(ref.uri), given, suggested, score, thumbnail, is_file))
    return examples


def _decoded(ref: ImageRef, spec: ExtractorSpec, limits: Limits) -> Decoded | None:
    """Read an image again; None if it is gone in the meantime, since it is only a picture."""
    try:
        data, _ = read_image(ref, limits)
        return decode(data, spec.height, spec.width, spec.resample)
    except ImageError:
        return None


def to_jsonl(examples: Iterable[Example]) -> str:
    """Write examples as lines, from which a report can be made again without the images."""
    return "".join(json.dumps(dataclasses.asdict(one)) + "\n" for one in examples)


def from_jsonl(text: str) -> list[Example]:
    """Read what ``to_jsonl`` wrote.

    Raises:
      ValueError: a line is not JSON.
      KeyError: it is something else.
      TypeError: likewise.
    """
    examples = []
    for line in text.splitlines():
        row = json.loads(line)
        thumbnail = row.pop("thumbnail")
        examples.append(Example(**row, thumbnail=thumbnail and Thumbnail(*thumbnail)))
    return examples


def _thumbnail(pixels: np.ndarray, width: int, height: int) -> Thumbnail | None:
    """Make a thumbnail of what the model takes, in the shape that the image had."""
    scale = SIDE / max(width, height)
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    image = Image.fromarray(pixels)
    return encode(image.resize(size, Image.Resampling.BICUBIC))


def _loaded(refs: Sequence[ImageRef]) -> dict[str, ImageRef]:
    """Load images in TFRecord files with their bytes, by name; nothing from a file that is gone."""
    try:
        return {ref.uri: ref for ref in load_embedded(refs)}
    except InputError:
        return {}
