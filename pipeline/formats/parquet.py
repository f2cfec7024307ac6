"""Writes and reads Parquet: predictions are a list of structs, times are timestamps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any, BinaryIO

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.io.parquetio import WriteToParquet

from pipeline.formats.schema import Schema, as_text, check_columns, plain
from pipeline.records import TIME, Column, Timestamp, columns_of, record_of

ELEMENT = dict

_TYPES = {
    str: pa.string(),
    int: pa.int64(),
    float: pa.float64(),
    Timestamp: pa.timestamp("ms", tz="UTC"),
}

# Rows of a file in memory at a time.
_BATCH = 1000


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


def sink(prefix: str, suffix: str, schema: Schema, skip_if_empty: bool) -> beam.PTransform:
    """Make the transform that writes Parquet files; they have bytes even without rows."""
    return WriteToParquet(
        prefix,
        arrow_schema(schema),
        codec="snappy",
        use_compliant_nested_type=True,
        file_name_suffix=suffix,
    )


def read_rows(file: BinaryIO) -> Iterator[dict[str, Any]]:
    """Read the rows that ``sink`` wrote.

    Raises:
      ValueError or KeyError: the file holds something else.
    """
    for row in read_table(file, None):
        for column in columns_of(record_of(row)):
            if column.kind is Timestamp:
                row[column.name] = f"{datetime.fromisoformat(row[column.name]):{TIME}}"
        yield row


def read_table(file: BinaryIO, columns: Sequence[str] | None) -> Iterator[dict[str, Any]]:
    """Read rows, a thousand at a time.

    Raises:
      ColumnError: the file lacks a column.
      ValueError: it is not a Parquet file, or is damaged.
    """
    try:
        table = pq.ParquetFile(file)
        check_columns(columns, table.schema_arrow.names)
        for batch in table.iter_batches(_BATCH, columns=columns):
            for row in batch.to_pylist():
                yield {name: plain(value) for name, value in row.items()}
    except pa.ArrowException as error:
        raise ValueError(f"is not a Parquet file that can be read: {error}") from error
