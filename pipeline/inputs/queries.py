"""Runs BigQuery queries whose rows name images: ``bigquery:SELECT image FROM …``."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.formats import bigquery
from pipeline.formats.schema import ColumnError
from pipeline.inputs import columns
from pipeline.inputs.kinds import Input, InputKind
from pipeline.records import ImageRef


def _check(source: Input) -> None:
    """Check that a query can be run and has the columns. This costs nothing.

    Raises:
      InputError: it cannot be run, or lacks a column.
    """
    try:
        bigquery.check_query(source.uri, columns.wanted(source), source.uri_column)
    except ColumnError as error:
        raise source.error(str(error), columns.remedy(source)) from error
    except bigquery.ERRORS as error:
        raise source.error(bigquery.first_line(error)) from error


def _images(source: Input) -> Iterator[ImageRef]:
    try:
        rows = bigquery.run_query(source.uri, source.uri_column)
        name = f"bigquery:{' '.join(source.uri.split())}"
        yield from columns.images_of(source, rows, name, "")
    except bigquery.ERRORS as error:
        raise source.error(f"cannot be listed: {bigquery.first_line(error)}") from error


QUERY = InputKind(
    recognize=bigquery.query_in,
    images=_images,
    empty="there are no rows in it",
    has_columns=True,
    check=_check,
)
