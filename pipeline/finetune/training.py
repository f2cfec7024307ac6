"""Trains in one loop for both phases: the head on features, and the whole network on pixels.

The loss and accuracy of every step are kept; those of an epoch are averages over its images. What
goes into a step (order, dropout, augmentation) is a function of the seed, the epoch and the step,
so a killed run goes on as if it had not been killed.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from pipeline import console
from pipeline.errors import RunError
from pipeline.finetune.history import EpochRecord, StepRecord
from pipeline.finetune.networks import Draw
from pipeline.finetune.temperature import log_softmax
from pipeline.models.tensorflow_import import tf
from pipeline.progress import add, shown

SEED = 0

# Epochs without a better validation loss after which a phase ends.
PATIENCE = 3

_SECONDS_BETWEEN_LINES = 10.0
_SECONDS_BETWEEN_EPOCH_LINES = 1.0  # an epoch of a head may take a few milliseconds
_SECONDS_BETWEEN_CHECKPOINTS = 20.0

# Images per validation or test batch.
_EVALUATION_BATCH = 64


class Network(Protocol):
    """What can be trained: a function with variables.

    Attributes:
      variables: what the optimizer changes.
      state: every variable on which the function depends. A network may have variables that are
        not trained, such as moving statistics, and may change them itself.
    """

    variables: list[tf.Variable]
    state: list[tf.Variable]

    def logits(self, inputs: tf.Tensor, draw: Draw | None) -> tf.Tensor:
        """Compute logits ``[N, classes]``; ``draw`` is None except in a training step."""


@dataclass(frozen=True)
class Part:
    """The images of one part of the data.

    Attributes:
      indices: int ``[N]``, into ``read``'s records.
      classes: int ``[N]``, their classes.
      read: the inputs of some records, ``[len(indices), …]``.
    """

    indices: np.ndarray
    classes: np.ndarray
    read: Callable[[np.ndarray], np.ndarray]

    def __len__(self) -> int:
        return len(self.indices)


@dataclass
class History:
    """The record of a training, with both phases one after the other."""

    steps: list[StepRecord] = field(default_factory=list)
    epochs: list[EpochRecord] = field(default_factory=list)


class _Progress(tf.train.experimental.PythonState):
    """The position of a phase, as part of its checkpoints."""

    def __init__(self, history: History):
        self.epoch = 1
        self.step = 0  # of the epoch
        self.micro_batch = 0
        self.best_loss = float("inf")
        self.best_epoch = 0
        self.history = history

    def serialize(self) -> str:
        state = {key: value for key, value in self.__dict__.items() if not key.startswith("_")}
        return json.dumps(state | {"history": [self.history.steps, self.history.epochs]})

    def deserialize(self, string_value: str) -> None:
        state = json.loads(string_value)
        steps, epochs = state.pop("history")
        self.history.steps[:] = [StepRecord(*step) for step in steps]
        self.history.epochs[:] = [EpochRecord(*epoch) for epoch in epochs]
        self.__dict__.update(state)


class Phase:
    """Trains one network, and ends with its best epoch by validation loss.

    Args:
      name: for people and the history.
      network: what is trained, in place.
      optimizer: a tf_keras optimizer.
      train: the training part.
      validation: the validation part.
      class_weights: float ``[classes]``; the weight of an image of the class.
      batch_size: images per step. If they do not fit in memory, a step takes them in several
        parts and adds up their gradients, which is the same step.
      history: what happened before; this adds to it.
      checkpoints: a folder to resume from and save to, or None if that is not worthwhile.
      tensorboard: a folder for TensorBoard's files.
    """

    def __init__(
        self,
        name: str,
        network: Network,
        optimizer: Any,
        train: Part,
        validation: Part,
        class_weights: np.ndarray,
        batch_size: int,
        history: History,
        checkpoints: Path | None,
        tensorboard: str,
    ):
        self._name = name
        self._network = network
        self._optimizer = optimizer
        self._train = train
        self._validation = validation
        self._class_weights = class_weights.astype(np.float32)
        self._batch_size = batch_size
        self._progress = _Progress(history)
        self._progress.micro_batch = batch_size
        self._writer = tf.summary.create_file_writer(tensorboard)
        # With float16, small gradients vanish unless the loss is scaled up.
        self._scales = hasattr(optimizer, "get_scaled_loss")
        optimizer.build(network.variables)
        self._best = [tf.Variable(variable) for variable in network.state]
        self._said_epoch = 0.0
        self._manager = None
        if checkpoints is not None:
            checkpoint = tf.train.Checkpoint(
                variables=network.state,
                best=self._best,
                optimizer=optimizer,
                progress=self._progress,
            )
            self._manager = tf.train.CheckpointManager(checkpoint, str(checkpoints), max_to_keep=1)
        # No Python in these graphs depends on tensors, and looking for it would take longer than
        # training a small head.
        self._gradients = tf.function(
            self._gradients_eagerly, reduce_retracing=True, autograph=False
        )
        self._apply = tf.function(
            lambda gradients: optimizer.apply_gradients(
                zip(gradients, network.variables, strict=True)
            ),
            autograph=False,
        )
        self._logits = tf.function(
            lambda inputs: network.logits(inputs, None), reduce_retracing=True, autograph=False
        )

    def run(self, epochs: int) -> None:
        """Train for at most so many epochs, or for what is left of them after a restart.

        Raises:
          RunError: not even one image at a time fits in memory, or the training diverges.
        """
        progress = self._progress
        if self._manager and self._manager.restore_or_initialize():
            console.say(
                f"{self._name}: resumes in epoch {progress.epoch}, step {progress.step + 1}"
            )
        elif not progress.history.epochs:
            progress.best_loss = float("inf")
        else:  # another phase's result must be improved
            progress.best_loss, _ = self.evaluate(self._validation)
        left = len(self._train) * (epochs + 1 - progress.epoch) - self._batch_size * progress.step
        with shown() if self._manager else contextlib.nullcontext():  # a head takes seconds
            add(found=left, to_do=left)
            while progress.epoch <= epochs and progress.epoch - progress.best_epoch <= PATIENCE:
                self._epoch()
        for variable, best in zip(self._network.state, self._best, strict=True):
            variable.assign(best)
        console.say(
            f"{self._name}: ends after {progress.epoch - 1} epochs and keeps epoch "
            f"{progress.best_epoch}, with a validation loss of {progress.best_loss:.3f}"
        )

    @property
    def best(self) -> EpochRecord | None:
        """The epoch with which it ended; None if none was better than what was there before."""
        progress = self._progress
        own = (epoch for epoch in progress.history.epochs if epoch.phase == self._name)
        return next((epoch for epoch in own if epoch.epoch == progress.best_epoch), None)

    def evaluate(self, part: Part) -> tuple[float, float]:
        """Compute the mean loss and the accuracy on a part."""
        logits = self.predict(part)
        losses = -log_softmax(logits)[np.arange(len(part)), part.classes]
        return float(losses.mean()), float((logits.argmax(1) == part.classes).mean())

    def predict(self, part: Part) -> np.ndarray:
        """Compute the logits of a part's images, float32 ``[N, classes]``."""
        return np.concatenate(
            [
                self._logits(part.read(part.indices[at : at + _EVALUATION_BATCH])).numpy()
                for at in range(0, len(part), _EVALUATION_BATCH)
            ]
        )

    def _epoch(self) -> None:
        progress = self._progress
        order = np.random.default_rng([SEED, progress.epoch]).permutation(len(self._train))
        starts = range(0, len(order), self._batch_size)
        said = saved = time.monotonic()
        while progress.step < len(starts):
            at = starts[progress.step]
            loss, accuracy = self._step(order[at : at + self._batch_size])
            self._check_finite(loss)
            progress.step += 1
            add(done=len(order[at : at + self._batch_size]))
            number = len(progress.history.steps) + 1
            progress.history.steps.append(
                StepRecord(self._name, progress.epoch, number, loss, accuracy)
            )
            self._log(number, {"step/loss": loss, "step/accuracy": accuracy})
            now = time.monotonic()
            if now - said > _SECONDS_BETWEEN_LINES:
                said = now
                console.say(
                    f"{self._name}: epoch {progress.epoch}, step {progress.step} of {len(starts)}, "
                    f"loss {loss:.3f}"
                )
            if self._manager and now - saved > _SECONDS_BETWEEN_CHECKPOINTS:
                saved = now
                self._manager.save()
        self._end_epoch(len(starts))

    def _end_epoch(self, steps: int) -> None:
        progress = self._progress
        validation_loss, validation_accuracy = self.evaluate(self._validation)
        self._check_finite(validation_loss)
        done = progress.history.steps[-steps:]
        sizes = np.full(steps, self._batch_size)
        sizes[-1] = len(self._train) - self._batch_size * (steps - 1)
        record = EpochRecord(
            self._name,
            progress.epoch,
            len(progress.history.steps),
            float(np.average([step.loss for step in done], weights=sizes)),
            float(np.average([step.accuracy for step in done], weights=sizes)),
            validation_loss,
            validation_accuracy,
        )
        progress.history.epochs.append(record)
        names = ("loss", "accuracy", "validation_loss", "validation_accuracy")
        self._log(record.step, {f"epoch/{name}": getattr(record, name) for name in names})
        self._writer.flush()
        if time.monotonic() - self._said_epoch > _SECONDS_BETWEEN_EPOCH_LINES:
            self._said_epoch = time.monotonic()
            console.say(
                f"{self._name}: epoch {progress.epoch}: loss {record.loss:.3f}, accuracy "
                f"{record.accuracy:.3f}; validation loss {validation_loss:.3f}, "
                f"accuracy {validation_accuracy:.3f}"
            )
        if validation_loss < progress.best_loss:
            progress.best_loss, progress.best_epoch = validation_loss, progress.epoch
            for variable, best in zip(self._network.state, self._best, strict=True):
                best.assign(variable)
        progress.epoch, progress.step = progress.epoch + 1, 0
        if self._manager:
            self._manager.save()

    def _check_finite(self, loss: float) -> None:
        if not np.isfinite(loss):
            raise RunError(
                f"the training of the {self._name} diverges: in epoch {self._progress.epoch} the "
                "loss is no longer a number; give a smaller learning rate"
            )

    def _log(self, step: int, values: dict[str, float]) -> None:
        """Write some curves' next point for TensorBoard, all at once: a step may take 2 ms."""
        point = tf.compat.v1.Summary(
            value=[
                tf.compat.v1.Summary.Value(tag=tag, simple_value=value)
                for tag, value in values.items()
            ]
        )
        with self._writer.as_default():
            tf.summary.experimental.write_raw_pb(point.SerializeToString(), step)

    def _step(self, places: np.ndarray) -> tuple[float, float]:
        """Take one step on some images of the training part; return its loss and accuracy."""
        inputs = self._train.read(self._train.indices[places])
        classes = self._train.classes[places]
        while True:
            try:
                total, loss, right = self._accumulate(inputs, classes)
                break
            except tf.errors.ResourceExhaustedError as error:
                if self._progress.micro_batch == 1:
                    raise RunError("out of memory even with one image at a time") from error
                self._progress.micro_batch = (self._progress.micro_batch + 1) // 2
                console.say(
                    f"{self._name}: out of memory; a batch of {self._batch_size} is now taken "
                    f"{self._progress.micro_batch} images at a time, with the same result"
                )
        self._apply(total)
        return loss, right / len(classes)

    def _accumulate(
        self, inputs: np.ndarray, classes: np.ndarray
    ) -> tuple[list[tf.Tensor], float, int]:
        """Compute gradients, loss and number of correct answers of a batch, in several parts."""
        progress = self._progress
        weights = self._class_weights[classes]
        total: list[tf.Tensor] = []
        loss, right = 0.0, 0
        for at in range(0, len(classes), progress.micro_batch):
            go = slice(at, at + progress.micro_batch)
            draw = Draw(
                tf.constant([SEED + len(progress.history.steps), 0], tf.int64),
                tf.constant(at),
                tf.constant(len(classes)),
            )
            gradients, go_loss, go_right = self._gradients(
                tf.constant(inputs[go]),
                tf.constant(classes[go]),
                tf.constant(weights[go] / weights.sum()),
                draw,
            )
            total = [a + b for a, b in zip(total, gradients, strict=True)] if total else gradients
            loss += float(go_loss)
            right += int(go_right)
        return total, loss, right

    def _gradients_eagerly(
        self, inputs: tf.Tensor, classes: tf.Tensor, weights: tf.Tensor, draw: Draw
    ) -> tuple[list[tf.Tensor], tf.Tensor, tf.Tensor]:
        """Compute the gradients of the sum of the images' cross entropies times ``weights``."""
        with tf.GradientTape() as tape:
            logits = self._network.logits(inputs, draw)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(classes, logits)
            loss = tf.reduce_sum(losses * weights)
            scaled = self._optimizer.get_scaled_loss(loss) if self._scales else loss
        gradients = tape.gradient(scaled, self._network.variables)
        if self._scales:
            gradients = self._optimizer.get_unscaled_gradients(gradients)
        right = tf.math.count_nonzero(tf.argmax(logits, 1) == tf.cast(classes, tf.int64))
        return [tf.convert_to_tensor(gradient) for gradient in gradients], loss, right


def adam(learning_rate: float, mixed_precision: bool) -> Any:
    """Make an optimizer; with mixed precision, for networks whose graphs compute in float16."""
    import tf_keras  # after TensorFlow, whose notes are suppressed

    optimizer = tf_keras.optimizers.Adam(learning_rate)
    if not mixed_precision:
        return optimizer
    # A Hub module is a graph in float32. TensorFlow can rewrite it; no layer's policy can.
    tf.config.optimizer.set_experimental_options({"auto_mixed_precision": True})
    return tf_keras.mixed_precision.LossScaleOptimizer(optimizer)


def class_weights(classes: np.ndarray, count: int) -> np.ndarray:
    """Compute weights that make all classes count the same: float ``[count]``, 1 on average.

    Args:
      classes: int ``[N]``, of the training part, which has images of every class.
      count: number of classes.
    """
    return len(classes) / (count * np.bincount(classes, minlength=count))
