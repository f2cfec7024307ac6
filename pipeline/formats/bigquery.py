"""Reads the rows of a BigQuery query, and defines and checks a table of labels."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from typing import Any

import requests
from google.api_core.exceptions import GoogleAPIError, NotFound
from google.auth.exceptions import GoogleAuthError
from google.cloud import bigquery

from pipeline.errors import OutputError
from pipeline.formats.schema import ColumnError, check_columns, plain
from pipeline.records import LABELED_BY, TRAINED_ON, Column, Labeled, Timestamp, columns_of

_QUERY = "bigquery:"

# What a client raises; OSError if it does not know which project pays.
ERRORS = (GoogleAPIError, GoogleAuthError, requests.RequestException, OSError)

# Names of tables and of their columns.
_TABLE_NAME = re.compile(r"[\w -]+")
_COLUMN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,299}")

_TYPES = {str: "STRING", int: "INTEGER", float: "FLOAT", Timestamp: "TIMESTAMP"}


def query_in(given: str) -> str | None:
    """Return the query in an input like ``bigquery:SELECT image FROM …``; None for other inputs."""
    return given[len(_QUERY) :].strip() if given.lower().startswith(_QUERY) else None


def first_line(error: Exception) -> str:
    """Return the first line of the client's message; the job's id and more follow it."""
    return str(error).partition("\n")[0]


def query_columns(query: str) -> list[str]:
    """List the names of a query's columns without running it, which costs nothing.

    Raises:
      one of ``ERRORS``: it is not a query, or there is no access to what it reads.
    """
    with contextlib.closing(bigquery.Client()) as client:
        job = client.query(query, bigquery.QueryJobConfig(dry_run=True))
        return [field.name for field in job.schema or ()]


def check_query(query: str, columns: Sequence[str], image: str) -> None:
    """Check a query and its columns without running it, which costs nothing.

    Args:
      query: in BigQuery's SQL.
      columns: the columns that it must have.
      image: the one of them with the images.

    Raises:
      ColumnError: it lacks one of the columns, or the images in it are bytes.
      one of ``ERRORS``: it is not a query, or there is no access to what it reads.
    """
    with contextlib.closing(bigquery.Client()) as client:
        job = client.query(query, bigquery.QueryJobConfig(dry_run=True))
        fields = {field.name: field for field in job.schema or ()}
        check_columns(columns, list(fields))
        if "BYTES" in (part.field_type for part in (fields[image], *fields[image].fields)):
            raise ColumnError(
                f"has images as bytes in {image!r}, which are read only from Parquet files: export "
                "them with EXPORT DATA, and give a glob of the files"
            )


def run_query(query: str, image: str) -> Iterator[dict[str, Any]]:
    """Run a query and fetch its rows page by page, with JSON's values.

    Args:
      query: in BigQuery's SQL.
      image: the column with the images; bytes in it stay bytes.

    Raises:
      one of ``ERRORS``: it failed.
    """
    with contextlib.closing(bigquery.Client()) as client:
        for row in client.query(query).result():
            yield {name: value if name == image else plain(value) for name, value in row.items()}


def table_schema(carried: Sequence[str]) -> list[bigquery.SchemaField]:
    """Make the schema of a table of labels: the rows' columns, then the carried ones, as text."""
    return [
        *map(_field, columns_of(Labeled)),
        *(bigquery.SchemaField(name, "STRING") for name in carried),
    ]


def _field(column: Column) -> bigquery.SchemaField:
    if column.kind not in _TYPES:
        inner = [_field(inner) for inner in columns_of(column.kind)]
        return bigquery.SchemaField(column.name, "RECORD", "REPEATED", fields=inner)
    # All nullable, since a required column cannot be added to a table.
    return bigquery.SchemaField(column.name, _TYPES[column.kind])


def check_table(table: str, carried: Sequence[str]) -> None:
    """Check that a table can take labels, or can be created. Change nothing.

    Args:
      table: as ``parse_table`` takes it.
      carried: names of the columns that are carried with the images.

    Raises:
      OutputError: the table cannot take these labels, or cannot be reached.
    """
    reference = parse_table(table)
    taken = {column.name for column in columns_of(Labeled)} | {TRAINED_ON, LABELED_BY}
    for name in carried:
        if not _COLUMN_NAME.fullmatch(name) or name.casefold() in taken:
            raise _refusal(
                table,
                f"cannot have a column {name!r}: BigQuery takes letters, digits and _, and does "
                "not tell capital letters from small ones",
                "leave it out of {carry}, or rename it in the input",
            )
        taken.add(name.casefold())
    try:
        with contextlib.closing(bigquery.Client(reference.project)) as client:
            client.get_dataset(reference.dataset_id)
            try:
                found = client.get_table(reference)
            except NotFound:
                return
    except NotFound as error:
        raise _refusal(
            table,
            f"there is no dataset {reference.dataset_id}",
            "make it first (bq mk), in the region where its data belongs",
        ) from error
    except ERRORS as error:
        raise _refusal(table, f"cannot be reached: {first_line(error)}") from error
    if found.table_type != "TABLE":
        raise _refusal(table, f"is a {found.table_type}, not a table")
    ours = {field.name: field for field in table_schema(carried)}
    for other in found.schema:
        field = ours.get(other.name)
        if field is None and other.mode == "REQUIRED":
            raise _refusal(
                table,
                f"its column {other.name} is REQUIRED, and labels do not have it",
                "give another table",
            )
        if field is not None and _described(field) != _described(other):
            raise _refusal(
                table,
                f"its column {field.name} is {_described(other)}, and labels need "
                f"{_described(field)}",
                "give another table",
            )


def _refusal(table: str, problem: str, remedy: str = "") -> OutputError:
    return OutputError(problem, subject="output_table", given=table, remedy=remedy)


def _described(field: bigquery.SchemaField) -> str:
    """Spell out the type of a column; SQL's FLOAT64 is shown as FLOAT, and so on."""
    names = {"FLOAT64": "FLOAT", "INT64": "INTEGER", "STRUCT": "RECORD"}
    words = f"{field.mode} {names.get(field.field_type, field.field_type)}"
    inner = ", ".join(f"{inner.name} {_described(inner)}" for inner in field.fields)
    return f"{words} ({inner})" if inner else words


def parse_table(given: str) -> bigquery.TableReference:
    """Parse ``PROJECT:DATASET.TABLE`` or ``PROJECT.DATASET.TABLE``.

    Raises:
      OutputError: it is neither.
    """
    # A project's name may contain both, as in example.com:project.
    project, colon, rest = given.rpartition(":")
    if not colon or rest.count(".") == 2:
        project, _, rest = given.partition(".")
    dataset, _, table = rest.partition(".")
    if not project or not dataset or not _TABLE_NAME.fullmatch(table):
        raise _refusal(given, "is not of the form project:dataset.table")
    return bigquery.DatasetReference(project, dataset).table(table)
