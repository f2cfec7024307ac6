"""The report of a training: one HTML page that needs nothing else, not even a network."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path

import jinja2

from pipeline.finetune.evaluation import Evaluation


def render_report(
    title: str,
    facts: Sequence[tuple[str, str]],
    evaluation: Evaluation,
    curves: bytes,
    grid: bytes,
    confusion: bytes,
) -> str:
    """The page.

    Args:
      title: its heading.
      facts: names and values, in the order to show them.
      evaluation: on the test part.
      curves: a PNG from ``pictures.draw_curves``.
      grid: a PNG from ``pictures.draw_grid``.
      confusion: a PNG from ``pictures.draw_confusion``.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["percent"] = _percent
    return environment.get_template("report.html.jinja").render(
        title=title,
        facts=facts,
        evaluation=evaluation,
        curves=_data_uri(curves),
        grid=_data_uri(grid),
        confusion=_data_uri(confusion),
    )


def _percent(share: float | None) -> str:
    """A share in [0, 1] with a non-breaking space before the sign; a dash for None."""
    return "–" if share is None else f"{100 * share:.1f}\N{NO-BREAK SPACE}%"


def _data_uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")
