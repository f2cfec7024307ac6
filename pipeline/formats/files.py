"""Writes rows to one file of this machine, a row at a time, without Beam."""

from __future__ import annotations

import contextlib
import gzip
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, cast

import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.io.tfrecordio import _TFRecordUtil

from pipeline.formats import csv, parquet
from pipeline.formats.registry import FORMATS
from pipeline.formats.schema import Schema

Write = Callable[[Mapping[str, Any]], None]

# Rows of a Parquet file in memory at a time.
_GROUP = 10_000


@contextlib.contextmanager
def row_writer(path: Path, format_: str, gzipped: bool, schema: Schema) -> Iterator[Write]:
    """Open a file for writing; yield the function that writes a row, as JSON has it.

    Args:
      path: of the file; one that exists is replaced.
      format_: a name in ``FORMATS``.
      gzipped: whether to compress the file, unless the format compresses itself.
      schema: of the rows.
    """
    row_format = FORMATS[format_]
    if format_ == "parquet":
        with _parquet_writer(path, schema) as write:
            yield write
        return
    encode = row_format.load().encode
    zipped = gzipped and not row_format.compresses_itself
    with cast(IO[bytes], gzip.open(path, "wb") if zipped else path.open("wb")) as file:
        if format_ == "tfrecord":
            yield lambda row: _TFRecordUtil.write_record(file, encode(row, schema))
            return
        if format_ == "csv":
            file.write(csv.encode({name: name for name in schema.names}, schema).encode() + b"\n")
        yield lambda row: _write_line(file, encode(row, schema))


def _write_line(file: IO[bytes], line: str) -> None:
    file.write(line.encode() + b"\n")


@contextlib.contextmanager
def _parquet_writer(path: Path, schema: Schema) -> Iterator[Write]:
    columns = parquet.arrow_schema(schema)
    group: list[dict[str, Any]] = []
    with pq.ParquetWriter(
        path, columns, compression="snappy", use_compliant_nested_type=True
    ) as to:

        def flush() -> None:
            to.write_table(pa.Table.from_pylist(group, columns))
            group.clear()

        def write(row: Mapping[str, Any]) -> None:
            group.append(parquet.encode(row, schema))
            if len(group) == _GROUP:
                flush()

        yield write
        flush()
