"""Renders the report of a training: one HTML page that works offline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from pipeline import html
from pipeline.finetune.curves import PHASES, best_epoch, curves
from pipeline.finetune.examples import MOST_WRONG, Example
from pipeline.html import percent, texts
from pipeline.html.figures import FEW, Answer, Figure, Tile, apart
from pipeline.html.links import href
from pipeline.records import TIME
from pipeline.report.truth import CLASSES_IN_MATRIX, CONFUSED_PAIRS, Confused

# The examples on the page, a file beside it.
EXAMPLES = "examples.jsonl"
SUSPECTS = "mislabeled_examples.jsonl"

# All images whose given class is improbable, a file beside it.
MISLABELED = "mislabeled.csv"

# How many classes the page's heading names.
_NAMED = 5


def page_of(
    summary: Mapping[str, Any],
    examples: Sequence[Example],
    folder: str,
    suspects: Sequence[Example] = (),
) -> str:
    """Render the page.

    Args:
      summary: the content of ``summary.json``.
      examples: test images.
      folder: the page's, an absolute path or URI.
      suspects: images whose given class is improbable, the worst first.
    """
    labels, test, images = summary["labels"], summary["test"], summary["images"]
    names = texts.Names(labels)
    unfrozen = summary.get("unfrozen")
    best = best_epoch(summary["epochs"], unfrozen and unfrozen["exported"])
    shown = [names[label].short for label in labels[:_NAMED]]
    wrong, right = (
        [_figure(one, names, folder) for one in examples if (one.label == one.truth) is is_right]
        for is_right in (False, True)
    )
    # An older run has not looked for them.
    mislabeled = summary.get("mislabeled") or {"images": 0}
    mistakes = test["images"] - sum(row[n] for n, row in enumerate(test["confusion"]))
    confused = _confused(test["confusion"], labels)
    return html.render(
        Path(__file__).parent / "report.html.jinja",
        sections=[
            *([("mistakes", "Mistakes")] if mistakes else []),
            ("classes", "Classes"),
            ("confusions", "Confusions"),
            *([("mislabeled", "Classes to check")] if mislabeled["images"] else []),
            ("training", "Training"),
            *([("right", "Right answers")] if right else []),
            ("run", "The run"),
        ],
        title=f"{len(labels):,} classes: {', '.join(shown)}{', …' if len(labels) > _NAMED else ''}",
        summary=summary,
        few=FEW,
        names=names,
        test=test,
        tiles_of_test=_tiles(test, mistakes, images),
        parts=list(images),
        classes=list(
            zip(test["classes"], (summary.get("images_of_classes") or {}).values(), strict=True)
            if summary.get("images_of_classes")
            else ((scores, {}) for scores in test["classes"])
        ),
        matrix_names=[names[label] for label in labels] if len(labels) <= CLASSES_IN_MATRIX else [],
        confused=apart(confused[:CONFUSED_PAIRS]),
        mistakes=mistakes,
        most_wrong=MOST_WRONG,
        wrong=wrong,
        right=right,
        mislabeled=mislabeled,
        mislabeled_file=MISLABELED,
        suspects=[_suspect(one, names, folder) for one in suspects],
        curves=curves(summary["steps"], summary["epochs"], best) if summary["steps"] else [],
        best=best,
        phases=PHASES,
        unfrozen=unfrozen,
        notes=_notes(unfrozen),
        run_facts=_facts(summary),
    )


def _figure(example: Example, names: texts.Names, folder: str) -> Figure:
    is_right = example.label == example.truth
    truth = () if is_right else (Answer("truth", names[example.truth]),)
    return Figure(
        example.image,
        example.thumbnail,
        href(example.image, folder) if example.is_file else None,
        (Answer("said", names[example.label], example.score), *truth),
        is_right,
    )


def _suspect(example: Example, names: texts.Names, folder: str) -> Figure:
    return Figure(
        example.image,
        example.thumbnail,
        href(example.image, folder) if example.is_file else None,
        (
            Answer("given", names[example.truth]),
            Answer("perhaps", names[example.label], example.score),
        ),
    )


def _tiles(test: Mapping[str, Any], mistakes: int, images: Mapping[str, int]) -> list[Tile]:
    low, high = test["interval"]
    tested = f"{test['images']:,} test {'image' if test['images'] == 1 else 'images'}"
    parts = ", ".join(f"{count:,} {name}" for name, count in images.items())
    return [
        Tile(
            "Accuracy",
            percent(test["accuracy"]),
            f"95\N{NO-BREAK SPACE}% interval {percent(low)} to {percent(high)}",
        ),
        Tile("Mistakes", f"{mistakes:,}", f"of {tested}", is_bad=mistakes > 0),
        Tile("Images", f"{sum(images.values()):,}", parts),
        Tile(
            "Calibration error",
            percent(test["calibration_error"]),
            "how far probabilities are from the share of right answers",
        ),
    ]


def _confused(matrix: Sequence[Sequence[int]], labels: Sequence[str]) -> list[Confused]:
    """List what is taken for what, the most frequent first."""
    pairs = [
        Confused(labels[truth], labels[answer], images)
        for truth, row in enumerate(matrix)
        for answer, images in enumerate(row)
        if images and truth != answer
    ]
    return sorted(pairs, key=lambda one: (-one.images, one.truth, one.predicted))


def _notes(unfrozen: Mapping[str, Any] | None) -> list[str]:
    """Say what the numbers of both phases mean for what is exported."""
    if unfrozen is None:
        return []
    from pipeline.finetune.unfrozen import Outcome, Unfrozen  # TensorFlow takes seconds to import

    network = unfrozen["network"]
    outcomes = Unfrozen(Outcome(**unfrozen["head"]), network and Outcome(**network))
    return [line.removeprefix("warning: ") for line in outcomes.in_words()[1:]]


def _facts(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """List names and values; what an older run did not record is left out."""
    options = summary.get("options") or {}
    seconds = summary["stage_seconds"].items()
    versions = summary.get("versions") or {}
    facts = [
        ("Base model", texts.name(str(summary["model"]["handle"]))),
        ("Input", ", ".join(texts.name(str(given)) for given in options.get("input") or [])),
        ("Export", _export(summary, str(options.get("output") or ""))),
        ("Trained", "the head, then the whole network" if summary.get("unfrozen") else "the head"),
        ("Split", ", ".join(summary.get("split") or ()) or "by checksum"),
        *_same_pictures(summary.get("same_pictures")),
        *_unchecked(summary.get("mislabeled")),
        ("Greatest difference after reloading", str(summary["reload_difference"])),
        ("Begun", texts.time(summary.get("started_at"))),
        ("Ended", texts.time(summary.get("finished_at"))),
        ("Seconds", ", ".join(f"{value:.1f} {name}" for name, value in seconds)),
        ("Run", texts.text(summary.get("run_id", ""))),
        ("Versions", texts.text(", ".join(f"{x} {versions[x]}" for x in versions), 300)),
    ]
    return [(name, value) for name, value in facts if value]


def _export(summary: Mapping[str, Any], output: str) -> str:
    try:
        started = datetime.strptime(str(summary.get("started_at")), TIME)
    except ValueError:
        return ""
    version = int(started.replace(tzinfo=timezone.utc).timestamp())
    return texts.name(f"{output.rstrip('/')}/export/{version}".lstrip("/" if not output else ""))


def _same_pictures(same: Mapping[str, int] | None) -> list[tuple[str, str]]:
    if not same or not same["images"]:
        return []
    said = f"{same['images']:,} images show {same['pictures']:,} pictures; each is in one part"
    return [("Same pictures", f"{said} ({same['moved']:,} moved, {same['left_out']:,} left out)")]


def _unchecked(mislabeled: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """Say which images were not checked for a wrong class."""
    if not mislabeled or not mislabeled["passed_over"]:
        return []
    said = f"{mislabeled['passed_over']:,} images: {mislabeled['why']}"
    return [("Not checked for wrong classes", said)]
