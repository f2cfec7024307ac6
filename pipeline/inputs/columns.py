"""Lists inputs with columns: a row names an image, its true class, and what is carried with it.

A cell with bytes is an image itself. A row that names no image is listed with its problem, so that
it becomes a failure. Tables are files; see ``queries`` for BigQuery's.
"""

from __future__ import annotations

import hashlib
import posixpath
import urllib.parse
import zlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pipeline.errors import ImageError, StoreError
from pipeline.formats import tables
from pipeline.formats.schema import BadRow, ColumnError, as_text, plain
from pipeline.inputs.kinds import Input, InputKind, file_at
from pipeline.inputs.lists import existing, with_problem
from pipeline.records import ImageRef, Place, row_name
from pipeline.redaction import name_of

# Of an unusable cell, in a message.
_MOST_SHOWN = 100

# In the name of a folder, in place of a value.
_NULL = "__HIVE_DEFAULT_PARTITION__"


def wanted(source: Input) -> tuple[str, ...]:
    """Return the names of the columns that an input must have."""
    truth = () if source.truth_column is None else (source.truth_column,)
    return tuple(dict.fromkeys((source.uri_column, *truth, *source.carry)))


def remedy(source: Input) -> str:
    """Say what to do if an input lacks one of those columns."""
    arguments = ["{uri_column}"]
    if source.truth_column is not None:
        arguments.append("{truth_column}")
    if source.carry:
        arguments.append("{carry}")
    return f"name the right columns with {' and '.join(arguments)}"


def images_of(
    source: Input, rows: Iterable[Mapping[str, Any] | BadRow], name: str, uri: str
) -> Iterator[ImageRef]:
    """Yield an image for each row, with its truth and the carried columns.

    Args:
      source: the input, which says what the columns are.
      rows: its rows; bytes in the images' column are images.
      name: of the table, for rows that name no image.
      uri: of the table, which relative paths in the rows are relative to; "" if images in it cannot
        be read again.

    Raises:
      InputError: a column is missing, or the table cannot be read.
    """
    try:
        for number, row in enumerate(rows, 1):
            yield _image_of(source, row, row_name(name, number), uri, number)
    except ColumnError as error:
        raise source.error(f"{_prefix(source, uri)}{error}", remedy(source)) from error
    except ValueError as error:
        raise source.error(f"{_prefix(source, uri)}cannot be read: {error}") from error


def _image_of(
    source: Input, row: Mapping[str, Any] | BadRow, name: str, uri: str, number: int
) -> ImageRef:
    cells = row.cells if isinstance(row, BadRow) else row
    truth = None
    if source.truth_column is not None:
        truth = as_text(cells.get(source.truth_column)) or None  # an empty cell says nothing
    ref = ImageRef(
        name,
        truth,
        carried={column: plain(cells.get(column)) for column in source.carry},
        order=(number,),
    )
    if isinstance(row, BadRow):
        return with_problem(ref, row.problem, plain(row.cells))
    cell = row[source.uri_column]
    data = bytes_in(cell)
    path = cell.get("path") if isinstance(cell, Mapping) else cell
    if data is not None:
        if not uri:
            return with_problem(ref, f"{source.uri_column!r} has bytes, not a URI", "bytes")
        content = hashlib.sha256(data).hexdigest()[:32]
        return ref._replace(
            uri=_text(path) or name,
            version=f"{len(data)} sha256:{content}",
            place=Place(uri, number, source.uri_column, content),
        )
    if isinstance(cell, Mapping) and isinstance(cell.get("bytes"), (str, list)):
        problem = f"{source.uri_column!r} has 'bytes' of another type; give binary ones"
        return with_problem(ref, problem, plain(cell))
    entry = _text(path)
    if not entry:
        return with_problem(ref, f"{source.uri_column!r} {_description(cell)}", plain(cell))
    try:
        return ref._replace(uri=existing(entry, uri))
    except ValueError as error:
        problem = f"{source.uri_column!r} has a URI that cannot be used: {error}"
        return with_problem(ref, problem, entry)


def bytes_in(cell: Any) -> bytes | None:
    """Return a cell's bytes, if it has some; in datasets of Hugging Face they are in a struct."""
    data = cell.get("bytes") if isinstance(cell, Mapping) else cell
    return data if isinstance(data, bytes) else None


def _text(path: Any) -> str:
    """Return a path without spaces around it; "" if it is none."""
    return path.strip() if isinstance(path, str) else ""


def _description(cell: Any) -> str:
    """Say what a cell has in place of a URI."""
    if cell is None or cell != cell:  # a number that is none
        return "is empty"
    if isinstance(cell, str):
        return "is blank" if cell else "is empty"
    if isinstance(cell, Mapping):
        return "has neither bytes nor a path"
    shown = str(as_text(plain(cell)))
    shown = shown if len(shown) <= _MOST_SHOWN else f"{shown[:_MOST_SHOWN]}…"
    return f"is not text: {shown}"


def images_in_table(source: Input, table: str) -> Iterator[ImageRef]:
    """Yield an image for each row of a table, see ``images_of``.

    Args:
      source: the input, which may have more tables.
      table: the file's absolute path or URI.

    Raises:
      InputError: a column is missing, or the table cannot be read.
    """
    try:
        name = name_of(table, source.naming)
        yield from images_of(source, rows_of_table(source, table), name, table)
    except (StoreError, ImageError, OSError, EOFError, zlib.error) as error:
        raise source.error(f"{_prefix(source, table)}cannot be read: {error}") from error


def rows_of_table(source: Input, table: str) -> Iterator[Mapping[str, Any] | BadRow]:
    """Yield the rows of a table with the columns that an input must have.

    Args:
      source: the input, which may have more tables.
      table: the file's absolute path or URI.

    Raises:
      as ``tables.read_table`` does.
    """
    constant = folder_columns(table)
    constant.pop(source.uri_column, None)  # a folder image=raw names no image
    names = [name for name in wanted(source) if name not in constant]
    return _with(tables.read_table(table, names, source.uri_column), constant)


def _prefix(source: Input, table: str) -> str:
    """Name a table in a message about an input that has several."""
    return "" if table in ("", source.uri) else f"{name_of(table)}: "


def folder_columns(table: str) -> dict[str, Any]:
    """Return the columns that a table's folders name, as in ``country=de/part-0.parquet``."""
    folders = posixpath.dirname(table).split("/")
    pairs = (folder.partition("=") for folder in folders if "=" in folder)
    return {
        urllib.parse.unquote(name): None if value == _NULL else urllib.parse.unquote(value)
        for name, _, value in pairs
    }


def _with(
    rows: Iterable[Mapping[str, Any] | BadRow], constant: Mapping[str, Any]
) -> Iterator[Mapping[str, Any] | BadRow]:
    if not constant:
        yield from rows
        return
    for row in rows:
        if isinstance(row, BadRow):
            yield row._replace(cells={**row.cells, **constant})
        else:
            yield {**row, **constant}


def _recognize(given: str) -> str | None:
    return file_at(given) if tables.is_table(given) else None


def _images(source: Input) -> Iterator[ImageRef]:
    return images_in_table(source, source.uri)


TABLE = InputKind(
    recognize=_recognize,
    images=_images,
    empty="there are no rows in it",
    has_columns=True,
)
