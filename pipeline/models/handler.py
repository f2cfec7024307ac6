"""How Beam's RunInference loads and calls a model."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from apache_beam.ml.inference.base import ModelHandler

from pipeline import console, progress
from pipeline.errors import ModelError, OutOfMemoryError, PredictionError
from pipeline.models.devices import Execution
from pipeline.models.spec import ModelSpec, Takes
from pipeline.records import Answer

# Of this package's metrics.
NAMESPACE = "labeling"

Model = Callable[[Sequence[Any]], "Sequence[Any] | np.ndarray"]

# Beam 2.77 says so wherever PyTorch is not installed, which its model manager imports; what it
# then leaves out is one metric.
logging.getLogger().addFilter(
    lambda record: not str(record.msg).startswith("Resource module is not available")
)

# So many images in a row on which a model fails are no longer taken for bad images.
HOPELESS = 128


class SavedModelHandler(ModelHandler[Any, Answer, Model]):
    """Expects what the model takes, pixels, tf.Examples or files, outputs one ``Answer`` for each.

    Beam's own TensorFlow handlers load with Keras, which refuses SavedModels, and carry every input
    array along in the output; and where Beam handles a model's errors, the whole batch fails.

    Args:
      load: loads the model, a function from N images to N results.
      batch_size: images per call; the last batch of a bundle is smaller.
    """

    def __init__(self, load: Callable[[], Model], batch_size: int):
        # Left to itself Beam begins with single images, seven times slower each, and goes up to
        # batches that do not fit in memory.
        super().__init__(min_batch_size=batch_size, max_batch_size=batch_size)
        self._load = load
        self._fits = batch_size
        self._failed_in_a_row = 0

    def load_model(self) -> Model:
        """Load the model; called once per process."""
        return self._load()

    def run_inference(
        self,
        batch: Sequence[Any],
        model: Model,
        inference_args: dict[str, Any] | None = None,
    ) -> list[Answer]:
        """Call the model with one batch; in parts, if it fails.

        A batch that does not fit in memory is taken in parts of half the size, and what fits is
        remembered for the following batches. One that fails otherwise is halved until the images
        that it fails on are alone.

        Raises:
          PredictionError: the model fails on all of the last ``HOPELESS`` images.
        """
        started = time.perf_counter()
        values: list[Any] = []
        while len(values) < len(batch):
            part = batch[len(values) : len(values) + self._fits]
            try:
                values.extend(self._predict(part, model))
            except OutOfMemoryError:
                self._fits = len(part) // 2
                console.say(
                    f"warning: {len(part)} images at a time do not fit in the device's memory; "
                    f"going on with {self._fits}"
                )
        seconds = (time.perf_counter() - started) / len(batch)
        failed = sum(isinstance(value, str) for value in values)
        progress.add(done=len(values) - failed, failed=failed)
        return [Answer(value, seconds) for value in values]

    def _predict(self, part: Sequence[Any], model: Model) -> list[Any]:
        """What the model returns for each image, or a message for those that it fails on.

        Raises:
          OutOfMemoryError: there are several, and a smaller number may fit.
          PredictionError: see ``run_inference``.
        """
        try:
            values = list(model(part))
        except PredictionError as error:
            if len(part) > 1:
                if isinstance(error, OutOfMemoryError):
                    raise
                half = len(part) // 2
                return self._predict(part[:half], model) + self._predict(part[half:], model)
            self._failed_in_a_row += 1
            if self._failed_in_a_row >= HOPELESS:
                raise PredictionError(
                    f"the model fails on {HOPELESS} images in a row: {error}"
                ) from error
            return [str(error)]
        self._failed_in_a_row = 0
        return values

    def get_num_bytes(self, batch: Sequence[np.ndarray | bytes]) -> int:
        """Return the bytes of a batch; Beam's default pickles it to find out."""
        return sum(len(image) if isinstance(image, bytes) else image.nbytes for image in batch)

    def get_metrics_namespace(self) -> str:
        """Return the namespace that all of this package's metrics share."""
        return NAMESPACE


def handler_for(
    spec: ModelSpec, top_k: int, batch_size: int, execution: Execution
) -> SavedModelHandler:
    """Make the handler that loads and calls a classifier.

    Args:
      spec: of the classifier.
      top_k: how many of the best classes each answer has.
      batch_size: images per call.
      execution: on which device and with which arithmetic.

    Raises:
      ModelError: the model cannot be executed like that.
    """
    from pipeline.models.loading import load_classifier  # TensorFlow takes seconds to import

    if spec.takes is not Takes.IMAGES and (execution.xla or execution.precision != "float32"):
        through = ", and runs through tfx-bsl," if spec.takes is Takes.EXAMPLES else ", and runs"
        raise ModelError(
            f"takes {spec.takes.value}{through} in float32 and without XLA",
            subject="model",
            given=spec.handle,
            remedy="leave out {precision} and {xla}",
        )
    return SavedModelHandler(functools.partial(load_classifier, spec, top_k, execution), batch_size)
