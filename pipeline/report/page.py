"""Lays out the page of a run."""

from __future__ import annotations

import urllib.parse
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from pipeline import html
from pipeline.evaluation import class_drift
from pipeline.html import texts
from pipeline.html.figures import FEW, Answer, Figure, Thumbnail, apart
from pipeline.html.links import href
from pipeline.outputs import layout
from pipeline.report import calibration, histogram, tiles
from pipeline.report.aggregates import Aggregates, Earlier, Picture
from pipeline.report.mix import Mix
from pipeline.report.multi_label import worst_classes
from pipeline.report.truth import CLASSES_IN_TABLE, Quality


def render_page(
    folder: str,
    summary: Mapping[str, Any],
    rows: Aggregates,
    quality: Quality | None,
    thumbnails: Mapping[str, Thumbnail],
    mix: Mix,
    previous: Earlier | None,
) -> str:
    """Render the page of a label run as HTML.

    Args:
      folder: the run's, an absolute path or URI.
      summary: the content of ``summary.json``.
      rows: what was gathered from its rows.
      quality: how good the labels are, where that is known.
      thumbnails: by image; those that are absent become placeholders.
      mix: its labels, compared with the previous run's.
      previous: that run; None if there is none.
    """
    evaluation = summary.get("evaluation")
    multi_label = bool(summary["model"].get("multi_label"))
    names = texts.Names(_labels(summary, rows, quality, mix, evaluation))
    drawn = Drawing(folder, names, thumbnails, multi_label)
    groups = [
        {
            "name": names[label],
            "images": summary["labels"][label],
            "figures": [
                drawn.figure(picture, named=False, others=multi_label) for picture in pictures
            ],
        }
        for label, pictures in rows.by_label.items()
        if pictures
    ]
    below_threshold = summary.get("below_threshold") or 0
    bars = histogram.bars(rows.scores)
    points = calibration.points(quality.judged) if quality else []
    is_quiet = not summary["labeled"] + summary["failed"]
    return html.render(
        Path(__file__).parent / "report.html.jinja",
        sections=_sections(bool(quality or evaluation), rows, summary),
        few=FEW,
        summary=summary,
        is_quiet=is_quiet,
        names=names,
        summed_up=tiles.of_run(summary, quality, histogram.median(rows.scores)),
        run_facts=_facts(summary),
        stages=_stages(summary),
        groups=groups,
        singles=[
            drawn.figure(picture, others=multi_label)
            for label, pictures in rows.by_label.items()
            for picture in pictures
            if summary["labels"][label] == 1
        ],
        unlabeled=[drawn.figure(picture) for picture in rows.unlabeled],
        below_threshold=below_threshold,
        quality=quality,
        confused=apart(quality.confused if quality else []),
        judged_classes=apart(quality.classes if quality else []),
        matrix_names=[names[label] for label in quality.matrix[0]]
        if quality and quality.matrix
        else [],
        multi_label=multi_label,
        all_mistakes=layout.MISTAKES if evaluation and evaluation.get("mistakes") else None,
        evaluation=evaluation,
        worst=worst_classes(evaluation, CLASSES_IN_TABLE) if evaluation and multi_label else [],
        calibration=points,
        diagram=calibration.plot(points),
        mistakes=[drawn.figure(picture, others=multi_label) for picture in rows.mistakes],
        uncertain=[drawn.figure(picture) for picture in rows.uncertain],
        failures=_failures(summary, rows),
        bars=bars,
        histogram=histogram.plot(bars),
        median=histogram.median(rows.scores),
        below_half=histogram.share_below(rows.scores, 0.5),
        mix=mix,
        mix_rows=apart(mix.top),
        drift=None
        if multi_label or previous is None
        else class_drift(summary["labels"], previous.summary["labels"]),
        previous=_previous(summary, previous),
        rows=rows,
    )


class Drawing(NamedTuple):
    """What makes captioned figures of pictures."""

    folder: str
    names: texts.Names
    thumbnails: Mapping[str, Thumbnail]
    multi_label: bool

    def figure(self, picture: Picture, named: bool = True, others: bool = True) -> Figure:
        """Caption an image.

        Args:
          picture: the image.
          named: whether the caption names the label.
          others: whether it has those that are next, or the image's other labels.
        """
        names, label = self.names, picture.label
        if label is not None and picture.by_person:
            said = Answer("a person said", names[label])
        elif label is not None:
            said = Answer("said", names[label], picture.score)
        elif self.multi_label:
            said = Answer("no label; the best score is", None, picture.score)
        else:
            said = Answer("no label", None)
        is_short = not named and label is not None and not picture.by_person
        answers = [Answer("", None, picture.score) if is_short else said]
        is_models = label is not None and not picture.by_person
        best = label if is_models or not picture.others else picture.others[0][0]
        is_right = None
        if picture.truth is not None and self.multi_label:
            truth = texts.text(picture.truth)
            answers += [Answer("truth", texts.Name(truth, truth))] if named else []
        elif picture.truth is not None:
            is_right = best == picture.truth
            answers += [] if is_right else [Answer("truth", names[picture.truth])]
        return Figure(
            picture.image,
            self.thumbnails.get(picture.image),
            href(picture.image, self.folder),
            tuple(answers),
            is_right,
            tuple(
                Answer("", names[other], score)
                for other, score in (picture.others if others else ())
            ),
        )


def _labels(
    summary: Mapping[str, Any],
    rows: Aggregates,
    quality: Quality | None,
    mix: Mix,
    evaluation: Mapping[str, Any] | None,
) -> Iterator[str]:
    """List all labels that the page names."""
    yield from summary["labels"]
    yield from (share.label for share in (*mix.top, *mix.most_changed))
    yield from (scores.label for scores in (quality.every_class if quality else ()))
    yield from (scores["label"] for scores in (evaluation or {}).get("classes", ()))
    shown = (*rows.mistakes, *rows.uncertain, *rows.unlabeled, *chain(*rows.by_label.values()))
    for picture in shown:
        yield from (label for label, _ in picture.others)
        yield from (label for label in (picture.label, picture.truth) if label is not None)


def _sections(
    has_truth: bool, rows: Aggregates, summary: Mapping[str, Any]
) -> list[tuple[str, str]]:
    return [
        *([("truth", "Against the truth")] if has_truth else []),
        *(
            [("labels", "Labels"), ("scores", "Scores"), ("uncertain", "Least certain")]
            if rows.labeled
            else []
        ),
        *([("mix", "Class mix")] if rows.labeled and summary["labels"] else []),
        ("failures", "Failures"),
        ("run", "The run"),
    ]


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


def _previous(summary: Mapping[str, Any], previous: Earlier | None) -> dict[str, Any] | None:
    if previous is None:
        return None
    before = previous.summary
    return {
        "name": previous.name,
        "link": f"../{urllib.parse.quote(previous.name)}/{layout.REPORT}",
        "labeled": before["labeled"],
        "started_at": before.get("started_at"),
        "tiles": tiles.of_run(before, None, None),
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
        ("Of that, start-up", _seconds(summary.get("startup_seconds"))),
        ("Rate", f"{texts.number(summary.get('images_per_second'), 1)} images/s"),
        ("What it waited for", texts.text(summary.get("bottleneck") or "", 200)),
        ("Labels by people", _by_people(summary)),
        ("By earlier attempts", f"{summary.get('taken_over') or 0:,} images"),
        ("Cost of a million images", _cost(summary)),
        ("Run", texts.text(summary.get("run_id", ""))),
        ("Versions", texts.text(", ".join(f"{x} {versions[x]}" for x in versions), 300)),
    ]
    return [(name, value) for name, value in facts if value and value != "0 images"]


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:,.1f} s until the pipeline began"


def _several(summary: Mapping[str, Any]) -> str:
    if not summary["model"].get("multi_label"):
        return ""
    threshold = (summary.get("settings") or {}).get("threshold")
    return f"several labels, with a score of {texts.text(threshold)} or more each"


def _by_people(summary: Mapping[str, Any]) -> str:
    if not summary.get("labeled_by_person"):
        return ""
    changed = texts.number(summary["corrected"])
    return f"{texts.number(summary['labeled_by_person'])}, {changed} unlike the model's"


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
