"""Apache Beam in the style of its own image examples (``examples/inference``).

One element a file: read, decode with Pillow, float32, Beam's own TensorFlow handler with its
default batches, argmax afterwards. The handler's own loading does not work with a SavedModel under
Keras 3, so it is replaced; and the runner is named, since DirectRunner first tries to download
another.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
import numpy as np
import tensorflow as tf
from apache_beam.ml.inference.base import KeyedModelHandler, PredictionResult, RunInference
from apache_beam.ml.inference.tensorflow_inference import TFModelHandlerNumpy
from common import SIZE, mark
from PIL import Image


class SavedModelHandler(TFModelHandlerNumpy):
    """Beam's handler, loading what Beam's cannot."""

    def load_model(self) -> Any:
        """The SavedModel, as it is."""
        loaded = tf.saved_model.load(self._model_uri)

        def call(batch: tf.Tensor) -> tf.Tensor:
            logits = loaded(batch)
            mark(len(logits))
            return logits

        return call


def read(path: str) -> tuple[str, np.ndarray]:
    """A path with its image, float32 ``[224, 224, 3]`` in [0, 1]."""
    with Image.open(path) as image:
        resized = image.convert("RGB").resize((SIZE, SIZE))
    return path, np.asarray(resized, np.float32) / 255.0


def name_class(answer: tuple[str, PredictionResult]) -> Iterator[str]:
    """The row of an image."""
    path, result = answer
    yield json.dumps({"image": path, "class_id": int(np.argmax(result.inference))})


def main() -> None:
    """Wire and run the pipeline."""
    listing, model, rows = sys.argv[1:4]
    handler = KeyedModelHandler(SavedModelHandler(model_uri=model))
    with beam.Pipeline(runner="apache_beam.runners.portability.fn_api_runner.FnApiRunner") as pipe:
        _ = (
            pipe
            | beam.io.ReadFromText(listing)
            | beam.Map(read)
            | RunInference(handler)
            | beam.FlatMap(name_class)
            | beam.io.WriteToText(rows, shard_name_template="")
        )


if __name__ == "__main__":
    main()
