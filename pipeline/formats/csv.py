"""Writes and reads CSV (RFC 4180) with a header: None is an empty cell, a list is JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO

import apache_beam as beam
from apache_beam.io.textio import WriteToText

from pipeline.formats.jsonl import lines
from pipeline.formats.schema import Schema, as_text, check_columns
from pipeline.records import Timestamp, columns_of, record_of

ELEMENT = str

# The largest cell; Python's own limit is 128 KB.
csv.field_size_limit(2**31 - 1)


def encode(row: Mapping[str, Any], schema: Schema) -> str:
    """Write a row as a line, without its end."""
    line = io.StringIO()
    # Cells with a part of the line terminator are quoted, so it must be that of both systems.
    csv.writer(line, lineterminator="\r\n").writerow(
        as_text(row.get(name)) for name in schema.names
    )
    return line.getvalue().removesuffix("\r\n")


def sink(prefix: str, suffix: str, schema: Schema, skip_if_empty: bool) -> beam.PTransform:
    """Make the transform that writes a header and lines; Beam gzips them if the suffix says so."""
    header = encode({name: name for name in schema.names}, schema)
    return WriteToText(prefix, suffix, header=header, skip_if_empty=skip_if_empty)


def read_rows(file: BinaryIO) -> Iterator[dict[str, Any]]:
    """Read the rows that ``sink`` wrote.

    Raises:
      ValueError: the file holds something else.
    """
    return map(decode, read_table(file, None))


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


def read_table(file: BinaryIO, columns: Sequence[str] | None) -> Iterator[dict[str, Any]]:
    """Read lines by the column names in the first line; cells are text.

    Raises:
      ColumnError: the file lacks a column.
      ValueError: a line has more cells than the first one, or is not CSV.
    """
    reader = csv.DictReader(lines(file), strict=True)
    try:
        check_columns(columns, reader.fieldnames or ())
        for row in reader:
            if None in row:
                raise ValueError(f"line {reader.line_num} has more cells than the first")
            yield row if columns is None else {name: row[name] for name in columns}
    except csv.Error as error:
        raise ValueError(f"line {reader.line_num}: {error}") from error
