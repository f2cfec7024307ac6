"""Beam ModelHandlers: how RunInference loads and calls a model."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from apache_beam.ml.inference.base import ModelHandler

from pipeline import progress
from pipeline.records import TopK

if TYPE_CHECKING:
    from pipeline.model import Classifier, ModelSpec

# Beam 2.77 says so wherever PyTorch is not installed, which its model manager imports; what it
# then leaves out is one metric.
logging.getLogger().addFilter(
    lambda record: not str(record.msg).startswith("Resource module is not available")
)


class SavedModelHandler(ModelHandler[np.ndarray, TopK, "Classifier"]):
    """Expects uint8 ``[height, width, 3]`` pixels, outputs one ``TopK`` for each.

    Beam's own TensorFlow handlers load with Keras, which refuses SavedModels, and carry every input
    array along in the output.

    Args:
      spec: of the model, from ``model.inspect``.
      batch_size: images a call; the last batch of a bundle is smaller.
      top_k: how many of the best classes to return.
    """

    def __init__(self, spec: ModelSpec, batch_size: int, top_k: int):
        # Left to itself Beam begins with single images, seven times slower each, and goes up to
        # batches that do not fit in memory.
        super().__init__(min_batch_size=batch_size, max_batch_size=batch_size)
        self._spec = spec
        self._top_k = top_k

    def load_model(self) -> Classifier:
        """Load the model; called once a process."""
        from pipeline.model import load_classifier  # TensorFlow takes seconds to import

        return load_classifier(self._spec, self._top_k)

    def run_inference(
        self,
        batch: Sequence[np.ndarray],
        model: Classifier,
        inference_args: dict[str, Any] | None = None,
    ) -> list[TopK]:
        """Classify one batch.

        Raises:
          PredictionError: the model does not give exactly one result for each image.
        """
        started = time.perf_counter()
        results = model.classify(np.stack(batch))
        seconds = (time.perf_counter() - started) / len(batch)
        progress.add(labeled=len(results))
        return [result._replace(seconds=seconds) for result in results]

    def get_num_bytes(self, batch: Sequence[np.ndarray]) -> int:
        """The size of a batch; Beam's default pickles it to find out."""
        return sum(pixels.nbytes for pixels in batch)

    def get_metrics_namespace(self) -> str:
        """The namespace that all of this package's metrics share."""
        return "labeling"
