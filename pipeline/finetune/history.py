"""Records the steps and epochs of a training."""

from __future__ import annotations

from typing import NamedTuple


class StepRecord(NamedTuple):
    """One step of the training.

    ``phase``: ``head`` or ``network``. ``epoch`` and ``step``: from 1; steps are counted over the
    whole training. ``loss`` in nats and ``accuracy`` in [0, 1] are those of the step's batch.
    """

    phase: str
    epoch: int
    step: int
    loss: float
    accuracy: float


class EpochRecord(NamedTuple):
    """One epoch of the training.

    ``phase`` and ``epoch``: as in ``StepRecord``. ``step``: the epoch's last. ``loss`` and
    ``accuracy``: means over the epoch's training images, each as the network was when it saw
    them; ``validation_loss`` and ``validation_accuracy``: of the validation part, at its end.
    """

    phase: str
    epoch: int
    step: int
    loss: float
    accuracy: float
    validation_loss: float
    validation_accuracy: float
