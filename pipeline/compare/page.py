"""Lays out the page of a comparison."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline import html
from pipeline.compare.counts import Change, Comparison
from pipeline.compare.results import failed_gates
from pipeline.compare.rows import Row
from pipeline.evaluation import classes_in
from pipeline.html import links, texts
from pipeline.html.figures import Answer, Figure, Thumbnail, Tile
from pipeline.outputs import layout
from pipeline.report.aggregates import Picture
from pipeline.report.thumbnails import load_thumbnails

CLASSES = 50
PAIRS = 20


def load_pictures(counts: Comparison) -> dict[str, Thumbnail]:
    """Make the thumbnails of the changed images that the page shows, by image."""
    rows = ((one.image, one.b) for one in counts.changes.items())
    return load_thumbnails(
        Picture(image, row.label, row.score, (), row.width, row.height, row.version)
        for image, row in rows
    )


def render_page(
    result: Mapping[str, Any],
    counts: Comparison,
    thumbnails: Mapping[str, Thumbnail],
    folder: str,
) -> str:
    """Render the page of a comparison as HTML.

    Args:
      result: the content of ``compare.json``.
      counts: what it was made of.
      thumbnails: by image; those that are absent become placeholders.
      folder: where the page will be: an absolute path or URI.
    """
    changes = counts.changes.items()
    truth = result["truth"]
    names = texts.Names(
        label
        for label in (
            *(label for one in changes for row in (one.a, one.b) for label in row.predicted),
            *(one["label"] for one in (truth or {}).get("classes", ())),
            *(pair[side] for pair in result["changes"] for side in ("a", "b")),
        )
        if label is not None
    )
    sections = [("changed", "Changed labels")]
    if truth:
        sections.append(("truth", "Against the truth"))
    sections += [("drift", "Drift"), ("failures", "Failures"), ("runs", "The runs")]
    return html.render(
        Path(__file__).parent / "compare.html.jinja",
        sections=sections,
        result=result,
        tiles=_tiles(result),
        exceeded=failed_gates(result),
        figures=[_figure(counts, one, names, thumbnails, folder) for one in changes],
        names=names,
        pairs=result["changes"][:PAIRS],
        classes=[one for one in (truth or {}).get("classes", ()) if one["only_a"] or one["only_b"]][
            :CLASSES
        ],
        came=counts.came_examples.items(),
        went=counts.went_examples.items(),
        facts={side: _facts(result[side]) for side in ("a", "b")},
        changes_file=layout.COMPARE_CHANGES,
    )


def _tiles(result: Mapping[str, Any]) -> list[Tile]:
    compared, failures, truth = result["labeled_in_both"], result["failures"], result["truth"]
    interval = result["agreement_interval"]
    tiles = [
        Tile("Same label", html.percent(result["agreement"]), _interval(interval)),
        Tile("Changed", f"{result['changed']:,}", f"of {compared:,} images that both labeled"),
        Tile(
            "New failures",
            f"{failures['came']:,}",
            f"{failures['went']:,} went, {failures['both']:,} in both",
            failures["came"] > 0,
        ),
    ]
    if truth:
        accuracy = f"{html.percent(truth['accuracy_a'])} → {html.percent(truth['accuracy_b'])}"
        better = truth["better"]
        tiles.append(
            Tile(
                "Accuracy, A → B",
                accuracy,
                f"{_run_of(better)} is better" if better else "no clear difference",
                better == "a",
            )
        )
    else:
        tiles.append(Tile("Accuracy", "–", "no truth is known"))
    return tiles


def _run_of(side: str) -> str:
    return side.upper()


def _interval(interval: list[float] | None) -> str:
    if interval is None:
        return "no image is labeled in both"
    low, high = map(html.percent, interval)
    return f"95 % interval {low} to {high}"


def _figure(
    counts: Comparison,
    change: Change,
    names: texts.Names,
    thumbnails: Mapping[str, Thumbnail],
    folder: str,
) -> Figure:
    truth = change.b.truth if change.a.truth is None else change.a.truth
    answers = [_answer(counts, "A", change.a, names), _answer(counts, "B", change.b, names)]
    if truth is not None:
        shown = ", ".join(classes_in(truth)) or "none" if counts.multi_label else truth
        answers.append(Answer("truth", names[shown]))
    return Figure(
        change.image,
        thumbnails.get(change.image),
        links.href(change.image, folder),
        tuple(answers),
    )


def _answer(counts: Comparison, side: str, row: Row, names: texts.Names) -> Answer:
    labels = counts.labels(row)
    if counts.multi_label:
        name = texts.text(", ".join(labels)) or "no label"
        return Answer(side, texts.Name(name, name), row.score)
    return Answer(side, names[row.label], row.score)


def _facts(run: Mapping[str, Any]) -> list[tuple[str, str]]:
    facts = [
        ("Folder", texts.name(run["folder"])),
        ("Runs in it", texts.number(run["runs"]) if run["runs"] > 1 else ""),
        ("Begun", texts.time(run["started_at"]) if run["started_at"] else ""),
        ("Model", texts.name(run["model"] or "")),
        ("Its fingerprint", texts.text(run["model_fingerprint"] or "")),
        ("Labeled", texts.number(run["labeled"])),
        ("Failed", texts.number(run["failed"])),
        ("Only here", texts.number(run["only_here"])),
        ("Such as", ", ".join(map(texts.name, run["only_here_examples"]))),
    ]
    return [(name, value) for name, value in facts if value]
