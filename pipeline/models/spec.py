"""What a probe has found out about a model. Free of TensorFlow, so that it can travel anywhere."""

from __future__ import annotations

from dataclasses import dataclass


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
    """

    handle: str
    fingerprint: str
    height: int
    width: int
    outputs: int
    signature: str | None
    resample: str


@dataclass(frozen=True)
class ModelSpec(ExtractorSpec):
    """A model whose outputs are classes.

    Attributes:
      labels: one name per class, in the order of the output.
      returns_logits: whether softmax is still to be applied.
      example_output: None for a model of images; for one of serialized tf.Examples, the name of
        the signature's output to use.
      decodes: whether a model of tf.Examples is given the files as they are, since it was trained
        on its own way of decoding them.
    """

    labels: tuple[str, ...]
    returns_logits: bool
    example_output: str | None = None
    decodes: bool = False
