"""Counts which of two runs is right, for images of known truth."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pipeline.compare.rows import Row
from pipeline.compare.statistics import mcnemar_mid_p, paired_interval
from pipeline.evaluation import classes_in, share_of, wilson_interval

# What chance alone may do, in one of so many cases, before a run counts as better.
_UNLIKELY = 0.05

# Classes that are counted separately; what comes later counts as one.
_MOST_CLASSES = 5000
OTHER = "(other classes)"


@dataclass
class OfClass:
    """Numbers of images of one class, or with its label.

    Attributes:
      images: number of images of this class.
      a: number of them that the first run labels as it.
      b: number of them that the second run does.
      only_a: number of them that only the first run does.
      only_b: number of them that only the second run does.
      said_a: number of images of any class that the first run labels as this one.
      said_b: number of those that the second run does.
    """

    images: int = 0
    a: int = 0
    b: int = 0
    only_a: int = 0
    only_b: int = 0
    said_a: int = 0
    said_b: int = 0


class ClassResult(NamedTuple):
    """Which run is better on a class.

    ``recall_a``, ``recall_b``: shares in [0, 1] of its images that the runs label as it.
    ``precision_a``, ``precision_b``: shares of the images with its label that are of it; None if
    there are none. ``p``: McNemar's mid-p for its images. ``better``: ``a`` or ``b``, if chance
    hardly explains the difference in any of the classes; else None.
    """

    label: str
    images: int
    recall_a: float
    recall_b: float
    precision_a: float | None
    precision_b: float | None
    only_a: int
    only_b: int
    p: float
    better: str | None


@dataclass
class Judged:
    """Counts of the images that at least one of the runs labeled, and whose truth is known.

    A run that failed on such an image is not right. Below a threshold, the most probable class
    counts. If there may be several labels, a run is right if it gives all of them and no other.

    Attributes:
      multi_label: whether an image may have several labels.
      images: number of these images.
      a: number of them for which the first run is right.
      b: number of them for which the second run is.
      only_a: number of them for which only the first run is.
      only_b: number of them for which only the second run is.
      unknown: number of images without a truth.
      contradicted: number of images with another truth in the other run; they count nowhere else.
      trained_on: number of images that one of the models was trained on; likewise.
      classes: by name.
    """

    multi_label: bool
    images: int = 0
    a: int = 0
    b: int = 0
    only_a: int = 0
    only_b: int = 0
    unknown: int = 0
    contradicted: int = 0
    trained_on: int = 0
    classes: dict[str, OfClass] = field(default_factory=dict)

    def add(self, a: Row, b: Row) -> None:
        """Count one more image."""
        known = {self._classes(row.truth) for row in (a, b) if row.truth is not None}
        if not known:
            self.unknown += 1
            return
        if len(known) > 1:
            self.contradicted += 1
            return
        if a.trained_on or b.trained_on:
            self.trained_on += 1
            return
        [truth] = known
        said_a, said_b = self._said(a), self._said(b)
        right_a = a.reason is None and said_a == truth
        right_b = b.reason is None and said_b == truth
        self.images += 1
        self.a += right_a
        self.b += right_b
        self.only_a += right_a and not right_b
        self.only_b += right_b and not right_a
        for label in truth:
            of_it = self._class(label)
            hit_a, hit_b = label in said_a, label in said_b
            of_it.images += 1
            of_it.a += hit_a
            of_it.b += hit_b
            of_it.only_a += hit_a and not hit_b
            of_it.only_b += hit_b and not hit_a
        for label in said_a:
            self._class(label).said_a += 1
        for label in said_b:
            self._class(label).said_b += 1

    def _classes(self, truth: str) -> frozenset[str]:
        return frozenset(classes_in(truth) if self.multi_label else [truth])

    def _said(self, row: Row) -> frozenset[str]:
        return frozenset(row.predicted if self.multi_label else row.predicted[:1])

    def _class(self, label: str) -> OfClass:
        if label not in self.classes and len(self.classes) >= _MOST_CLASSES:
            label = OTHER
        return self.classes.setdefault(label, OfClass())

    @property
    def p(self) -> float:
        """McNemar's mid-p."""
        return mcnemar_mid_p(self.only_a, self.only_b)

    @property
    def better(self) -> str | None:
        """``a`` or ``b`` if chance hardly explains that it is right more often; else None."""
        return _better(self.only_a, self.only_b, self.p, _UNLIKELY)

    def results(self) -> list[ClassResult]:
        """Compare the runs on each class that has images, the largest differences first.

        With many classes, chance makes a run better on some of them; so the limit for each is
        divided by their number (Bonferroni).
        """
        there = {name: counts for name, counts in self.classes.items() if counts.images}
        found = []
        for name, one in there.items():
            p = mcnemar_mid_p(one.only_a, one.only_b)
            found.append(
                ClassResult(
                    label=name,
                    images=one.images,
                    recall_a=one.a / one.images,
                    recall_b=one.b / one.images,
                    precision_a=share_of(one.a, one.said_a),
                    precision_b=share_of(one.b, one.said_b),
                    only_a=one.only_a,
                    only_b=one.only_b,
                    p=p,
                    better=_better(one.only_a, one.only_b, p, _UNLIKELY / len(there)),
                )
            )
        return sorted(
            found, key=lambda one: (-abs(one.only_a - one.only_b), -one.images, one.label)
        )

    def to_json(self) -> dict[str, Any] | None:
        """Return the figures as ``compare.json`` has them; None if no truth is known."""
        left_out = {
            "unknown": self.unknown,
            "contradicted": self.contradicted,
            "trained_on": self.trained_on,
        }
        if not self.images:
            return None
        return {
            "images": self.images,
            **left_out,
            "accuracy_a": self.a / self.images,
            "interval_a": list(wilson_interval(self.a, self.images)),
            "accuracy_b": self.b / self.images,
            "interval_b": list(wilson_interval(self.b, self.images)),
            "only_a_right": self.only_a,
            "only_b_right": self.only_b,
            "drop": (self.a - self.b) / self.images,
            "drop_interval": list(paired_interval(self.only_a, self.only_b, self.images)),
            "test": "McNemar, mid-p",
            "p": self.p,
            "better": self.better,
            "classes": [one._asdict() for one in self.results()],
        }


def _better(only_a: int, only_b: int, p: float, unlikely: float) -> str | None:
    if p >= unlikely or only_a == only_b:
        return None
    return "a" if only_a > only_b else "b"
