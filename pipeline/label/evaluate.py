"""Compares the labels of images that have several with the truth, before rows are cut."""

from __future__ import annotations

from collections.abc import Iterable

import apache_beam as beam

from pipeline.records import Labeled
from pipeline.report.multi_label import MultiLabelCounts


class EvaluateLabels(beam.CombineFn):
    """``Labeled``s with all their predictions → one ``MultiLabelCounts``.

    Args:
      labels: the names of the model's classes, in the order of its output.
      threshold: the score in [0, 1] that a label has at least.
      top_k: how many labels an image has at most.
    """

    def __init__(self, labels: tuple[str, ...], threshold: float, top_k: int):
        super().__init__()
        self._labels = labels
        self._threshold = threshold
        self._top_k = top_k

    def create_accumulator(self) -> MultiLabelCounts:  # noqa: D102
        return MultiLabelCounts(self._labels, self._threshold, self._top_k)

    def add_input(self, counts: MultiLabelCounts, row: Labeled) -> MultiLabelCounts:  # noqa: D102
        counts.add(row.truth, row.predictions)
        return counts

    def merge_accumulators(self, some: Iterable[MultiLabelCounts]) -> MultiLabelCounts:  # noqa: D102
        merged = self.create_accumulator()
        for counts in some:
            merged.merge(counts)
        return merged

    def extract_output(self, counts: MultiLabelCounts) -> MultiLabelCounts:  # noqa: D102
        return counts
