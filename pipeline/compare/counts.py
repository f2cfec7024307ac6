"""Counts what is the same and what is not in two runs, in memory that does not grow with them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pipeline.compare.join import Pair
from pipeline.compare.rows import Row
from pipeline.compare.truth import Judged
from pipeline.report.sampling import Least
from pipeline.tally import hash_of

# The most that is shown or listed of each kind.
CHANGED = 60
EXAMPLES = 5

# Labels that are counted separately, and pairs of them; what comes later counts as one.
_MOST_LABELS = 10_000
_MOST_PAIRS = 50_000
OTHER = "(other labels)"

# Equal parts of [0, 1] in which scores are counted.
SCORE_PARTS = 20

LABEL, FAILED, LABELED = "label", "failed", "labeled"


class Change(NamedTuple):
    """An image that has not the same outcome in both runs.

    ``kind``: ``LABEL`` if another label, ``FAILED`` if only the second run failed on it,
    ``LABELED`` if only the first did.
    """

    kind: str
    image: str
    a: Row
    b: Row


@dataclass
class Side:
    """Counts of one run.

    Attributes:
      images: number of images with a row.
      labeled: number of them that have not failed.
      only: number of them that the other run has no row of.
      examples: a few of those, by name.
      labels: of the images that both runs labeled, numbers by label; "" is no label.
      scores: of the same images, numbers by ``SCORE_PARTS`` of their best score.
      score_sum: of the same images, the sum of their best scores.
    """

    images: int = 0
    labeled: int = 0
    only: int = 0
    examples: Least[str] = field(default_factory=lambda: Least(EXAMPLES))
    labels: Counter[str] = field(default_factory=Counter)
    scores: Counter[int] = field(default_factory=Counter)
    score_sum: float = 0.0

    def count(self, row: Row | None) -> None:
        """Count an image of this run."""
        if row is not None:
            self.images += 1
            self.labeled += row.reason is None

    def keep(self, image: str) -> None:
        """Count an image that only this run has."""
        self.only += 1
        self.examples.offer(image, image)

    def score(self, row: Row, labels: Sequence[str]) -> None:
        """Count an image that both runs labeled, with its labels."""
        for label in labels or [""]:
            _add(self.labels, label, OTHER, _MOST_LABELS)
        self.scores[min(int(row.score * SCORE_PARTS), SCORE_PARTS - 1)] += 1
        self.score_sum += row.score


@dataclass
class Comparison:
    """Counts of two runs, by image.

    Attributes:
      multi_label: whether an image may have several labels; it is the same if all are.
      a: the first run.
      b: the second run.
      both: number of images with rows in both runs.
      compared: number of images that both runs labeled.
      changed: number of them with another label.
      lost: number of the changed that have no label in the second run.
      gained: number of the changed that have no label in the first run.
      pairs: numbers of the changed by both labels.
      removed: if there may be several labels, how often each was taken from an image.
      added: likewise, how often it was given to one.
      changes: the changed images of which both runs are the most certain.
      other_versions: number of images whose file has changed between the runs.
      failed_in_both: number of images.
      came: failures of the second run alone, by reason.
      went: failures of the first run alone, by reason.
      came_examples: some of them.
      went_examples: some of them.
      difference_sum: sum of the differences of scores where the label is the same.
      largest_difference: the largest of these.
      truth: which run is right.
    """

    multi_label: bool
    a: Side = field(default_factory=Side)
    b: Side = field(default_factory=Side)
    both: int = 0
    compared: int = 0
    changed: int = 0
    lost: int = 0
    gained: int = 0
    pairs: Counter[tuple[str, str]] = field(default_factory=Counter)
    removed: Counter[str] = field(default_factory=Counter)
    added: Counter[str] = field(default_factory=Counter)
    changes: Least[Change] = field(default_factory=lambda: Least(CHANGED))
    other_versions: int = 0
    failed_in_both: int = 0
    came: Counter[str] = field(default_factory=Counter)
    went: Counter[str] = field(default_factory=Counter)
    came_examples: Least[Change] = field(default_factory=lambda: Least(EXAMPLES))
    went_examples: Least[Change] = field(default_factory=lambda: Least(EXAMPLES))
    difference_sum: float = 0.0
    largest_difference: float = 0.0
    truth: Judged = field(init=False)

    def __post_init__(self) -> None:
        """Make the counts of right answers."""
        self.truth = Judged(self.multi_label)

    def labels(self, row: Row) -> list[str]:
        """List the labels of a row, each once."""
        if row.reason is not None or row.label is None:
            return []
        return sorted(set(row.predicted)) if self.multi_label else [row.label]

    def add(self, pair: Pair) -> Change | None:
        """Count one more image; return it if its outcome has changed."""
        image, a, b = pair
        self.a.count(a)
        self.b.count(b)
        if a is None or b is None:
            (self.a if b is None else self.b).keep(image)
            return None
        self.both += 1
        self.other_versions += a.version != b.version
        if a.reason is not None and b.reason is not None:
            self.failed_in_both += 1
            return None
        self.truth.add(a, b)
        if b.reason is not None:
            self.came[b.reason] += 1
            return self._example(self.came_examples, Change(FAILED, image, a, b))
        if a.reason is not None:
            self.went[a.reason] += 1
            return self._example(self.went_examples, Change(LABELED, image, a, b))
        return self._compare(image, a, b)

    def _example(self, examples: Least[Change], change: Change) -> Change:
        examples.offer(hash_of(change.image), change)
        return change

    def _compare(self, image: str, a: Row, b: Row) -> Change | None:
        self.compared += 1
        before, after = self.labels(a), self.labels(b)
        self.a.score(a, before)
        self.b.score(b, after)
        if before == after:
            difference = abs(a.score - b.score)
            self.difference_sum += difference
            self.largest_difference = max(self.largest_difference, difference)
            return None
        self.changed += 1
        self.lost += not after
        self.gained += not before
        if self.multi_label:
            for counts, labels in (
                (self.removed, set(before) - set(after)),
                (self.added, set(after) - set(before)),
            ):
                for label in labels:
                    _add(counts, label, OTHER, _MOST_LABELS)
        else:
            _add(self.pairs, ("".join(before), "".join(after)), (OTHER, OTHER), _MOST_PAIRS)
        change = Change(LABEL, image, a, b)
        key = (-min(a.score, b.score), hash_of(image))
        self.changes.offer(key, change)
        return change


def _add(counts: Counter[Any], key: Any, other: Any, most: int) -> None:
    counts[key if key in counts or len(counts) < most else other] += 1
