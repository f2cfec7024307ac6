"""Lists inputs with columns: a row names an image, its true class, and what is carried with it.

Tables are files; see ``queries`` for BigQuery's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pipeline.formats import tables
from pipeline.formats.schema import ColumnError, as_text
from pipeline.inputs.kinds import Input, InputKind, file_at
from pipeline.inputs.lists import entry_uri
from pipeline.records import ImageRef


def wanted(source: Input) -> tuple[str, ...]:
    """Return the names of the columns that an input must have."""
    truth = () if source.truth_column is None else (source.truth_column,)
    return tuple(dict.fromkeys((source.uri_column, *truth, *source.carry)))


def remedy(source: Input) -> str:
    """Say what to do if an input lacks one of those columns."""
    arguments = ["{uri_column}"]
    if source.truth_column is not None:
        arguments.append("{truth_column}")
    if source.carry:
        arguments.append("{carry}")
    return f"name the right columns with {' and '.join(arguments)}"


def images_of(source: Input, rows: Iterable[Mapping[str, Any]], uri: str) -> Iterator[ImageRef]:
    """Yield the images that rows name, with their truth and the carried columns.

    Args:
      source: the input, which says what the columns are.
      rows: its rows.
      uri: what relative paths in the rows are relative to.

    Raises:
      InputError: a column is missing, or a row names no image or cannot be read.
    """
    try:
        for number, row in enumerate(rows, 1):
            entry = row[source.uri_column]
            if not isinstance(entry, str) or not entry:
                raise ColumnError(f"row {number} has no {source.uri_column!r}")
            truth = None
            if source.truth_column is not None:
                truth = as_text(row[source.truth_column]) or None  # an empty cell says nothing
            carried = {name: row[name] for name in source.carry}
            yield ImageRef(entry_uri(entry, uri), truth, carried=carried)
    except ColumnError as error:
        raise source.error(str(error), remedy(source)) from error
    except ValueError as error:
        raise source.error(f"cannot be read: {error}") from error


def _recognize(given: str) -> str | None:
    return file_at(given) if tables.is_table(given) else None


def _images(source: Input) -> Iterator[ImageRef]:
    return images_of(source, tables.read_table(source.uri, wanted(source)), source.uri)


TABLE = InputKind(
    recognize=_recognize,
    images=_images,
    empty="there are no rows in it",
    has_columns=True,
)
