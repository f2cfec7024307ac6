"""The formats of the output's files: how rows are written, and read again."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any, NamedTuple

import apache_beam as beam
import pyarrow as pa
from apache_beam.io.filesystems import FileSystems
from apache_beam.io.parquetio import WriteToParquet
from apache_beam.io.textio import WriteToText
from apache_beam.io.tfrecordio import WriteToTFRecord, _TFRecordUtil
from google.protobuf.message import DecodeError

from pipeline.inputs import tables
from pipeline.records import (
    EXAMPLE_KEYS,
    FORMATS,
    TIME,
    Column,
    Failure,
    Labeled,
    Prediction,
    Timestamp,
    columns_of,
)

_SUFFIX = re.compile(rf"\.(?:{'|'.join(FORMATS)})(?:\.gz)?$")

_ARROW_TYPES = {
    str: pa.string(),
    int: pa.int64(),
    float: pa.float64(),
    Timestamp: pa.timestamp("ms", tz="UTC"),
}


class Schema(NamedTuple):
    """What the rows of one kind have.

    ``record``: ``Labeled`` or ``Failure``. ``carried``: the names of the columns that come along
    with the images; but for JSON, their values are text.
    """

    record: type
    carried: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Of all columns, in order."""
        return (*(column.name for column in columns_of(self.record)), *self.carried)


def suffix(format_: str, gzipped: bool) -> str:
    """What the names of files of a format end with; Parquet compresses by itself."""
    return f".{format_}.gz" if gzipped and format_ != "parquet" else f".{format_}"


def suffixes() -> list[str]:
    """All that files of rows may end with; of several, the first are the fastest to be read."""
    return [suffix(format_, gzipped) for format_ in FORMATS for gzipped in (False, True)]


def suffix_of(path: str) -> str | None:
    """What a file's name ends with, if it is one of the suffixes of the formats."""
    found = _SUFFIX.search(path)
    return found[0] if found else None


def writer(format_: str, prefix: str, gzipped: bool, schema: Schema) -> beam.PTransform:
    """What writes ``Labeled``s or ``Failure``s to shards, ``PREFIX-SSSSS-of-NNNNN.FORMAT``.

    There is at least one, empty if there are no rows; but none then on S3, where Beam cannot write
    an empty file.
    """
    ending = suffix(format_, gzipped)
    skip = prefix.lower().startswith("s3://")
    if format_ == "parquet":
        arrow = arrow_schema(schema)
        return _MapAndWrite(
            lambda record: to_arrow(record.to_row(), schema),
            dict,
            WriteToParquet(
                prefix,
                arrow,
                codec="snappy",
                use_compliant_nested_type=True,
                file_name_suffix=ending,
            ),
        )
    if format_ == "tfrecord":
        sink = WriteToTFRecord(prefix, file_name_suffix=ending)
        sink._sink.skip_if_empty = skip  # it has no such argument
        return _MapAndWrite(lambda record: to_example(record.to_row(), schema), bytes, sink)
    if format_ == "csv":
        header = to_csv({name: name for name in schema.names}, schema)
        return _MapAndWrite(
            lambda record: to_csv(record.to_row(), schema),
            str,
            WriteToText(prefix, ending, header=header, skip_if_empty=skip),
        )
    return _MapAndWrite(
        lambda record: record.to_json(), str, WriteToText(prefix, ending, skip_if_empty=skip)
    )


class _MapAndWrite(beam.PTransform):
    def __init__(self, function: Callable[[Any], Any], type_: type, sink: beam.PTransform):
        super().__init__()
        self._function = function
        self._type = type_
        self._sink = sink

    def expand(self, records: beam.PCollection[Any]) -> beam.PCollection[str]:
        rows = records | "Rows" >> beam.Map(self._function).with_output_types(self._type)
        return rows | "Write" >> self._sink


def read_rows(path: str) -> Iterator[dict[str, Any]]:
    """The rows of a file of any of the formats, as JSON has them.

    Raises:
      ValueError: there is something in it that is no row.
      EOFError or zlib.error: it ends too early, or cannot be unzipped.
      one of ``storage.STORE_ERRORS``: it cannot be read.
    """
    ending = suffix_of(path)
    if ending is not None and ending.startswith(".tfrecord"):
        yield from _read_examples(path)
        return
    rows = tables.read_table(path)
    if ending is None or ending.startswith(".jsonl"):
        yield from rows
        return
    from_ = _from_csv if ending.startswith(".csv") else _from_arrow
    for row in rows:
        yield from_(row, Failure if "reason" in row else Labeled)


def arrow_schema(schema: Schema) -> pa.Schema:
    """Of the rows in Parquet files."""
    fields = [_arrow_field(column) for column in columns_of(schema.record)]
    return pa.schema([*fields, *(pa.field(name, pa.string()) for name in schema.carried)])


def _arrow_field(column: Column) -> pa.Field:
    type_ = _ARROW_TYPES.get(column.kind)
    if type_ is None:
        type_ = pa.list_(pa.struct([_arrow_field(inner) for inner in columns_of(column.kind)]))
    # All nullable, as engines have it: BigQuery refuses a file that is stricter than its table.
    return pa.field(column.name, type_)


def to_arrow(row: Mapping[str, Any], schema: Schema) -> dict[str, Any]:
    """The row with the values that Arrow wants."""
    values = {name: as_text(row.get(name)) for name in schema.carried}
    for column in columns_of(schema.record):
        value = row[column.name]
        if column.kind is Timestamp:
            value = datetime.strptime(value, TIME).replace(tzinfo=timezone.utc)
        values[column.name] = tables.plain(value) if column.kind is str else value
    return values


def _from_arrow(row: dict[str, Any], record: type) -> dict[str, Any]:
    for column in columns_of(record):
        if column.kind is Timestamp:
            row[column.name] = f"{datetime.fromisoformat(row[column.name]):{TIME}}"
    return row


def to_csv(row: Mapping[str, Any], schema: Schema) -> str:
    """The row as a line of CSV (RFC 4180), without its end; None is an empty cell, a list JSON."""
    line = io.StringIO()
    # What has a part of the line's end in it is quoted, so it must be that of both systems.
    csv.writer(line, lineterminator="\r\n").writerow(
        as_text(row.get(name)) for name in schema.names
    )
    return line.getvalue().removesuffix("\r\n")


def _from_csv(row: dict[str, Any], record: type) -> dict[str, Any]:
    for column in columns_of(record):
        cell = row[column.name]
        if cell is None:
            raise ValueError(f"a line without {column.name}")
        if column.nullable and cell == "":
            row[column.name] = None
        elif column.kind not in (str, Timestamp):
            row[column.name] = json.loads(cell)
    return row


def as_text(value: Any) -> str | None:
    """The value of a cell: text as it is, anything else as JSON has it."""
    if value is None or isinstance(value, str):
        return tables.plain(value)
    return json.dumps(value)


def to_example(row: Mapping[str, Any], schema: Schema) -> bytes:
    """The row as a serialized tf.Example; what is None is absent.

    The keys are the columns' names, but ``image/filename``, ``image/class/text``,
    ``image/class/label``, ``image/width`` and ``image/height``; and ``predictions/label``,
    ``predictions/class_id`` and ``predictions/score`` are lists.
    """
    from pipeline.models.tensorflow_import import tf  # TensorFlow takes seconds to import

    example = tf.train.Example()

    def put(key: str, kind: Any, values: Sequence[Any]) -> None:
        feature = example.features.feature[key]
        if kind is int:
            feature.int64_list.value.extend(values)
        elif kind is float:
            feature.float_list.value.extend(values)
        else:
            feature.bytes_list.value.extend((as_text(value) or "").encode() for value in values)

    for name, kind, _ in columns_of(schema.record):
        if kind is Prediction:
            for inner in columns_of(Prediction):
                values = [prediction[inner.name] for prediction in row[name]]
                put(f"{name}/{inner.name}", inner.kind, values)
        elif row[name] is not None:
            put(EXAMPLE_KEYS.get(name, name), kind, [row[name]])
    for name in schema.carried:
        if row.get(name) is not None:
            put(name, str, [row[name]])
    return example.SerializeToString()


def from_example(data: bytes) -> dict[str, Any]:
    """The row of which ``to_example`` made a tf.Example.

    Raises:
      ValueError: it is none.
    """
    from pipeline.models.tensorflow_import import tf  # TensorFlow takes seconds to import

    try:
        feature = tf.train.Example.FromString(data).features.feature
    except DecodeError as error:
        raise ValueError("not a tf.Example") from error

    def take(key: str, kind: Any) -> list[Any]:
        values = feature.pop(key) if key in feature else tf.train.Feature()
        if kind is int:
            return list(values.int64_list.value)
        if kind is float:  # which is of 32 bits there, and was rounded when it was predicted
            return [round(value, 6) for value in values.float_list.value]
        return [value.decode() for value in values.bytes_list.value]

    row: dict[str, Any] = {}
    for name, kind, _ in columns_of(Failure if "reason" in feature else Labeled):
        if kind is Prediction:
            inner = [take(f"{name}/{c.name}", c.kind) for c in columns_of(Prediction)]
            row[name] = [
                dict(zip(Prediction._fields, values, strict=True))
                for values in zip(*inner, strict=True)
            ]
        else:
            [row[name]] = take(EXAMPLE_KEYS.get(name, name), kind) or [None]
    return row | {name: take(name, str)[0] for name in list(feature)}


def _read_examples(path: str) -> Iterator[dict[str, Any]]:
    with FileSystems.open(path) as file:
        # What Beam's own ReadFromTFRecord calls, which is a transform and no function.
        for record in iter(lambda: _TFRecordUtil.read_record(file), None):
            yield from_example(record)
