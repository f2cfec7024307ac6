"""Reads a run's folder: its rows in one pass, its summary, and the previous run."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

from pipeline import storage
from pipeline.errors import OutputError, StoreError
from pipeline.evaluation import classes_in
from pipeline.formats.registry import in_one_format
from pipeline.formats.shards import read_rows
from pipeline.models import trained_on
from pipeline.outputs.layout import FAILURES, LABELS, RUN_FOLDER, SUMMARY, find_shards
from pipeline.records import Prediction, Reason, is_by_person
from pipeline.report.aggregates import Aggregates, Earlier, Failed, Picture
from pipeline.report.histogram import SCORE_BINS
from pipeline.report.sampling import Least
from pipeline.tally import hash_of

# The most images shown; with the size of a thumbnail, this bounds the size of the page.
BY_LABEL = 96
UNCERTAIN = 24
MISTAKES = 12
MOST_LABELS = 32
IMAGES_OF_A_LABEL = 6
FAILURES_OF_A_REASON = 5

# Of what else an image is labeled, where it may have several labels.
OTHER_LABELS = 4


def shares_of_labels(counts: Mapping[str, int]) -> dict[str, int]:
    """Divide the page among the labels: the most frequent get images first, until it is full."""
    shares, left = {}, BY_LABEL
    for label, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:MOST_LABELS]:
        share = min(count, IMAGES_OF_A_LABEL, left)
        if share > 0:
            shares[label] = share
            left -= share
    return shares


def aggregate_rows(
    folder: str, label_counts: Mapping[str, int], multi_label: bool = False
) -> Aggregates:
    """Read all rows of a run once; memory does not depend on their number.

    Args:
      folder: the run's.
      label_counts: numbers of its images by label, from the summary.
      multi_label: whether all predictions of a row are labels. An image is then shown with each
        of them, and is not judged.

    Raises:
      OutputError: the rows contain something else.
    """
    try:
        return _sample(folder, label_counts, multi_label)
    except (KeyError, TypeError, ValueError) as error:
        raise OutputError(f"{folder} has a row that is not of a label run: {error!r}") from error


def _sample(folder: str, label_counts: Mapping[str, int], multi_label: bool) -> Aggregates:
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
        score = row["score"]
        rows.scores[min(int(score * SCORE_BINS), SCORE_BINS - 1)] += 1
        picture = _picture_of_several if multi_label else _picture
        for at, label in _labels(row) if multi_label else [(0, row["label"])]:
            sample = by_label.get(label)
            if sample is not None:
                key = hash_of(row["image"])
                if sample.wants(key):
                    sample.offer(key, picture(row, at))
        if uncertain.wants((score, -1)):  # for equal scores, the hash decides
            uncertain.offer((score, hash_of(row["image"])), picture(row, 0))
        if multi_label:
            wrong = _mistake(row)
        else:
            predictions = [Prediction(**one) for one in row["predictions"]]
            seen = trained_on.said_in(row)
            rows.judged.add(row.get("truth"), predictions, seen)
            is_wrong = row.get("truth") not in (None, row["predictions"][0]["label"])
            wrong = 0 if is_wrong and not seen else None
        if wrong is not None:
            score = row["predictions"][wrong]["score"]
            if mistakes.wants((-score, -1)):
                mistakes.offer((-score, hash_of(row["image"])), picture(row, wrong))
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
            raise OutputError(f"{path} contains something that is not a row: {error}") from error


def _labels(row: dict[str, Any]) -> list[tuple[int, str | None]]:
    """The labels of a row that may have several, with the places of their predictions."""
    places: dict[str | None, int] = {}
    for at, prediction in enumerate(row["predictions"]):
        places.setdefault(prediction["label"], at)
    return [(at, label) for label, at in places.items()] or [(0, None)]


def _mistake(row: dict[str, Any]) -> int | None:
    """The place of the first prediction that the truth does not name; None without one."""
    if row.get("truth") is None:
        return None
    true = classes_in(row["truth"])
    labels = [prediction["label"] for prediction in row["predictions"]]
    return next((at for at, label in enumerate(labels) if label not in true), None)


def _picture_of_several(row: dict[str, Any], at: int) -> Picture:
    """An image as one of those with the label in a place of its predictions."""
    labels = [(one["label"], one["score"]) for one in row["predictions"]]
    label, score = labels.pop(at) if labels else (None, row["score"])
    truth = row.get("truth")
    return _picture(row, at)._replace(
        label=label,
        score=score,
        others=tuple(labels[:OTHER_LABELS]),
        truth=None if truth is None else ", ".join(classes_in(truth)) or "none of the classes",
    )


def _picture(row: dict[str, Any], at: int) -> Picture:
    by_person = is_by_person(row)
    first = 0 if row["label"] is None or by_person else 1
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
        by_person,
    )


def read_summary(folder: str) -> dict[str, Any]:
    """Read the ``summary.json`` of a run's folder.

    Raises:
      OutputError: there is no summary, or it is not that of a label run.
    """
    path = storage.join(folder, SUMMARY)
    try:
        with storage.open_file(path) as file:
            summary = json.loads(file.read())
    except ValueError as error:
        raise OutputError(f"{path} is not a summary: {error}") from error
    except StoreError as error:
        problem = "it has no summary.json" if error.reason is Reason.NOT_FOUND else str(error)
        raise OutputError(
            f"{folder} is not the folder of a whole run: {problem}",
            remedy="give the {output} of a run that has ended, or, with {incremental}, one of the "
            "folders in it",
        ) from error
    counts = ("found", "labeled", "failed", "skipped")
    is_one = (
        isinstance(summary, dict)
        and all(isinstance(summary.get(name), int) for name in counts)
        and all(isinstance(summary.get(name), dict) for name in ("labels", "failure_reasons"))
        and isinstance(summary.get("model"), dict)
    )
    if not is_one:
        raise OutputError(f"{path} is not the summary of a label run")
    return summary


def previous_run(folder: str) -> Earlier | None:
    """Find the last finished run before an incremental one that labeled images.

    None if there is none, if it cannot be read, or if the folder is not that of such a run.
    """
    parent, name = storage.split(folder.rstrip("/"))
    if not name.startswith(RUN_FOLDER):
        return None
    try:
        paths = storage.find(parent, f"{RUN_FOLDER}*/{SUMMARY}")
        folders = [path.rpartition("/")[0] for path in paths]
        # Runs are named by the times at which they began.
        earlier = [path for path in folders if path.rpartition("/")[2] < name]
        for path in sorted(earlier, reverse=True):
            summary = read_summary(path)
            if summary["labeled"]:  # else there was nothing to do, or nothing came of it
                return Earlier(path.rpartition("/")[2], summary)
        return None
    except (OutputError, StoreError):
        return None
