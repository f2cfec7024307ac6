"""Renders the report of a training: one HTML page that works offline."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipeline import html
from pipeline.evaluation import Evaluation


def render_report(
    title: str,
    facts: Sequence[tuple[str, str]],
    evaluation: Evaluation,
    curves: bytes,
    grid: bytes,
    confusion: bytes,
) -> str:
    """Render the page.

    Args:
      title: its heading.
      facts: names and values, in the order to show them.
      evaluation: on the test part.
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
