"""Writes the trained model as a SavedModel, and proves that it answers as in training.

The export can be called. It has the signatures ``serving_default`` on images and
``serving_examples`` on serialized tf.Examples (``image/encoded``), and contains its labels and
preprocessing, so that ``label`` needs only its folder.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import pipeline
from pipeline.errors import InputError, ModelError, RunError
from pipeline.finetune.graph_decoding import decode
from pipeline.finetune.networks import Head
from pipeline.models import files, trained_on
from pipeline.models.label_files import format_labels
from pipeline.models.preprocessing import Preprocessing
from pipeline.models.spec import ExtractorSpec
from pipeline.models.tensorflow_import import tf

EXAMPLES_SIGNATURE = "serving_examples"


def check(labels: Sequence[str], spec: ExtractorSpec) -> None:
    """Refuse what could be trained, but not exported.

    Args:
      labels: names of the classes.
      spec: of the extractor.

    Raises:
      InputError: a class has a name that ``label`` would not read back.
      ModelError: the extractor takes batches of one size only.
    """
    try:
        format_labels(labels)
    except ValueError as error:
        raise InputError(str(error), subject="input", remedy="rename the class") from error
    if spec.batch is not None:
        raise ModelError(
            f"takes batches of {spec.batch} images and no others, and so would the export",
            subject="model",
            given=spec.handle,
            remedy="give one that takes any number of images",
        )


class Classifier(tf.Module):
    """The trained model: float32 ``[N, height, width, 3]`` in [0, 1] → probabilities.

    Args:
      features: from such images to features ``[N, features]``.
      owner: what holds the variables of ``features``.
      head: what follows it.
      spec: of the extractor.
    """

    def __init__(
        self,
        features: Callable[[tf.Tensor], tf.Tensor],
        owner: Any,
        head: Head,
        spec: ExtractorSpec,
    ):
        super().__init__()
        self.owner = owner
        self.weights, self.bias = head.weights, head.bias
        shape = (None, spec.height, spec.width, 3)

        @tf.function(input_signature=[tf.TensorSpec(shape, tf.float32, "inputs")], autograph=False)
        def classify(inputs: tf.Tensor) -> tf.Tensor:
            return tf.nn.softmax(head.logits(features(inputs), None))

        @tf.function(input_signature=[tf.TensorSpec(shape, tf.float32, "inputs")], autograph=False)
        def serve_images(inputs: tf.Tensor) -> dict[str, tf.Tensor]:
            return {"probabilities": classify(inputs)}

        @tf.function(
            input_signature=[tf.TensorSpec((None,), tf.string, "examples")], autograph=False
        )
        def serve_examples(examples: tf.Tensor) -> dict[str, tf.Tensor]:
            feature = {"image/encoded": tf.io.FixedLenFeature([], tf.string)}
            encoded = tf.io.parse_example(examples, feature)["image/encoded"]
            pixels = tf.map_fn(
                lambda data: decode(data, spec.height, spec.width, spec.resample),
                encoded,
                fn_output_signature=tf.TensorSpec(shape[1:], tf.float32),
            )
            return {"probabilities": classify(pixels / 255.0)}

        self.__call__ = classify
        self.serving = {"serving_default": serve_images, EXAMPLES_SIGNATURE: serve_examples}


def save(
    classifier: Classifier,
    folder: Path,
    labels: Sequence[str],
    spec: ExtractorSpec,
    seen: Iterable[str] = (),
) -> None:
    """Write the SavedModel with its assets into a new folder.

    Args:
      classifier: the model.
      folder: where to.
      labels: the names of its classes.
      spec: of the extractor.
      seen: the SHA-256 of each image that it was trained or validated on, in hexadecimal.
    """
    tf.saved_model.save(
        classifier,
        str(folder),
        signatures=classifier.serving,
        options=tf.saved_model.SaveOptions(save_debug_info=False),
    )
    (folder / "fingerprint.pb").unlink(missing_ok=True)  # TensorFlow's, new each time
    _rename_assets(folder, ("labels.txt", "preprocessing.json", trained_on.NAME))
    assets = folder / "assets"
    assets.mkdir(exist_ok=True)
    (assets / "labels.txt").write_bytes(format_labels(labels))
    Preprocessing(spec.height, spec.width, spec.resample, "probabilities").write(folder)
    trained_on.write(folder, seen, files.resolve(spec.handle))


def _rename_assets(folder: Path, reserved: Sequence[str]) -> None:
    """Give assets of the base model other names, where the export has files of its own.

    A table of the base's, say, is filled from its ``labels.txt`` whenever the export is loaded.
    """
    # Not before ``tensorflow_import``, which sees to TensorFlow's notes.
    from tensorflow.core.protobuf import saved_model_pb2

    path = folder / "saved_model.pb"
    model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    for asset in model.meta_graphs[0].asset_file_def:
        if asset.filename in reserved:
            old = folder / "assets" / asset.filename
            new = old.with_name(f"base_{old.name}")
            while new.exists():
                new = new.with_name(f"base_{new.name}")
            asset.filename = old.rename(new).name
    path.write_bytes(model.SerializeToString(deterministic=True))


class Verifier:
    """Another process that loads an export, to compare its answers with the trained model's.

    It starts before the training, since TensorFlow takes seconds to import, and ends with the
    context.
    """

    def __enter__(self) -> Verifier:
        self._folder = tempfile.TemporaryDirectory()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "pipeline.finetune.verify"],
            cwd=Path(pipeline.__file__).parents[1],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stderr):
            if pipe is not None:
                pipe.close()
        self._folder.cleanup()

    def give(self, model: Path, pixels: np.ndarray) -> None:
        """Send an export and images, uint8 ``[N, height, width, 3]``; call this once."""
        given, self._answers = (Path(self._folder.name, name) for name in ("given.npy", "got.npy"))
        np.save(given, pixels)
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has died; ``compare`` says why
            self._process.stdin.write(f"{model}\n{given}\n{self._answers}\n")
            self._process.stdin.close()

    def compare(self, classifier: Classifier, pixels: np.ndarray) -> float:
        """Compare the model with the export that was sent, on the same images.

        Returns:
          The greatest difference between two probabilities, which is 0.0.

        Raises:
          RunError: it is not 0.0, or the export cannot be loaded.
        """
        expected = classifier.__call__(tf.constant(pixels / np.float32(255.0))).numpy()
        assert self._process.stderr is not None
        error = self._process.stderr.read()
        if self._process.wait() != 0:
            raise RunError(f"the exported model cannot be loaded: {error.strip()[-500:]}")
        difference = float(np.abs(np.load(self._answers) - expected).max())
        if difference != 0.0:
            raise RunError(
                "the exported model's answers differ from the trained one's by up to "
                f"{difference:g}"
            )
        return difference
