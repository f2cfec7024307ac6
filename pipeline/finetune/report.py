"""Renders the report of a training: one HTML page that works offline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline import html
from pipeline.evaluation import Evaluation
from pipeline.finetune.examples import MOST_WRONG

# The names of the pictures on the page, which are also files beside it.
PICTURES = ("curves", "predictions", "confusion")

# How many classes the page's heading names.
_NAMED = 5


def page_of(summary: Mapping[str, Any], pictures: Mapping[str, bytes]) -> str:
    """Render the page.

    Args:
      summary: the content of ``summary.json``.
      pictures: a PNG for each of ``PICTURES``.
    """
    labels = summary["labels"]
    dots = ", …" if len(labels) > _NAMED else ""
    title = f"{len(labels)} classes: {', '.join(labels[:_NAMED])}{dots}"
    curves, grid, confusion = (pictures[name] for name in PICTURES)
    return render_report(title, _facts_of(summary), summary["test"], curves, grid, confusion)


def render_report(
    title: str,
    facts: Sequence[tuple[str, str]],
    evaluation: Evaluation | Mapping[str, Any],
    curves: bytes,
    grid: bytes,
    confusion: bytes,
) -> str:
    """Render the page from its parts.

    Args:
      title: its heading.
      facts: names and values, in the order to show them.
      evaluation: on the test part, or what its ``to_json`` returned.
      curves: a PNG from ``pictures.draw_curves``.
      grid: a PNG from ``pictures.draw_grid``.
      confusion: a PNG from ``pictures.draw_confusion``.
    """
    return html.render(
        Path(__file__).parent / "report.html.jinja",
        title=title,
        facts=facts,
        evaluation=evaluation,
        curves=html.data_uri("image/png", curves),
        grid=html.data_uri("image/png", grid),
        confusion=html.data_uri("image/png", confusion),
    )


def _facts_of(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """List names and values, in the order to show them."""
    images, seconds = summary["images"].items(), summary["stage_seconds"].items()
    return [
        ("Base model", summary["model"]["handle"]),
        ("Images", ", ".join(f"{count:,} {name}" for name, count in images)),
        ("Split", ", ".join(summary.get("split") or ()) or "by checksum"),
        *_facts_of_pictures(summary.get("same_pictures")),
        *_facts_of_training(summary.get("unfrozen")),
        (
            "Pictures below",
            f"of test images; first up to {MOST_WRONG} wrong ones, then right ones",
        ),
        ("Greatest difference after reloading", str(summary["reload_difference"])),
        ("Seconds", ", ".join(f"{value:.1f} {name}" for name, value in seconds)),
    ]


def _facts_of_pictures(same: Mapping[str, int] | None) -> list[tuple[str, str]]:
    if not same or not same["images"]:
        return []
    said = f"{same['images']:,} images show {same['pictures']:,} pictures; each is in one part"
    return [("Same pictures", f"{said} ({same['moved']:,} moved, {same['left_out']:,} left out)")]


def _facts_of_training(unfrozen: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    if unfrozen is None:
        return [("Trained", "the head")]
    from pipeline.finetune.unfrozen import Outcome, Unfrozen  # TensorFlow takes seconds to import

    network = unfrozen["network"]
    outcomes = Unfrozen(Outcome(**unfrozen["head"]), network and Outcome(**network))
    exported = "the whole network" if outcomes.is_better else "the head alone"
    first, *warnings = outcomes.in_words()
    return [
        ("Trained", "the head, then the whole network"),
        ("Exported and measured here", exported),
        ("Before and after", first),
        *(("Note", warning.removeprefix("warning: ")) for warning in warnings),
    ]
