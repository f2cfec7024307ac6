"""What a user says of a model, and what a probe has found out about it.

Free of TensorFlow, so that both can travel anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from pipeline.models.scaling import SCALES

# What a classifier returns for each class: numbers for softmax, probabilities that add up to 1, or
# a probability of its own for each class.
RETURNS = ("logits", "probabilities", "sigmoid")


class Takes(Enum):
    """What a model takes of each image; the values are for people."""

    IMAGES = "pixels"
    EXAMPLES = "tf.Examples"
    FILES = "image files"


@dataclass(frozen=True)
class Stated:
    """What a user says of a model; None for what the model itself shall tell.

    Attributes:
      labels_file: path or URI of the class names.
      resample: the filter that images are resized with, a key of ``resizing.RESAMPLING``.
      signature: the name of the signature to call.
      output: the name of the output to use.
      scale: the values that a pixel has, a key of ``scaling.SCALES``.
      returns: one of ``RETURNS``.
      channels_first: whether images may be transposed to ``[N, 3, height, width]``.
      fingerprint: of the only model that may be used, as ``files.fingerprint`` returns it.
    """

    labels_file: str | None = None
    resample: str | None = None
    signature: str | None = None
    output: str | None = None
    scale: str | None = None
    returns: str | None = None
    channels_first: bool = False
    fingerprint: str | None = None


NOTHING_STATED = Stated()


@dataclass(frozen=True)
class ExtractorSpec:
    """All that a worker needs to load a model that the launcher has probed.

    Attributes:
      handle: what the user called the model; see ``files.resolve``.
      fingerprint: of the model's files; a worker refuses others under the same handle.
      height: of the input, in pixels.
      width: of the input, in pixels.
      outputs: how many numbers it returns for each image.
      signature: the signature to use, or None to call the model itself.
      resample: the filter that images are resized with, a key of ``resizing.RESAMPLING``.
      output: the name of the output to use; None if it has no names.
      scale: the values that it takes for a pixel, a key of ``scaling.SCALES``.
      scale_source: how that is known, in words; "" if it is only assumed.
      input_type: the name of its input's dtype.
      channels_first: whether it takes ``[N, 3, height, width]``.
      batch: the number of images that it takes at a time; None for any.
      staged: where workers find the same model; None if it is where ``handle`` says.
    """

    handle: str
    fingerprint: str
    height: int
    width: int
    outputs: int
    signature: str | None
    resample: str
    output: str | None = None
    scale: str = "unit"
    scale_source: str = ""
    input_type: str = "float32"
    channels_first: bool = False
    batch: int | None = None
    staged: str | None = None

    @property
    def source(self) -> str:
        """Where the model is read; see ``files.resolve``."""
        return self.staged or self.handle

    @property
    def scale_words(self) -> str:
        """Say which values it takes for a pixel, and how that is known."""
        return f"{SCALES[self.scale].words} ({self.scale_source or 'assumed'})"


@dataclass(frozen=True, kw_only=True)
class ModelSpec(ExtractorSpec):
    """A model whose outputs are classes.

    Attributes:
      labels: one name per class, in the order of the output. A model with one output has two
        classes; its number is for the second.
      returns: one of ``RETURNS``.
      takes: pixels, serialized tf.Examples with a file in them, or files.
      decodes: whether it is given the files as they are, since it was trained on its own way of
        decoding them; else those with the decoded pixels, if it takes files at all.
      lists_images: whether it has a list of the images that it was trained on, see ``trained_on``.
      temperature: what the logits behind its probabilities are divided by, see
        ``evaluation.calibrated``; a user wants it, the model does not say it.
    """

    labels: tuple[str, ...]
    returns: str
    takes: Takes = Takes.IMAGES
    decodes: bool = False
    lists_images: bool = False
    temperature: float = 1.0

    @property
    def scale_words(self) -> str:
        """Say which values it takes for a pixel, and how that is known."""
        return super().scale_words if self.takes is Takes.IMAGES else "files, which it decodes"

    @property
    def input_words(self) -> str:
        """What it is given of each image, for people: "224×224 pixels"."""
        if self.decodes:
            return f"{self.takes.value}, decoded by the model"
        size = f"{self.height}×{self.width} pixels"
        return size if self.takes is Takes.IMAGES else f"{size} in {self.takes.value}"

    @property
    def is_multi_label(self) -> bool:
        """Whether it gives an image several labels: each class has a probability of its own.

        One number is the probability of the second of two classes, of which an image has one.
        """
        return self.returns == "sigmoid" and self.outputs > 1
