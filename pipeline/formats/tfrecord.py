"""Writes and reads TFRecord files of tf.Examples, with the keys of TensorFlow's datasets.

The fields of the predictions are lists: ``predictions/label``, ``predictions/class_id`` and
``predictions/score``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO

from apache_beam.io.tfrecordio import _TFRecordUtil
from google.protobuf.message import DecodeError

from pipeline.formats.registry import FORMATS
from pipeline.formats.schema import Schema, Write, as_text
from pipeline.records import Prediction, columns_of, record_of

_KEYS = FORMATS["tfrecord"].column_names


def encode(row: Mapping[str, Any], schema: Schema) -> bytes:
    """Write a row as a serialized tf.Example, without the columns that are None."""
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
            put(_KEYS.get(name, name), kind, [row[name]])
    for name in schema.carried:
        if row.get(name) is not None:
            put(name, str, [row[name]])
    return example.SerializeToString()


@contextlib.contextmanager
def writer(file: BinaryIO, schema: Schema) -> Iterator[Write]:
    """Write records, as Beam's own ``WriteToTFRecord`` does."""
    yield lambda row: _TFRecordUtil.write_record(file, encode(row, schema))


def read_rows(file: BinaryIO) -> Iterator[dict[str, Any]]:
    """Read the rows that ``writer`` wrote.

    Raises:
      ValueError or KeyError: the file holds something else.
    """
    # What Beam's own ReadFromTFRecord calls, which is a transform, not a function.
    return map(decode, iter(lambda: _TFRecordUtil.read_record(file), None))


def decode(data: bytes) -> dict[str, Any]:
    """Turn a serialized tf.Example back into the row.

    Raises:
      ValueError: it is not one.
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
        if kind is float:  # which has 32 bits there, and was rounded when it was predicted
            return [round(value, 6) for value in values.float_list.value]
        return [value.decode() for value in values.bytes_list.value]

    row: dict[str, Any] = {}
    for name, kind, _ in columns_of(record_of(feature)):
        if kind is Prediction:
            inner = [take(f"{name}/{c.name}", c.kind) for c in columns_of(Prediction)]
            row[name] = [
                dict(zip(Prediction._fields, values, strict=True))
                for values in zip(*inner, strict=True)
            ]
        else:
            [row[name]] = take(_KEYS.get(name, name), kind) or [None]
    return row | {name: take(name, str)[0] for name in list(feature)}
