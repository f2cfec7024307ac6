"""Reads tables: ``.csv``, ``.jsonl`` and ``.parquet`` files, the first two gzipped or not."""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from pipeline.storage import read as storage

_TABLE = re.compile(r"\.(?:(csv|jsonl)(?:\.gz)?|(parquet))$", re.IGNORECASE)

# Of a cell; Python's own limit is 128 KB.
csv.field_size_limit(2**31 - 1)

# Rows of a Parquet file in memory.
_BATCH = 1000


class ColumnError(ValueError):
    """A table has no such column, or a row no value in it."""


def is_table(uri: str) -> bool:
    """Whether a file's name, or URL, is that of a table."""
    return _format(uri) is not None


def _format(uri: str) -> str | None:
    found = _TABLE.search(_path(uri))
    return (found[1] or found[2]).lower() if found else None


def _path(uri: str) -> str:
    return re.split(r"[?#]", uri)[0] if storage.is_http(uri) else uri


def read_table(uri: str, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
    """The rows of a table, one by one, with the values that JSON has for them; cells are text.

    Args:
      uri: of a file for which ``is_table`` holds.
      columns: those wanted, None for all. Where one is absent from a row of JSON, it is None.

    Raises:
      ColumnError: it has no such column.
      ValueError: the file is none.
      one of ``storage.STORE_ERRORS`` or ImageError: it cannot be read.
    """
    format_ = _format(uri)
    with _open(uri) as file:
        if format_ == "parquet":
            yield from _read_parquet(file, columns)
        elif format_ == "csv":
            yield from _read_csv(_lines(file), columns)
        else:
            for number, line in enumerate(_lines(file), 1):
                if not line.isspace():
                    yield _json_row(line, number, columns)


def plain(value: Any) -> Any:
    """The value as JSON has it: times and decimals become text, and so do bytes."""
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


@contextlib.contextmanager
def _open(uri: str) -> Iterator[Any]:
    with contextlib.ExitStack() as stack:
        if storage.is_http(uri):
            file: Any = io.BytesIO(storage.read_bytes(uri))
        else:
            file = FileSystems.open(uri, compression_type=CompressionTypes.UNCOMPRESSED)
        stack.enter_context(file)
        # Beam would unzip, too, and take a file that ends too early for a whole one.
        yield stack.enter_context(gzip.GzipFile(fileobj=file)) if _is_gzipped(uri) else file


def _is_gzipped(uri: str) -> bool:
    return _path(uri).lower().endswith(".gz")


def _lines(file: Any) -> Iterator[str]:
    encoding = "utf-8-sig"
    while line := file.readline():
        yield line.decode(encoding)
        encoding = "utf-8"


def _read_csv(lines: Iterator[str], columns: Sequence[str] | None) -> Iterator[dict[str, Any]]:
    reader = csv.DictReader(lines, strict=True)
    try:
        see_that_there_are(columns, reader.fieldnames or ())
        for row in reader:
            if None in row:
                raise ValueError(f"line {reader.line_num} has more cells than the first")
            yield row if columns is None else {name: row[name] for name in columns}
    except csv.Error as error:
        raise ValueError(f"line {reader.line_num}: {error}") from error


def _read_parquet(file: Any, columns: Sequence[str] | None) -> Iterator[dict[str, Any]]:
    try:
        table = pq.ParquetFile(file)
        see_that_there_are(columns, table.schema_arrow.names)
        for batch in table.iter_batches(_BATCH, columns=columns):
            for row in batch.to_pylist():
                yield {name: plain(value) for name, value in row.items()}
    except pa.ArrowException as error:
        raise ValueError(f"is not a Parquet file that can be read: {error}") from error


def _json_row(line: str, number: int, columns: Sequence[str] | None) -> dict[str, Any]:
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


def see_that_there_are(columns: Sequence[str] | None, names: Sequence[str]) -> None:
    """See that columns are among those of a table.

    Raises:
      ColumnError: they are not.
    """
    for column in columns or ():
        if names.count(column) > 1:
            raise ColumnError(f"has {names.count(column)} columns {column!r}")
        if column not in names:
            raise ColumnError(f"has no column {column!r}; its columns are {', '.join(names)}")
