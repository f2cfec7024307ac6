"""Writes and reads JSON Lines: one row per line, ASCII only."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, BinaryIO

from pipeline.formats.schema import BadRow, Schema, Write, check_columns, plain, require_rows
from pipeline.formats.text import is_unicode, lines

# Rows without the image's column that are held until one has it, so that a mistake in its name is
# found before the first of them is used.
_MOST_HELD = 1000


def encode(row: Mapping[str, Any], schema: Schema) -> str:
    """Write a row as a line, without its end."""
    return json.dumps(row)


@contextlib.contextmanager
def writer(file: BinaryIO, schema: Schema) -> Iterator[Write]:
    """Write lines."""
    yield lambda row: file.write(f"{encode(row, schema)}\n".encode())


def read_rows(file: BinaryIO) -> Iterator[dict[str, Any]]:
    """Read the rows that ``writer`` wrote.

    Raises:
      ValueError: the file holds something else.
    """
    return require_rows(read_table(file, None))


def read_table(
    file: BinaryIO, columns: Sequence[str] | None, image: str | None = None
) -> Iterator[dict[str, Any] | BadRow]:
    """Read objects, one per line; a column that an object lacks is None.

    Raises:
      ColumnError: no object has the image's column.
    """
    names: dict[str, None] = {}
    first: list[dict[str, Any] | BadRow] = []  # held until a row has the image's column
    has_image = image is None
    for number, line in enumerate(lines(file, "\n"), 1):
        if line.isspace():
            continue
        row, found = _object(line, number, columns)
        names |= dict.fromkeys(() if has_image else found)
        has_image = has_image or image in found
        first.append(row)
        if has_image or len(first) == _MOST_HELD:
            yield from first
            first = []
    if not has_image and names:
        check_columns([str(image)], list(names))
    yield from first


def _object(
    line: str, number: int, columns: Sequence[str] | None
) -> tuple[dict[str, Any] | BadRow, Collection[str]]:
    """Read a line: return its row, and the names of all its columns."""
    problem = ""
    row: Any = None
    try:
        if not is_unicode(line):
            problem = "has bytes that are not UTF-8"
        else:
            row = json.loads(line)
            if not isinstance(row, dict):
                problem = "is not an object"
            elif columns is not None:
                return {name: plain(row.get(name)) for name in columns}, row
    except RecursionError:
        problem = "is nested too deeply"
    except ValueError as error:
        problem = f"is not JSON: {error}"
    return (BadRow(f"line {number} {problem}", {}), ()) if problem else (row, row)
