"""Compares labels with the truth, before rows are cut."""

from __future__ import annotations

from pipeline.models import trained_on
from pipeline.records import Labeled
from pipeline.report.multi_label import MultiLabelCounts
from pipeline.report.truth import Judged
from pipeline.tally import CombineTallies

Counts = Judged | MultiLabelCounts


class EvaluateLabels(CombineTallies):
    """``Labeled``s → one ``Judged``; a ``MultiLabelCounts`` if an image may have several labels.

    In the second case the rows must have all their predictions.

    Args:
      labels: the names of the model's classes, in the order of its output.
      threshold: the score in [0, 1] that a label has at least, if there may be several.
      top_k: how many labels an image has at most.
      multi_label: whether an image may have several labels.
    """

    def __init__(self, labels: tuple[str, ...], threshold: float, top_k: int, multi_label: bool):
        super().__init__()
        self._labels = labels
        self._threshold = threshold
        self._top_k = top_k
        self._multi_label = multi_label

    def create_accumulator(self) -> Counts:  # noqa: D102
        if self._multi_label:
            return MultiLabelCounts(self._labels, self._threshold, self._top_k)
        return Judged(known_labels=set(self._labels))

    def add_input(self, counts: Counts, row: Labeled) -> Counts:  # noqa: D102
        if isinstance(counts, Judged):
            counts.add(row.truth, row.predictions, trained_on.said_in(row.carried))
        else:
            counts.add(row.truth, row.predictions)
        return counts
