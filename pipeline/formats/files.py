"""Writes rows to one file, a row at a time."""

from __future__ import annotations

import contextlib
import gzip
from collections.abc import Iterator
from typing import BinaryIO, cast

from pipeline.formats.registry import FORMATS
from pipeline.formats.schema import Schema, Write

# As ``gzip`` has it if it is not told; Python's own default takes twice the time for 1 %.
_LEVEL = 6


@contextlib.contextmanager
def row_writer(file: BinaryIO, format_: str, gzipped: bool, schema: Schema) -> Iterator[Write]:
    """Yield the function that writes a row, as JSON has it; the file is whole after that.

    Args:
      file: open for writing.
      format_: a name in ``FORMATS``.
      gzipped: whether to compress the file, unless the format compresses itself.
      schema: of the rows.
    """
    row_format = FORMATS[format_]
    writer = row_format.load().writer
    if not gzipped or row_format.compresses_itself:
        with writer(file, schema) as write:
            yield write
        return
    with (
        gzip.GzipFile("", "wb", _LEVEL, file) as zipped,
        writer(cast(BinaryIO, zipped), schema) as write,
    ):
        yield write
