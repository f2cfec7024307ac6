"""Compares the whole network, once it is trained, with the head alone."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from pipeline.finetune.training import Part, Phase


class Outcome(NamedTuple):
    """What a phase of the training has reached.

    ``validation_loss`` in nats, ``validation_accuracy`` and ``test_accuracy`` in [0, 1].
    """

    validation_loss: float
    validation_accuracy: float
    test_accuracy: float


def outcome_of(phase: Phase, test: Part, logits: np.ndarray) -> Outcome | None:
    """Return what a phase has reached; None if no epoch was better than what was there before.

    Args:
      phase: has ended.
      test: the part that tests.
      logits: of that part, ``[N, classes]``.
    """
    best = phase.best
    if best is None:
        return None
    accuracy = float((logits.argmax(1) == test.classes).mean())
    return Outcome(best.validation_loss, best.validation_accuracy, accuracy)


class Unfrozen(NamedTuple):
    """The outcomes of both phases; the network's is None if no epoch has made it better."""

    head: Outcome
    network: Outcome | None

    @property
    def is_better(self) -> bool:
        """Whether the network is better on the validation images, which is what counts.

        Its loss is lower, or else it would have no outcome. A lower loss with more mistakes is not
        what anybody trains for.
        """
        return (
            self.network is not None
            and self.network.validation_accuracy >= self.head.validation_accuracy
        )

    def to_json(self) -> dict[str, Any]:
        """Convert to dicts, numbers and None."""
        return {
            "exported": "network" if self.is_better else "head",
            "head": self.head._asdict(),
            "network": self.network and self.network._asdict(),
        }

    def in_words(self) -> list[str]:
        """Say in a line or two what it was good for."""
        head, network = self.head, self.network
        before = f"accuracy of the head alone: validation {head.validation_accuracy:.3f}, test "
        lines = [f"{before}{head.test_accuracy:.3f}"]
        if network is None:
            return [
                *lines,
                "warning: no epoch of the whole network had a lower validation loss than the head "
                "alone, which is exported",
            ]
        lines[0] += (
            f"; of the whole network: validation {network.validation_accuracy:.3f}, test "
            f"{network.test_accuracy:.3f}"
        )
        if not self.is_better:
            lines.append(
                "warning: training the whole network made it worse on the validation images; the "
                "head alone is exported"
            )
        elif network.test_accuracy < head.test_accuracy:
            lines.append(
                "warning: training the whole network made it worse on the test images, but not on "
                "the validation images, which decide; the whole network is exported"
            )
        return lines
