"""Render HTML pages, which have one style.

A page is a template that extends ``page.html.jinja`` and takes its parts from ``parts.html.jinja``.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2

from pipeline.html import texts

_HERE = Path(__file__).parent


def render(template: Path, *, sections: Sequence[tuple[str, str]] = (), **values: Any) -> str:
    """Render an HTML page; every value in it is escaped, so it shows as text.

    Args:
      template: path to a Jinja template that extends ``page.html.jinja``.
      sections: ids and names of the page's parts, in order, for its navigation.
      **values: the template's other variables.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([template.parent, _HERE]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(
        percent=percent, rounded=rounded, number=texts.number, points=texts.points
    )
    environment.globals["texts"] = texts
    script = (_HERE / "page.js.jinja").read_text("utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    return environment.get_template(template.name).render(
        script=script, script_hash=f"sha256-{digest}", sections=sections, **values
    )


def percent(share: float | None) -> str:
    """Write a share in [0, 1] as a percentage; a dash for None."""
    return "–" if share is None else f"{100 * share:.1f}\N{NO-BREAK SPACE}%"


def rounded(share: float | None) -> str:
    """Write a share in [0, 1] as a whole percentage, of which only 0 and 1 are 0 % and 100 %."""
    if share is None:
        return "–"
    if 0 < share < 0.01:
        return "<\N{NO-BREAK SPACE}1\N{NO-BREAK SPACE}%"
    whole = min(round(100 * share), 99) if share < 1 else 100
    return f"{whole}\N{NO-BREAK SPACE}%"


def data_uri(mime_type: str, content: bytes) -> str:
    """Make a URI that contains the content."""
    return f"data:{mime_type};base64," + base64.b64encode(content).decode("ascii")
