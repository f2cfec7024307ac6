"""Reads shards of rows in any format."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pipeline.formats.registry import FORMATS, format_of
from pipeline.formats.tables import open_unzipped


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
