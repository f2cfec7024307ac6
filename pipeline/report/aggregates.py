"""Reads a run's rows in one pass, and keeps counts and samples for the page."""

from __future__ import annotations

import gzip
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pipeline.errors import OutputError
from pipeline.formats.registry import in_one_format
from pipeline.formats.shards import read_rows
from pipeline.outputs.rows import FAILURES, LABELS, find_shards
from pipeline.report.sampling import Least
from pipeline.report.truth import Judged
from pipeline.tally import hash_of

# How many images are shown; with the size of a thumbnail, this bounds the size of the page.
BY_LABEL = 96
UNCERTAIN = 24
MISTAKES = 12
MOST_LABELS = 32
IMAGES_OF_A_LABEL = 6
FAILURES_OF_A_REASON = 5

# The number of equal parts of [0, 1] in which scores are counted.
SCORE_BINS = 1000


class Picture(NamedTuple):
    """A labeled image that may be shown.

    ``label``: None below the threshold. ``others``: labels and scores of the next best classes.
    ``width``, ``height``: the original's, in pixels. ``version``: that of the file that was
    labeled. ``truth``: its true class, None if it is not known.
    """

    image: str
    label: str | None
    score: float
    others: tuple[tuple[str, float], ...]
    width: int
    height: int
    version: str
    truth: str | None = None


class Failed(NamedTuple):
    """An image that failed."""

    image: str
    message: str


@dataclass
class Aggregates:
    """What the page needs of a run's rows.

    Attributes:
      labeled: number of labeled images.
      failed: number of failures.
      scores: numbers of images by their first label's score, in ``SCORE_BINS`` parts.
      by_label: the most frequent labels, each with a random sample of its images.
      unlabeled: a random sample of the images below the threshold.
      uncertain: the images with the lowest scores, lowest first.
      mistakes: the wrongly labeled images with the highest scores, highest first.
      judged: all labels against the truth.
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


def shares_of_labels(counts: Mapping[str, int]) -> dict[str, int]:
    """Share the page out among the labels: the most frequent get images first, until it is full."""
    shares, left = {}, BY_LABEL
    for label, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:MOST_LABELS]:
        share = min(count, IMAGES_OF_A_LABEL, left)
        if share > 0:
            shares[label] = share
            left -= share
    return shares


def aggregate_rows(folder: str, label_counts: Mapping[str, int]) -> Aggregates:
    """Read all rows of a run once; memory does not depend on their number.

    Args:
      folder: the run's.
      label_counts: numbers of its images by label, from the summary.

    Raises:
      OutputError: there is something else among the rows.
    """
    try:
        return _sample(folder, label_counts)
    except (KeyError, TypeError, ValueError) as error:
        raise OutputError(f"{folder} has a row that is not of a label run: {error!r}") from error


def _sample(folder: str, label_counts: Mapping[str, int]) -> Aggregates:
    rows = Aggregates()
    by_label: dict[str | None, Least[Picture]] = {
        label: Least(images) for label, images in shares_of_labels(label_counts).items()
    }
    by_label[None] = Least(IMAGES_OF_A_LABEL)
    mistakes = Least[Picture](MISTAKES)
    uncertain = Least[Picture](UNCERTAIN)
    failures: dict[str, Least[Failed]] = {}
    for row in _read(folder, LABELS):
        rows.labeled += 1
        label, score = row["label"], row["score"]
        rows.scores[min(int(score * SCORE_BINS), SCORE_BINS - 1)] += 1
        sample = by_label.get(label)
        if sample is not None:
            key = hash_of(row["image"])
            if sample.wants(key):
                sample.offer(key, _picture(row))
        if uncertain.wants((score, -1)):  # of equal scores, the hash decides
            uncertain.offer((score, hash_of(row["image"])), _picture(row))
        rows.judged.add(row)
        is_wrong = row.get("truth") not in (None, row["predictions"][0]["label"])
        if is_wrong and mistakes.wants((-score, -1)):
            mistakes.offer((-score, hash_of(row["image"])), _picture(row))
    for row in _read(folder, FAILURES):
        rows.failed += 1
        failed = failures.setdefault(row["reason"], Least(FAILURES_OF_A_REASON))
        failed.offer(hash_of(row["image"]), Failed(row["image"], row["message"]))
    rows.unlabeled = by_label.pop(None).items()
    rows.by_label = {str(label): sample.items() for label, sample in by_label.items()}
    rows.uncertain = uncertain.items()
    rows.mistakes = mistakes.items()
    rows.failures = {reason: failed.items() for reason, failed in failures.items()}
    return rows


def _read(folder: str, name: str) -> Iterator[dict[str, Any]]:
    for path in in_one_format(find_shards(folder, name)):
        try:
            yield from read_rows(path)
        except (ValueError, EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise OutputError(f"{path} has something in it that is no row: {error}") from error


def _picture(row: dict[str, Any]) -> Picture:
    first = 0 if row["label"] is None else 1
    others = tuple(
        (other["label"], other["score"]) for other in row["predictions"][first : first + 2]
    )
    return Picture(
        row["image"],
        row["label"],
        row["score"],
        others,
        row["width"],
        row["height"],
        row.get("version", ""),
        row.get("truth"),
    )
