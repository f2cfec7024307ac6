"""Sums up a run in four figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.html import percent, texts
from pipeline.html.figures import Tile
from pipeline.report.truth import Quality


def of_run(summary: Mapping[str, Any], quality: Quality | None, median: float | None) -> list[Tile]:
    """Make the tiles of a label run.

    Args:
      summary: the content of ``summary.json``.
      quality: how good the labels are, if that was found out from the rows.
      median: the median score in [0, 1]; None if that is not known.
    """
    evaluation = summary.get("evaluation") or (quality and quality.to_json()) or {}
    skipped = f", {texts.number(summary['skipped'])} skipped" if summary["skipped"] else ""
    return [
        _quality(evaluation, median),
        Tile(
            "Labeled",
            texts.number(summary["labeled"]),
            f"of {texts.number(summary['found'])} found{skipped}",
        ),
        _failed(summary),
        _below_threshold(summary),
    ]


def _quality(evaluation: Mapping[str, Any], median: float | None) -> Tile:
    if "mean_average_precision" in evaluation:
        images = texts.number(evaluation["images"])
        mean = percent(evaluation["mean_average_precision"])
        return Tile("Mean average precision", mean, f"on {images} images of known classes")
    if evaluation.get("images"):
        low, high = evaluation["interval"]
        interval = f"95\N{NO-BREAK SPACE}% interval {percent(low)} to {percent(high)}"
        images = f"{texts.number(evaluation['images'])} images"
        return Tile("Accuracy", percent(evaluation["accuracy"]), f"{interval}, {images}")
    if evaluation:
        return Tile("Accuracy", "–", "no image is new to the model")
    if median is not None:
        return Tile("Median score", percent(median), "half of the images have a higher one")
    return Tile("Accuracy", "–", "not measured")


def _failed(summary: Mapping[str, Any]) -> Tile:
    failed, reasons = summary["failed"], summary["failure_reasons"]
    if not failed:
        return Tile("Failed", "0", "of those that were new" if summary["skipped"] else "none")
    share = percent(failed / (failed + summary["labeled"]))
    most = max(reasons, key=lambda reason: (reasons[reason], reason), default="")
    note = f"{share}; most: {texts.text(most)}" if most else share
    return Tile("Failed", texts.number(failed), note, is_bad=True)


def _below_threshold(summary: Mapping[str, Any]) -> Tile:
    below = summary.get("below_threshold") or 0
    given = ((summary.get(x) or {}).get("threshold") for x in ("options", "settings"))
    threshold = next((one for one in given if one is not None), None)
    share = f"{percent(below / summary['labeled'])} of the rows" if summary["labeled"] else ""
    if isinstance(threshold, (int, float)):
        said = f"a score below {threshold:g}" if threshold else "there is no threshold"
    else:
        said = ""
    note = "; ".join(filter(None, [share if below else "", said]))
    return Tile("Below the threshold", texts.number(below), note)
