"""Beam ModelHandlers: how RunInference loads and calls a model."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from apache_beam.ml.inference.base import ModelHandler

from pipeline import console, progress
from pipeline.errors import OutOfMemoryError
from pipeline.records import Answer

Model = Callable[[Sequence[Any]], "Sequence[Any] | np.ndarray"]

# Beam 2.77 says so wherever PyTorch is not installed, which its model manager imports; what it
# then leaves out is one metric.
logging.getLogger().addFilter(
    lambda record: not str(record.msg).startswith("Resource module is not available")
)


class SavedModelHandler(ModelHandler[Any, Answer, Model]):
    """Expects what the model takes, pixels or tf.Examples, outputs one ``Answer`` for each.

    Beam's own TensorFlow handlers load with Keras, which refuses SavedModels, and carry every input
    array along in the output.

    Args:
      load: loads the model, a function from N images to N results.
      batch_size: images a call; the last batch of a bundle is smaller.
    """

    def __init__(self, load: Callable[[], Model], batch_size: int):
        # Left to itself Beam begins with single images, seven times slower each, and goes up to
        # batches that do not fit in memory.
        super().__init__(min_batch_size=batch_size, max_batch_size=batch_size)
        self._load = load
        self._fits = batch_size

    def load_model(self) -> Model:
        """Load the model; called once a process."""
        return self._load()

    def run_inference(
        self,
        batch: Sequence[Any],
        model: Model,
        inference_args: dict[str, Any] | None = None,
    ) -> list[Answer]:
        """Call the model with one batch; in parts of half the size, if it does not fit in memory.

        What fits is remembered for the following batches.

        Raises:
          PredictionError: the model does not give exactly one result for each image.
        """
        started = time.perf_counter()
        results: list[Any] = []
        begin = 0
        while begin < len(batch):
            part = batch[begin : begin + self._fits]
            try:
                results.extend(model(part))
                begin += len(part)
            except OutOfMemoryError:
                if len(part) == 1:
                    raise
                self._fits = min(self._fits, len(part) // 2)
                console.say(
                    f"warning: {len(part)} images at a time do not fit in the device's memory; "
                    f"going on with {self._fits}"
                )
        seconds = (time.perf_counter() - started) / len(batch)
        progress.add(done=len(results))
        return [Answer(result, seconds) for result in results]

    def get_num_bytes(self, batch: Sequence[np.ndarray | bytes]) -> int:
        """The size of a batch; Beam's default pickles it to find out."""
        return sum(len(image) if isinstance(image, bytes) else image.nbytes for image in batch)

    def get_metrics_namespace(self) -> str:
        """The namespace that all of this package's metrics share."""
        return "labeling"
