"""Render HTML pages; ``page.css.jinja`` is the style of both jobs' pages."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import jinja2


def render(template: Path, **values: Any) -> str:
    """Render an HTML page; every value in it is escaped, so it shows as text.

    Args:
      template: path to a Jinja template.
      **values: the template's variables.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([template.parent, Path(__file__).parent]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["percent"] = percent
    return environment.get_template(template.name).render(**values)


def percent(share: float | None) -> str:
    """Write a share in [0, 1] as a percentage; a dash for None."""
    return "–" if share is None else f"{100 * share:.1f}\N{NO-BREAK SPACE}%"


def data_uri(mime_type: str, content: bytes) -> str:
    """Make a URI that contains the content."""
    return f"data:{mime_type};base64," + base64.b64encode(content).decode("ascii")
