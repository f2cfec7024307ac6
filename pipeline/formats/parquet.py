"""Writes and reads Parquet: predictions are a list of structs, times are timestamps."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any, BinaryIO, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.formats.schema import (
    BadRow,
    Schema,
    Write,
    as_text,
    check_columns,
    plain,
    require_rows,
)
from pipeline.records import TIME, Column, Timestamp, columns_of, record_of

_TYPES = {
    str: pa.string(),
    int: pa.int64(),
    float: pa.float64(),
    Timestamp: pa.timestamp("ms", tz="UTC"),
}

# Rows that are written as a group, and are in memory until then.
_GROUP = 10_000

# Rows of a file in memory at a time, by their number and by their size in the file.
_MOST_ROWS = 1000
_MOST_WITH_BYTES = 64
_BATCH_BYTES = 2**23

# Bytes that are read at a time; otherwise a column of a row group would be read at once.
_BUFFER = 2**20


def arrow_schema(schema: Schema) -> pa.Schema:
    """Translate a schema to Arrow's."""
    fields = [_field(column) for column in columns_of(schema.record)]
    return pa.schema([*fields, *(pa.field(name, pa.string()) for name in schema.carried)])


def _field(column: Column) -> pa.Field:
    type_ = _TYPES.get(column.kind)
    if type_ is None:
        type_ = pa.list_(pa.struct([_field(inner) for inner in columns_of(column.kind)]))
    # All nullable, as engines do: BigQuery refuses a file that is stricter than its table.
    return pa.field(column.name, type_)


def encode(row: Mapping[str, Any], schema: Schema) -> dict[str, Any]:
    """Give a row the values that Arrow wants."""
    values = {name: as_text(row.get(name)) for name in schema.carried}
    for column in columns_of(schema.record):
        value = row[column.name]
        if column.kind is Timestamp:
            value = datetime.strptime(value, TIME).replace(tzinfo=timezone.utc)
        values[column.name] = plain(value) if column.kind is str else value
    return values


@contextlib.contextmanager
def writer(file: BinaryIO, schema: Schema) -> Iterator[Write]:
    """Write groups of rows."""
    columns = arrow_schema(schema)
    group: list[dict[str, Any]] = []
    with pq.ParquetWriter(
        file, columns, compression="snappy", use_compliant_nested_type=True
    ) as to:

        def flush() -> None:
            to.write_table(pa.Table.from_pylist(group, columns))
            group.clear()

        def write(row: Mapping[str, Any]) -> None:
            group.append(encode(row, schema))
            if len(group) == _GROUP:
                flush()

        yield write
        flush()


def read_rows(file: BinaryIO) -> Iterator[dict[str, Any]]:
    """Read the rows that ``writer`` wrote.

    Raises:
      ValueError or KeyError: the file holds something else.
    """
    for row in require_rows(read_table(file, None)):
        for column in columns_of(record_of(row)):
            if column.kind is Timestamp:
                row[column.name] = f"{datetime.fromisoformat(row[column.name]):{TIME}}"
        yield row


def read_table(
    file: BinaryIO, columns: Sequence[str] | None, image: str | None = None
) -> Iterator[dict[str, Any] | BadRow]:
    """Read rows, as many at a time as fit into some megabytes.

    Raises:
      ColumnError: the file lacks a column.
      ValueError: it is not a Parquet file, or is damaged.
    """
    with _opened(file) as table:
        check_columns(columns, table.schema_arrow.names)
        number = 0
        for batch in _batches(table, columns):
            names = columns or batch.schema.names
            values = [_values(batch.column(name)) for name in names]
            for cells in zip(*values, strict=True):
                number += 1
                row = {
                    name: cell if name == image else plain(cell)
                    for name, cell in zip(names, cells, strict=True)
                    if not isinstance(cell, _Unreadable)
                }
                if len(row) == len(names):
                    yield row
                    continue
                name = next(name for name in names if name not in row)
                problem = cells[names.index(name)].problem
                yield BadRow(f"row {number}: its {name!r} cannot be read: {problem}", row)


def read_cells(file: BinaryIO, column: str, rows: Sequence[int]) -> Iterator[tuple[int, Any]]:
    """Read some cells of a column.

    Args:
      file: the content.
      column: its name.
      rows: the numbers of the rows, from 1, in order.

    Yields:
      The number of a row, and its cell with Python's values.

    Raises:
      ValueError: the file is not a Parquet file, or is damaged.
    """
    with _opened(file) as table:
        waiting = deque(rows)
        end = 0
        for group in range(table.num_row_groups):
            start, end = end, end + table.metadata.row_group(group).num_rows
            if not waiting or waiting[0] > end:
                continue
            at = start
            for batch in _batches(table, [column], [group]):
                while waiting and waiting[0] <= at + len(batch):
                    number = waiting.popleft()
                    yield number, batch.column(column)[number - at - 1].as_py()
                at += len(batch)
                if not waiting or waiting[0] > end:
                    break


@contextlib.contextmanager
def _opened(file: BinaryIO) -> Iterator[pq.ParquetFile]:
    try:
        yield pq.ParquetFile(file, buffer_size=_BUFFER, pre_buffer=False)
    except pa.ArrowException as error:
        raise ValueError(f"is not a Parquet file that can be read: {error}") from error


def _batches(
    table: pq.ParquetFile, columns: Sequence[str] | None, groups: Sequence[int] | None = None
) -> Iterator[pa.RecordBatch]:
    """Read some or all columns of row groups, batch by batch."""
    return table.iter_batches(_batch_size(table, columns), groups, columns)


def _batch_size(table: pq.ParquetFile, columns: Sequence[str] | None) -> int:
    """Choose the rows of a batch by the size of the cells, which may be whole images."""
    schema, metadata = table.schema_arrow, table.metadata
    names = schema.names if columns is None else columns
    largest = 0.0
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        chunks = map(group.column, range(group.num_columns))
        total = sum(
            chunk.total_uncompressed_size
            for chunk in chunks
            if chunk.path_in_schema.partition(".")[0] in names
        )
        largest = max(largest, total / max(group.num_rows, 1))
    # The same large cell many times takes little room in a file.
    most = _MOST_WITH_BYTES if any(_has_bytes(schema.field(n).type) for n in names) else _MOST_ROWS
    return max(1, min(most, int(_BATCH_BYTES / max(largest, 1))))


def _has_bytes(type_: pa.DataType) -> bool:
    """Tell whether a column may have images, in whatever way its writer stored bytes."""
    if pa.types.is_dictionary(type_):
        return _has_bytes(type_.value_type)
    if pa.types.is_nested(type_):
        return any(_has_bytes(type_.field(n).type) for n in range(type_.num_fields))
    return "binary" in str(type_)  # binary, large_binary, binary_view, fixed_size_binary


class _Unreadable(NamedTuple):
    """In place of a cell. ``problem``: why Python has no value for it."""

    problem: str


def _values(column: pa.Array) -> list[Any]:
    """Convert cells to Python's values; text may turn out not to be UTF-8, or times too late."""
    try:
        return list(column.to_pylist())
    except (ValueError, OverflowError):
        return [_value(cell) for cell in column]


def _value(cell: pa.Scalar) -> Any:
    try:
        return cell.as_py()
    except (ValueError, OverflowError) as error:
        return _Unreadable(str(error))
