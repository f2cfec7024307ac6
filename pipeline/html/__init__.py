"""Renders pages of HTML; ``page.css.jinja`` is how the pages of both jobs look."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import jinja2


def render(template: Path, **values: Any) -> str:
    """Render a page of HTML; whatever is put into it shows as text.

    Args:
      template: path of a Jinja template.
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
    """Make a URI that is the content itself."""
    return f"data:{mime_type};base64," + base64.b64encode(content).decode("ascii")
