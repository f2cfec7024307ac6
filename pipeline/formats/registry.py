"""Registers the row formats: one row for each, with the module that writes and reads it.

To add a format, write its module (see ``Implementation``) and add a row to ``FORMATS``. The module
is imported when it is first used, so the names are available without Beam and pyarrow.
"""

from __future__ import annotations

import importlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol, cast

from pipeline.records import FAILURE_COLUMNS, LABELED_BY, LABELED_COLUMNS, TRAINED_ON

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from pipeline.formats.schema import BadRow, Schema, Write


class Implementation(Protocol):
    """What the module of a format defines."""

    def writer(self, file: BinaryIO, schema: Schema) -> AbstractContextManager[Write]:
        """Yield the function that writes a row, as JSON has it; the file is whole after that.

        Args:
          file: open for writing; it is not closed.
          schema: of the rows.
        """

    def read_rows(self, file: BinaryIO) -> Iterator[dict[str, Any]]:
        """Read back what ``writer`` wrote: rows with JSON's types.

        Args:
          file: the content, unzipped.

        Raises:
          ValueError: it holds something else.
        """

    def read_table(
        self, file: BinaryIO, columns: Sequence[str] | None, image: str | None = None
    ) -> Iterator[dict[str, Any] | BadRow]:
        """Read what anybody wrote, see ``tables.read_table``; only if ``is_table`` holds.

        Args:
          file: the content, unzipped.
          columns: the columns to read, None for all.
          image: the one of them with the images.

        Raises:
          ColumnError: the file lacks a column.
          ValueError: it is damaged, or in another format.
        """


@dataclass(frozen=True)
class RowFormat:
    """A format of rows.

    Attributes:
      name: its name for users, and the suffix of its files.
      module: what writes and reads it.
      compresses_itself: whether its files are never gzipped.
      is_table: whether a file in it can be a list of images.
      column_names: columns with another name in this format.
    """

    name: str
    module: str
    compresses_itself: bool = False
    is_table: bool = True
    column_names: Mapping[str, str] = field(default_factory=dict)

    def suffix(self, gzipped: bool = False) -> str:
        """Return the suffix of its files, in lower case."""
        return f".{self.name}.gz" if gzipped and not self.compresses_itself else f".{self.name}"

    @property
    def suffixes(self) -> tuple[str, str]:
        """The suffixes of its files, first without gzip; the two may be equal."""
        return self.suffix(), self.suffix(gzipped=True)

    def load(self) -> Implementation:
        """Import the module."""
        return cast(Implementation, importlib.import_module(self.module))


# Formats that are faster to read come first.
FORMATS = {
    row.name: row
    for row in (
        RowFormat("jsonl", "pipeline.formats.jsonl"),
        RowFormat("parquet", "pipeline.formats.parquet", compresses_itself=True),
        RowFormat(
            "tfrecord",
            "pipeline.formats.tfrecord",
            is_table=False,
            # Keys for which TensorFlow's datasets and models have names of their own.
            column_names={
                "image": "image/filename",
                "label": "image/class/text",
                "class_id": "image/class/label",
                "width": "image/width",
                "height": "image/height",
            },
        ),
        RowFormat("csv", "pipeline.formats.csv"),
    )
}


def table_suffixes() -> str:
    """List the suffixes of tables in words: ``.csv, .jsonl or .parquet``."""
    *others, last = sorted(row.suffix() for row in FORMATS.values() if row.is_table)
    return f"{', '.join(others)} or {last}"


def fastest(names: Collection[str]) -> RowFormat:
    """Choose the format that is the fastest to read."""
    return next(row for name, row in FORMATS.items() if name in names)


def format_of(path: str) -> RowFormat | None:
    """Look up the format of a file by its name; None if it has none of them."""
    return next((row for row in FORMATS.values() if path.endswith(row.suffixes)), None)


def suffix_of(path: str) -> str | None:
    """Tell with which format's suffix a file's name ends; None if with none."""
    suffixes = (suffix for row in FORMATS.values() for suffix in row.suffixes)
    return next((suffix for suffix in suffixes if path.endswith(suffix)), None)


def in_one_format(shards: Sequence[str]) -> list[str]:
    """Choose the shards in one format, if shards in several formats have the same rows."""
    found = {suffix_of(path) for path in shards}
    suffixes = (suffix for row in FORMATS.values() for suffix in row.suffixes)
    first = next((suffix for suffix in suffixes if suffix in found), None)
    return [path for path in shards if suffix_of(path) == first]


def is_taken(column: str) -> bool:
    """Tell whether rows have a column of this name already, in any format."""
    renamed = (name for row in FORMATS.values() for name in row.column_names.values())
    # In tf.Examples, the fields of the predictions are lists of their own.
    taken = (*LABELED_COLUMNS, *FAILURE_COLUMNS, TRAINED_ON, LABELED_BY, *renamed)
    return column in taken or column.startswith("predictions/")
