"""Writes and reads JSON Lines: one row per line, ASCII only."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO

import apache_beam as beam
from apache_beam.io.textio import WriteToText

from pipeline.formats.schema import Schema, plain

ELEMENT = str


def encode(row: Mapping[str, Any], schema: Schema) -> str:
    """Write a row as a line, without its end."""
    return json.dumps(row)


def sink(prefix: str, suffix: str, schema: Schema, skip_if_empty: bool) -> beam.PTransform:
    """Make the transform that writes lines; Beam gzips them if the suffix says so."""
    return WriteToText(prefix, suffix, skip_if_empty=skip_if_empty)


def read_rows(file: BinaryIO) -> Iterator[dict[str, Any]]:
    """Read the rows that ``sink`` wrote.

    Raises:
      ValueError: the file holds something else.
    """
    return read_table(file, None)


def read_table(file: BinaryIO, columns: Sequence[str] | None) -> Iterator[dict[str, Any]]:
    """Read objects, one per line; a column that an object lacks is None.

    Raises:
      ValueError: a line is not an object.
    """
    for number, line in enumerate(lines(file), 1):
        if not line.isspace():
            yield _object(line, number, columns)


def lines(file: BinaryIO) -> Iterator[str]:
    """Read lines of UTF-8, with their ends, without the byte order mark."""
    encoding = "utf-8-sig"
    while line := file.readline():
        yield line.decode(encoding)
        encoding = "utf-8"


def _object(line: str, number: int, columns: Sequence[str] | None) -> dict[str, Any]:
    try:
        row = json.loads(line)
        if isinstance(row, dict) and columns is not None:
            row = {name: plain(row.get(name)) for name in columns}
    except RecursionError as error:
        raise ValueError(f"line {number} is nested too deeply") from error
    except ValueError as error:
        raise ValueError(f"line {number} is not JSON: {error}") from error
    if not isinstance(row, dict):
        raise ValueError(f"line {number} is not an object")
    return row
