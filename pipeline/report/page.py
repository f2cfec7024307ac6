"""Lays out the page of a run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline import html
from pipeline.html import texts
from pipeline.html.figures import Thumbnail
from pipeline.outputs import layout
from pipeline.report import calibration, histogram
from pipeline.report.aggregates import Aggregates, Picture
from pipeline.report.mix import Mix
from pipeline.report.multi_label import worst_classes
from pipeline.report.truth import CLASSES_IN_TABLE, Quality


def render_page(
    summary: Mapping[str, Any],
    rows: Aggregates,
    quality: Quality | None,
    thumbnails: Mapping[str, Thumbnail],
    mix: Mix,
    previous: tuple[str, Mapping[str, Any]] | None,
) -> str:
    """Render the page of a label run as HTML.

    Args:
      summary: the content of ``summary.json``.
      rows: what was gathered from its rows.
      quality: how good the labels are, where that is known.
      thumbnails: by image; those that are absent become placeholders.
      mix: its labels, compared with the previous run's.
      previous: the name and summary of that run; None if there is none.
    """
    evaluation = summary.get("evaluation")
    multi_label = bool(summary["model"].get("multi_label"))
    return html.render(
        Path(__file__).parent / "report.html.jinja",
        texts=texts,
        summary=summary,
        facts=_facts(summary),
        stages=_stages(summary),
        groups=[
            {
                "label": label,
                "images": summary["labels"][label],
                "figures": [_figure(picture, thumbnails) for picture in pictures],
            }
            for label, pictures in rows.by_label.items()
            if pictures
        ],
        unlabeled=[_figure(picture, thumbnails) for picture in rows.unlabeled],
        below_threshold=summary.get("below_threshold") or 0,
        quality=quality,
        multi_label=multi_label,
        all_mistakes=layout.MISTAKES if evaluation and evaluation.get("mistakes") else None,
        evaluation=evaluation,
        worst=worst_classes(evaluation, CLASSES_IN_TABLE) if evaluation and multi_label else [],
        calibration=calibration.points(quality.judged) if quality else [],
        square=calibration.SIDE,
        mistakes=[_figure(picture, thumbnails) for picture in rows.mistakes],
        uncertain=[_figure(picture, thumbnails) for picture in rows.uncertain],
        failures=_failures(summary, rows),
        bars=histogram.bars(rows.scores),
        chart=histogram,
        median=histogram.median(rows.scores),
        below_half=histogram.share_below(rows.scores, 0.5),
        mix=mix,
        previous=_previous(summary, previous),
        rows=rows,
    )


def _figure(picture: Picture, thumbnails: Mapping[str, Thumbnail]) -> dict[str, Any]:
    return {"picture": picture, "thumbnail": thumbnails.get(picture.image)}


def _failures(summary: Mapping[str, Any], rows: Aggregates) -> list[dict[str, Any]]:
    counts = dict.fromkeys(rows.failures, 0) | dict(summary["failure_reasons"])
    return [
        {
            "reason": reason,
            "images": counts[reason],
            "meaning": texts.meaning(reason),
            "examples": rows.failures.get(reason, []),
        }
        for reason in sorted(counts, key=lambda reason: (-counts[reason], reason))
    ]


def _previous(
    summary: Mapping[str, Any], previous: tuple[str, Mapping[str, Any]] | None
) -> dict[str, Any] | None:
    if previous is None:
        return None
    name, before = previous
    return {
        "name": name,
        "labeled": before["labeled"],
        "same_model": before["model"].get("fingerprint") == summary["model"].get("fingerprint"),
    }


def _facts(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """List names and values; what an older run did not record is left out."""
    model, settings = summary["model"], summary.get("settings") or {}
    versions = summary.get("versions") or {}
    inputs = [texts.name(str(given)) for given in settings.get("input") or []]
    more = f" and {len(inputs) - 5:,} more" if len(inputs) > 5 else ""
    facts = [
        ("Model", texts.name(str(model.get("handle", "")))),
        ("Its fingerprint", texts.text(model.get("fingerprint", ""))),
        (
            "It takes",
            f"{texts.number(model.get('width'))} × {texts.number(model.get('height'))} pixels",
        ),
        ("For a pixel it takes", texts.text(model.get("takes") or "")),
        ("It returns", texts.text(model.get("returns") or "")),
        ("It knows", f"{texts.number(model.get('classes'))} classes"),
        ("It gives an image", _several(summary)),
        ("Input", ", ".join(inputs[:5]) + more),
        ("Precision", texts.text(settings.get("precision", ""))),
        ("Begun", texts.time(summary.get("started_at"))),
        ("Ended", texts.time(summary.get("finished_at"))),
        ("Took", f"{texts.number(summary.get('seconds'), 1)} s"),
        ("Rate", f"{texts.number(summary.get('images_per_second'), 1)} images/s"),
        ("What it waited for", texts.text(summary.get("bottleneck") or "", 200)),
        ("By earlier attempts", f"{summary.get('taken_over') or 0:,} images"),
        ("Cost of a million images", _cost(summary)),
        ("Run", texts.text(summary.get("run_id", ""))),
        ("Versions", texts.text(", ".join(f"{x} {versions[x]}" for x in versions), 300)),
    ]
    return [(name, value) for name, value in facts if value and value != "0 images"]


def _several(summary: Mapping[str, Any]) -> str:
    if not summary["model"].get("multi_label"):
        return ""
    threshold = (summary.get("settings") or {}).get("threshold")
    return f"several labels, with a score of {texts.text(threshold)} or more each"


def _cost(summary: Mapping[str, Any]) -> str:
    cost = summary.get("cost_per_million_images")
    return texts.number(cost, 2) if cost is not None else ""


def _stages(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    spent = summary.get("stage_seconds_per_image") or {}
    words = (
        ("read", "Reading, wall time"),
        ("decode", "Decoding, CPU time"),
        ("predict", "Predicting, wall time"),
    )
    return [(word, f"{1000 * spent[stage]:.2f}") for stage, word in words if stage in spent]
