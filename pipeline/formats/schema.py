"""Defines what the formats share: the columns of rows and tables, and JSON's values."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pipeline.records import columns_of

# Writes a row, as JSON has it, to a file.
Write = Callable[[Mapping[str, Any]], object]

# Characters of a message about a table's columns: a file of another kind may be one long line.
_MOST_SHOWN = 1000


class ColumnError(ValueError):
    """A table lacks a column.

    Attributes:
      names: its columns, if they are known.
    """

    def __init__(self, problem: str, names: Sequence[str] = ()):
        super().__init__(problem)
        self.names = tuple(names)


class BadRow(NamedTuple):
    """A row of a table that cannot be read; the rows after it can.

    ``problem``: what is wrong with it, in one line. ``cells``: those of its columns that could be
    read.
    """

    problem: str
    cells: Mapping[str, Any]


def require_rows(rows: Iterable[dict[str, Any] | BadRow]) -> Iterator[dict[str, Any]]:
    """Yield the rows of a table all of which have to be readable.

    Raises:
      ValueError: one of them is not.
    """
    for row in rows:
        if isinstance(row, BadRow):
            raise ValueError(row.problem)
        yield row


class Schema(NamedTuple):
    """The columns of one kind of rows.

    ``record``: ``Labeled`` or ``Failure``. ``carried``: the names of the columns that are carried
    with the images; their values are text, except in JSON.
    """

    record: type
    carried: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all columns, in order."""
        return (*(column.name for column in columns_of(self.record)), *self.carried)


def check_columns(columns: Sequence[str] | None, names: Sequence[str]) -> None:
    """Check that a table has each of these columns exactly once.

    Args:
      columns: the columns to look for; None for none in particular.
      names: the table's columns.

    Raises:
      ColumnError: it does not.
    """
    for column in columns or ():
        if names.count(column) > 1:
            raise ColumnError(f"has {names.count(column)} columns {column!r}")
        if column not in names:
            shown = ", ".join(names)
            shown = shown if len(shown) <= _MOST_SHOWN else f"{shown[:_MOST_SHOWN]}…"
            problem = f"has no column {column!r}; its columns are {shown}"
            raise ColumnError(problem, names)


def plain(value: Any) -> Any:
    """Convert a value to JSON's types: times, decimals and bytes become text."""
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def as_text(value: Any) -> str | None:
    """Convert a value to a cell's text: text stays as it is, anything else becomes JSON."""
    if value is None or isinstance(value, str):
        return plain(value)
    return json.dumps(value)
