"""Reads the true classes of images from a table or a query, which may name them in its own way."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pipeline import storage
from pipeline.errors import ImageError, StoreError
from pipeline.formats import bigquery, tables
from pipeline.formats.registry import table_suffixes
from pipeline.formats.schema import BadRow, ColumnError, as_text, plain
from pipeline.inputs import column_names, columns, truth
from pipeline.inputs.columns import TABLE, folder_columns, rows_of_table
from pipeline.inputs.kinds import Input, InputKind, refuse_pipe
from pipeline.inputs.lists import entry_uri
from pipeline.inputs.queries import QUERY
from pipeline.inputs.table_sets import FOLDER_OF_TABLES, GLOB_OF_TABLES, tables_in
from pipeline.records import row_name
from pipeline.redaction import Naming, name_of

# Kinds of several tables; no server lists its files.
_SETS = (GLOB_OF_TABLES, FOLDER_OF_TABLES)


class TruthRow(NamedTuple):
    """What a row says.

    ``number``: its place in the table, from 1. ``entry``: the image as the table has it, without
    spaces around it; empty if the row names none. ``name``: the same as an absolute path or URI,
    without secrets. ``truth``: the true class; None for an empty cell.
    """

    number: int
    entry: str
    name: str
    truth: str | None


def identify_truth(
    given: str,
    uri_column: str,
    truth_column: str,
    naming: Naming | None = None,
    argument: str = "truth",
    first: Sequence[str] = (),
) -> Input:
    """Check that a table or query has the true classes of images.

    Args:
      given: what the user wrote.
      uri_column: see ``Input``. If the table lacks it, which may be the input's, the only column
        with a usual name is taken.
      truth_column: likewise, if it is ``CLASSES[0]``.
      naming: see ``Input``.
      argument: the name of the argument for which it was given.
      first: columns with the classes that go before the former one.

    Raises:
      InputError: it is neither, lacks a column, or has no rows.
    """
    refuse_pipe(given, argument)
    uri = storage.absolute(given)
    source = Input(TABLE, uri, given, uri_column, (), truth_column, argument, naming=naming)
    with _blaming(source):
        found = _recognize(given)
        if found is None and tables.is_table(given):
            raise source.error("there is no such file")
        if found is None:
            parent = f", nor {truth.PARENT!r}, for the folders that the images are in"
            raise source.error(
                f"is neither a {table_suffixes()} file, or a folder or glob of them"
                f"{parent if argument == 'truth' else ', nor a .json file of Label Studio'}"
            )
        source = dataclasses.replace(source, kind=found[0], uri=found[1])
        names = _names(source)
        image = column_names.choose(uri_column, column_names.IMAGES, names)
        others = [name for name in names if name != image]
        # Any other name was given for this table alone.
        usual = column_names.CLASSES if truth_column == column_names.CLASSES[0] else ()
        class_ = next((name for name in first if name in others), None)
        class_ = class_ or column_names.choose(truth_column, usual, others)
    source = dataclasses.replace(source, uri_column=image, truth_column=class_)
    if source.kind.check is not None:
        source.kind.check(source)
    elif next(read_truth(source), None) is None:
        raise source.error(source.kind.empty)
    return source


def _recognize(given: str) -> tuple[InputKind, str] | None:
    for kind in (QUERY, TABLE, *([] if storage.is_http(given) else _SETS)):
        uri = kind.recognize(given)
        if uri is not None:
            return kind, uri
    return None


def _names(source: Input) -> list[str]:
    """List the names of the columns; of several tables, those of the first one."""
    if source.kind == QUERY:
        return bigquery.query_columns(source.uri)
    found = tables_in(source)[:1]
    return [
        name for table in found for name in (*tables.column_names(table), *folder_columns(table))
    ]


def read_truth(source: Input) -> Iterator[TruthRow]:
    """Read the rows one by one.

    Args:
      source: what ``identify_truth`` returned.

    Raises:
      InputError: it cannot be read, or lacks a column.
    """
    with _blaming(source):
        for number, (table, place, row) in enumerate(_rows(source), 1):
            yield _truth_row(source, table, place, row)._replace(number=number)


@contextlib.contextmanager
def _blaming(source: Input) -> Iterator[None]:
    """Turn what can go wrong with reading a table into an error that blames it."""
    try:
        yield
    except ColumnError as error:
        # The input has the same uri_column, so another one may not do.
        remedy = f"{columns.remedy(source)}, or call the images' column 'file'"
        raise source.error(str(error), remedy) from error
    except (StoreError, *bigquery.ERRORS) as error:
        raise source.error(f"cannot be listed: {bigquery.first_line(error)}") from error
    except re.error as error:
        raise source.error(f"is not a valid glob: {error}") from error
    except (ImageError, ValueError, EOFError, zlib.error) as error:
        raise source.error(f"cannot be read: {error}") from error


def _rows(source: Input) -> Iterator[tuple[str, int, Mapping[str, Any] | BadRow]]:
    """Yield each row with its table, "" for a query, and its number there."""
    if source.kind == QUERY:
        for number, found in enumerate(bigquery.run_query(source.uri, source.uri_column), 1):
            yield "", number, found
        return
    for table in tables_in(source):
        for number, row in enumerate(rows_of_table(source, table), 1):
            yield table, number, row


def _truth_row(source: Input, table: str, number: int, row: Mapping[str, Any] | BadRow) -> TruthRow:
    if isinstance(row, BadRow):
        return TruthRow(number, "", "", None)
    entry, class_ = row[source.uri_column], row[source.truth_column or ""]
    has_bytes = columns.bytes_in(entry) is not None
    if isinstance(entry, Mapping):  # bytes and path, as Hugging Face has images
        entry = entry.get("path")
    entry = "" if isinstance(entry, bytes) else (as_text(plain(entry)) or "").strip()
    class_ = (as_text(class_) or "").strip() or None
    if not entry:
        name = row_name(name_of(table, source.naming), number) if has_bytes else ""
        return TruthRow(number, name, name, class_)
    try:
        uri = entry_uri(entry, table)
    except ValueError:  # a host in brackets that are not closed: no image has such a name
        uri = entry
    is_absolute = storage.is_remote(entry) or entry.lower().startswith("file:")
    name = name_of(uri, source.naming)
    return TruthRow(number, name if is_absolute else entry, name, class_)
