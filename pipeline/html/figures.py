"""Defines what ``parts.html.jinja`` shows as tiles and as captioned thumbnails."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, TypeVar

from pipeline.html.texts import Name

# Tables leave rows of fewer images to a second one, which is closed at first.
FEW = 5


class _Counted(Protocol):
    @property
    def images(self) -> int: ...


T = TypeVar("T", bound=_Counted)


class Tile(NamedTuple):
    """A figure that sums up a page. ``is_bad``: it is shown in red."""

    name: str
    value: str
    note: str = ""
    is_bad: bool = False


class Thumbnail(NamedTuple):
    """A small picture. ``uri``: a ``data:`` URI of a JPEG. ``width``, ``height``: in pixels."""

    uri: str
    width: int
    height: int


class Answer(NamedTuple):
    """A part of a caption: ``said cougar 98 %``.

    ``word``: ``said``, ``truth`` or the like. ``score``: in [0, 1].
    """

    word: str
    name: Name | None
    score: float | None = None


class Figure(NamedTuple):
    """A captioned thumbnail.

    ``image``: its name. ``thumbnail``: None becomes a placeholder. ``link``: what ``links.href``
    returns. ``answers``: the caption's first line. ``is_right``: marks the frame, by color and
    sign; None does not. ``others``: a faint line each.
    """

    image: str
    thumbnail: Thumbnail | None
    link: str | None = None
    answers: tuple[Answer, ...] = ()
    is_right: bool | None = None
    others: tuple[Answer, ...] = ()


def apart(rows: Sequence[T]) -> tuple[list[T], list[T]]:
    """Return a table's rows of ``FEW`` images or more, and the others."""
    return [x for x in rows if x.images >= FEW], [x for x in rows if x.images < FEW]
