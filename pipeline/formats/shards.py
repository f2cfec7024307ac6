"""Writes rows to shards in any format, and reads them back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import apache_beam as beam

from pipeline.formats.registry import FORMATS, format_of
from pipeline.formats.schema import Schema
from pipeline.formats.tables import open_unzipped
from pipeline.records import Failure, Labeled


class WriteShards(beam.PTransform):
    """Expects ``Labeled``s or ``Failure``s, outputs the paths of ``PREFIX-SSSSS-of-NNNNN.FORMAT``.

    There is at least one shard, empty if there are no rows. On S3 there is none in that case, since
    Beam cannot write a file without bytes there.

    Args:
      prefix: what the shards' paths begin with.
      format_: a name in ``FORMATS``.
      gzipped: whether to compress the shards; formats that compress themselves ignore this.
      schema: of the rows.
    """

    def __init__(self, prefix: str, format_: str, gzipped: bool, schema: Schema):
        super().__init__()
        self._prefix = prefix
        self._format = FORMATS[format_]
        self._gzipped = gzipped
        self._schema = schema

    def expand(self, records: beam.PCollection[Labeled | Failure]) -> beam.PCollection[str]:
        """Encode the rows and pass them to one of Beam's sinks."""
        format_, schema = self._format.load(), self._schema
        encode = format_.encode
        suffix = self._format.suffix(self._gzipped)
        skip_if_empty = self._prefix.lower().startswith("s3://")
        rows = records | "Rows" >> beam.Map(
            lambda record: encode(record.to_row(), schema)
        ).with_output_types(format_.ELEMENT)
        return rows | "Write" >> format_.sink(self._prefix, suffix, schema, skip_if_empty)


def read_rows(path: str) -> Iterator[dict[str, Any]]:
    """Read the rows of a shard, with JSON's types.

    Raises:
      ValueError or KeyError: it is in no known format, or contains something that is not a row.
      EOFError or zlib.error: it ends too early, or cannot be unzipped.
      StoreError: it cannot be read.
    """
    format_ = format_of(path)
    if format_ is None:
        raise ValueError(f"{path} is in none of the formats {', '.join(FORMATS)}")
    with open_unzipped(path) as file:
        yield from format_.load().read_rows(file)
