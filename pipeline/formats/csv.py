"""Writes and reads CSV (RFC 4180) with a header: None is an empty cell, a list is JSON."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import re
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, BinaryIO

from pipeline.formats.schema import (
    BadRow,
    ColumnError,
    Schema,
    Write,
    as_text,
    check_columns,
    require_rows,
)
from pipeline.formats.text import lines
from pipeline.records import Timestamp, columns_of, record_of

# The largest cell; Python's own limit is 128 KB.
csv.field_size_limit(2**31 - 1)

# What separates cells, the most likely first.
_DELIMITERS = (",", ";", "\t", "|")

# The line with which spreadsheets are told the delimiter; the names of the columns tell it as well.
_SEP = re.compile(r'("?)sep=.?\1$', re.IGNORECASE)

# Lines that a row has at most. Without a limit, one stray quote would hold the rest of the file.
_MOST_LINES = 10_000

# A cell of data where a column's name should be.
_LIKE_A_PATH = re.compile(r"\.\w{2,5}$|[/\\]")

# What a line inside of a quoted cell has in the images' column if it is a row.
_A_FILE = re.compile(r"(\w+://)?[^\s\"]+\.\w{2,5}")


def encode(row: Mapping[str, Any], schema: Schema) -> str:
    """Write a row as a line, without its end."""
    line = io.StringIO()
    # Cells with a part of the line terminator are quoted, so it must be that of both systems.
    csv.writer(line, lineterminator="\r\n").writerow(
        as_text(row.get(name)) for name in schema.names
    )
    return line.getvalue().removesuffix("\r\n")


@contextlib.contextmanager
def writer(file: BinaryIO, schema: Schema) -> Iterator[Write]:
    """Write a header, then lines."""

    def write(row: Mapping[str, Any]) -> None:
        file.write(f"{encode(row, schema)}\n".encode())

    write({name: name for name in schema.names})
    yield write


def read_rows(file: BinaryIO) -> Iterator[dict[str, Any]]:
    """Read the rows that ``writer`` wrote.

    Raises:
      ValueError: the file holds something else.
    """
    return map(decode, require_rows(read_table(file, None)))


def decode(cells: dict[str, Any]) -> dict[str, Any]:
    """Turn the cells of a line back into the row; carried columns stay text.

    Raises:
      ValueError or KeyError: the line is not a row.
    """
    row = dict(cells)
    for column in columns_of(record_of(cells)):
        cell = cells[column.name]
        if cell is None:
            raise ValueError(f"a line without {column.name}")
        if column.nullable and cell == "":
            row[column.name] = None
        elif column.kind not in (str, Timestamp):
            row[column.name] = json.loads(cell)
    return row


def read_table(
    file: BinaryIO, columns: Sequence[str] | None, image: str | None = None
) -> Iterator[dict[str, Any] | BadRow]:
    """Read lines by the column names in the first line; cells are text.

    Semicolons, tabs or bars separate cells if the first line has the columns only with them.

    Raises:
      ColumnError: the file lacks a column.
      ValueError: it is UTF-16 without a byte order mark, or no text.
    """
    source = _Lines(lines(file, ""))
    for first in source:
        if first.strip() and not _SEP.match(first.strip()):
            break
        source.begin_row()
    else:
        first = ""
    if "\0" in first:
        raise ValueError("its first line has NUL bytes; save it as CSV in UTF-8")
    delimiter = _delimiter(first, columns or ())
    source.put_back(0)
    reader = csv.reader(source, delimiter=delimiter, strict=True)
    try:
        header = next(reader, [])
    except csv.Error as error:
        raise ValueError(f"line {source.number}: {error}") from error
    names = [name if name in (columns or ()) else name.strip() for name in header]
    if columns and not names:
        raise ColumnError(f"has no column {columns[0]!r}: it is empty")
    try:
        check_columns(columns, names)
    except ColumnError as error:
        raise ColumnError(f"{error}{_hint(names, columns or ())}", error.names) from error
    while True:
        source.begin_row()
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            # A stray quote takes many lines for one cell. Only the first one is lost.
            source.put_back(1)
            yield BadRow(f"line {source.number}: {error}", {})
            continue
        if not cells:
            continue
        row = dict(zip(names, cells, strict=False))
        if len(cells) != len(names):
            # As above, if the quote is closed by another stray one.
            row = {} if source.put_back(1) else row
            more = "more" if len(cells) > len(names) else "fewer"
            yield BadRow(
                f"line {source.number} has {more} cells than the first: {len(cells)} instead of "
                f"{len(names)}",
                row,
            )
        elif image and source.has_rows_inside(delimiter, len(names), names.index(image)):
            source.put_back(1)
            yield BadRow(f"line {source.number} has a quote that takes in whole rows", {})
        else:
            yield row if columns is None else {name: row[name] for name in columns}


class _Lines:
    """The lines of a file; those of the current row can be put back.

    ``number``: of the last line, from 1.
    """

    def __init__(self, lines: Iterator[str]):
        self._lines = lines
        self._put_back: deque[str] = deque()
        self._of_row: list[str] = []
        self.number = 0

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        if len(self._of_row) >= _MOST_LINES:
            raise csv.Error(f"a quote is not closed within {_MOST_LINES:,} lines")
        line = self._put_back.popleft() if self._put_back else next(self._lines)
        self._of_row.append(line)
        self.number += 1
        return line

    def begin_row(self) -> None:
        """Forget the lines of the row before."""
        self._of_row = []

    def has_rows_inside(self, delimiter: str, cells: int, image: int) -> bool:
        """Tell whether a line of the current row, but for the first, is a row of its own.

        Two stray quotes take all that is between them for one cell, and the rows would be missing
        without a word. In a text of many lines, hardly a line has as many cells, and a file's name
        in the right one. With a single column, that would be a name of many lines.
        """
        if cells == 1:
            return False
        rows = (line.rstrip().split(delimiter) for line in self._of_row[1:])
        return any(
            len(row) == cells and _A_FILE.fullmatch(row[image].strip(' "')) is not None
            for row in rows
        )

    def put_back(self, kept: int) -> int:
        """Put the lines of the current row back, but for the first ones; return their number."""
        again = self._of_row[kept:]
        self._put_back.extendleft(reversed(again))
        self.number -= len(again)
        del self._of_row[kept:]
        return len(again)


def _delimiter(line: str, columns: Collection[str]) -> str:
    """Choose what separates the names in the first line: a comma, if it has the columns with it.

    If it has them with none, choose what gives the most names.
    """
    names = {delimiter: _names(line, delimiter) for delimiter in _DELIMITERS}
    for delimiter in _DELIMITERS:
        if names[delimiter].issuperset(columns):
            return delimiter
    return max(_DELIMITERS, key=lambda delimiter: len(names[delimiter]))


def _names(line: str, delimiter: str) -> set[str]:
    cells = next(csv.reader([line], delimiter=delimiter), [])
    return {*cells, *(cell.strip() for cell in cells)}


def _hint(names: Sequence[str], columns: Collection[str]) -> str:
    """Say what may be wrong with a first line that lacks a column."""
    words = [re.compile(rf"(?<!\w){re.escape(column)}(?!\w)") for column in columns]
    if any(word.search(name) and not word.fullmatch(name) for word in words for name in names):
        return "; columns are separated by commas, semicolons, tabs or |"
    if any(_LIKE_A_PATH.search(name) for name in names):
        return "; the first line has to name the columns"
    return ""
