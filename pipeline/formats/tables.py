"""Reads tables: files in a row format, by any writer, on any store or server."""

from __future__ import annotations

import contextlib
import gzip
import io
import itertools
import re
from collections.abc import Iterator, Sequence
from typing import Any

from pipeline import storage
from pipeline.formats.registry import RowFormat, format_of
from pipeline.formats.schema import BadRow, ColumnError

# No column has this name, so that asking for it tells the names of the others.
_NO_COLUMN = "\0"

# Rows of JSON whose columns are looked at.
_FIRST_ROWS = 100


def is_table(uri: str) -> bool:
    """Tell whether a file's name or URL is that of a table."""
    return _format(uri) is not None


def _format(uri: str) -> RowFormat | None:
    found = format_of(_path(uri))
    return found if found and found.is_table else None


def _path(uri: str) -> str:
    return (re.split(r"[?#]", uri)[0] if storage.is_http(uri) else uri).lower()


def read_table(
    uri: str, columns: Sequence[str] | None = None, image: str | None = None
) -> Iterator[dict[str, Any] | BadRow]:
    """Read the rows of a table one by one, with JSON's values.

    Cells of CSV are text.

    Args:
      uri: a file for which ``is_table`` holds.
      columns: the columns to read, None for all. A column that a row of JSON lacks is None.
      image: the one of them with the images; bytes in it stay bytes.

    Raises:
      ColumnError: the table lacks a column.
      ValueError: its name is not that of a table, or its content does not match its name.
      EOFError or zlib.error: it ends too early, or cannot be unzipped.
      StoreError or ImageError: it cannot be read.
    """
    found = _format(uri)
    if found is None:
        raise ValueError("is not a table, by its name")
    with open_unzipped(uri) as file:
        yield from found.load().read_table(file, columns, image)


def column_names(uri: str) -> list[str]:
    """List the names of a table's columns; if it is JSON, those of its first rows.

    Raises:
      as ``read_table`` does, but no ColumnError.
    """
    try:
        next(read_table(uri, [_NO_COLUMN], _NO_COLUMN), None)
    except ColumnError as error:
        return list(error.names)
    rows = itertools.islice(read_table(uri), _FIRST_ROWS)
    return list(dict.fromkeys(name for row in rows if isinstance(row, dict) for name in row))


@contextlib.contextmanager
def open_unzipped(uri: str) -> Iterator[Any]:
    """Open a file for reading, unzipped if its name ends with ``.gz``.

    Raises:
      StoreError or ImageError: it cannot be read.
    """
    with contextlib.ExitStack() as stack:
        if storage.is_http(uri):
            file: Any = io.BytesIO(storage.read_bytes(uri))
        else:
            file = storage.open_file(uri)
        stack.enter_context(file)
        # Not with Beam, which takes a file that ends too early for a whole one.
        is_gzipped = _path(uri).endswith(".gz")
        yield stack.enter_context(gzip.GzipFile(fileobj=file)) if is_gzipped else file
