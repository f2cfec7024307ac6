"""Defines what the page shows of a run's rows: counts, samples of images, thumbnails."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pipeline.report.truth import Judged


class Picture(NamedTuple):
    """A labeled image that may be shown.

    ``label``: None below the threshold. ``others``: labels and scores of the next best classes, or
    the image's other labels if it may have several. ``width``, ``height``: of the original, in
    pixels. ``version``: of the file that was labeled. ``truth``: its true class or classes, None if
    unknown. ``by_person``: whether a person gave the label; ``others`` then begin with the model's.
    """

    image: str
    label: str | None
    score: float
    others: tuple[tuple[str, float], ...]
    width: int
    height: int
    version: str
    truth: str | None = None
    by_person: bool = False


class Failed(NamedTuple):
    """An image that failed."""

    image: str
    message: str


class Earlier(NamedTuple):
    """The last run before this one that labeled images.

    ``name``: of its folder, beside this run's. ``summary``: the content of its ``summary.json``.
    """

    name: str
    summary: Mapping[str, Any]


@dataclass
class Aggregates:
    """What the page needs of a run's rows.

    Attributes:
      labeled: number of labeled images.
      failed: number of failures.
      scores: numbers of images by their best score, in ``SCORE_BINS`` parts.
      by_label: the most frequent labels, each with a random sample of its images.
      unlabeled: a random sample of the images below the threshold.
      uncertain: the images with the lowest scores, lowest first.
      mistakes: the wrongly labeled images with the highest scores, highest first.
      judged: all labels compared with the truth, if an image has only one.
      failures: the reasons, each with a random sample of its failures.
    """

    labeled: int = 0
    failed: int = 0
    scores: Counter[int] = field(default_factory=Counter)
    by_label: dict[str, list[Picture]] = field(default_factory=dict)
    unlabeled: list[Picture] = field(default_factory=list)
    uncertain: list[Picture] = field(default_factory=list)
    mistakes: list[Picture] = field(default_factory=list)
    judged: Judged = field(default_factory=Judged)
    failures: dict[str, list[Failed]] = field(default_factory=dict)
