"""Loads a run's labels into a BigQuery table so that each row is there once, whatever is repeated.

    shards ──load jobs──► a table of this attempt's own ──one MERGE──► the table

The table has the run's rows of before until that one statement, and those of this attempt after it.
A job's id says what the job does. The service refuses an id that it knows, so what has been done is
not done again, and of several processes that do the same, one does it and the others wait for it.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

from google.api_core.exceptions import (
    Conflict,
    GoogleAPICallError,
    NotFound,
    PreconditionFailed,
    ServiceUnavailable,
)
from google.api_core.retry import Retry, if_exception_type
from google.cloud import bigquery
from google.cloud.bigquery import LoadJobConfig, SourceFormat

from pipeline.errors import RunError
from pipeline.formats.bigquery import ERRORS, first_line, parse_table, table_schema
from pipeline.formats.registry import FORMATS, in_one_format
from pipeline.formats.schema import as_text
from pipeline.formats.shards import read_rows
from pipeline.records import Labeled, columns_of

# Formats that the service reads in a bucket, the first that there is. It knows no tf.Examples.
_SOURCES = {
    "parquet": SourceFormat.PARQUET,
    "jsonl": SourceFormat.NEWLINE_DELIMITED_JSON,
    "csv": SourceFormat.CSV,
}

# URIs of a load job; see https://cloud.google.com/bigquery/quotas#load_jobs. The other limits there
# are far: 15 TB a job, 4 GB a gzipped file, 1500 jobs a day for a table.
MOST_FILES = 10_000

# What is left of a table of an attempt's own goes by itself. No load takes as long.
_EXPIRES_AFTER = timedelta(days=1)

# After the refusal of a known id, the service may not find the job for a moment; the client knows
# that too, see https://github.com/googleapis/python-bigquery/issues/2134.
_UNTIL_FOUND = Retry(if_exception_type(NotFound, ServiceUnavailable), timeout=60)

_Job = bigquery.LoadJob | bigquery.QueryJob


def load(
    table: str,
    shards: Sequence[str],
    carried: Sequence[str],
    run_ids: Sequence[str],
    started: datetime,
    rows: int,
) -> None:
    """Put a run's labels into a table, in place of those of the same run.

    A table that does not exist is created, with one partition per day of ``labeled_at``, clustered
    by ``label``. The service itself reads JSON lines, Parquet and CSV in a Google Cloud Storage
    bucket; other files are sent to it.

    Args:
      table: as ``parse_table`` takes it.
      shards: paths of the rows' files, in all formats that were written.
      carried: names of the columns that are carried with the images.
      run_ids: of the run, and of those whose rows go with it.
      started: start of this attempt, UTC; another attempt of the run has another one.
      rows: their number in one of the formats.

    Raises:
      RunError: that failed. The table still has what it had.
    """
    target = parse_table(table)
    try:
        with _client(target) as client:
            _prepare(client, target, carried)
            for run_id in run_ids[1:]:
                _wait_for_all(client, _replacement(target, run_id))
            attempt = _hash(f"{target} {started.isoformat()}")
            own = bigquery.TableReference(
                bigquery.DatasetReference(target.project, target.dataset_id),
                f"loading-{run_ids[0]}-{attempt}",
            )
            source = _in_bucket(shards)
            statement = _statement(target, own, source, carried)

            def replace(job_id: str) -> bigquery.QueryJob:
                _fill(client, own, source, shards, carried, rows)
                config = bigquery.QueryJobConfig(query_parameters=_parameters(run_ids, started))
                return client.query(statement, config, job_id=job_id, job_retry=None)

            _run_once(
                client,
                _replacement(target, run_ids[0]),
                replace,
                is_wanted=lambda job: job.query == statement,
            )
            with contextlib.suppress(*ERRORS):  # then it expires
                client.delete_table(own, not_found_ok=True)
    except ERRORS as error:
        raise RunError(
            f"the rows cannot be put into {table}: {first_line(error)}; run the same command "
            "again to retry only that"
        ) from error


@contextlib.contextmanager
def _client(table: bigquery.TableReference) -> Iterator[bigquery.Client]:
    """Make a client that finds jobs again: outside of US and EU, only with their location."""
    dataset = bigquery.DatasetReference(table.project, table.dataset_id)
    with contextlib.closing(bigquery.Client(table.project)) as client:
        location = client.get_dataset(dataset).location
    with contextlib.closing(bigquery.Client(table.project, location=location)) as client:
        yield client


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _replacement(target: bigquery.TableReference, run_id: str) -> str:
    """Name the jobs that replace a run's rows, whichever attempt's: only one may run at a time."""
    return f"label-{run_id}-{_hash(str(target))}"


def _prepare(
    client: bigquery.Client, target: bigquery.TableReference, carried: Sequence[str]
) -> None:
    """Create the table, or add the columns that it lacks; ``check_table`` has seen the others."""
    schema = table_schema(carried)
    try:
        found = client.get_table(target)
    except NotFound:
        new = bigquery.Table(target, schema)
        new.time_partitioning = bigquery.TimePartitioning(field="labeled_at")
        new.clustering_fields = ["label"]
        found = client.create_table(new, exists_ok=True)
    while True:
        names = {field.name.casefold() for field in found.schema}
        missing = [field for field in schema if field.name.casefold() not in names]
        if not missing:
            return
        found.schema = [*found.schema, *missing]
        try:
            found = client.update_table(found, ["schema"])
        except PreconditionFailed:  # another process has changed it since
            found = client.get_table(target)


def _in_bucket(shards: Sequence[str]) -> tuple[str, list[str]] | None:
    """Choose a format that the service can read where the shards are; None if there is none."""
    for name in _SOURCES:
        for suffix in FORMATS[name].suffixes:
            paths = [path for path in shards if path.endswith(suffix)]
            if paths and all(path.startswith("gs://") for path in paths):
                return name, sorted(paths)
    return None


def _own_schema(format_: str, carried: Sequence[str]) -> list[bigquery.SchemaField]:
    """Make the schema of an attempt's own table, which has what the files have.

    JSON lines have the carried values as they are, and CSV has the predictions as JSON in a cell.
    See https://cloud.google.com/bigquery/docs/json-data for how such columns are loaded.
    """
    as_json = {"jsonl": carried, "csv": ["predictions"]}.get(format_, [])
    return [
        bigquery.SchemaField(field.name, "JSON") if field.name in as_json else field
        for field in table_schema(carried)
    ]


def _statement(
    target: bigquery.TableReference,
    own: bigquery.TableReference,
    source: tuple[str, list[str]] | None,
    carried: Sequence[str],
) -> str:
    """Write the statement that replaces the rows: as a whole, since it is one of DML.

    https://cloud.google.com/bigquery/docs/reference/standard-sql/dml-syntax#merge_statement
    recommends ``ON FALSE`` for that.
    """
    format_ = "" if source is None else source[0]
    nullable = {column.name for column in columns_of(Labeled) if column.nullable}
    names, values = [], []
    for field in _own_schema(format_, carried):
        name = f"`{field.name}`"
        value = name
        if field.field_type == "JSON" and field.name in carried:
            value = (  # text as it is, anything else as JSON, as ``as_text`` does
                f"CASE JSON_TYPE({name}) WHEN 'string' THEN STRING({name}) "
                f"ELSE NULLIF(TO_JSON_STRING({name}), 'null') END"
            )
        elif field.field_type == "JSON":
            value = (
                "ARRAY(SELECT AS STRUCT INT64(one.class_id) AS class_id, STRING(one.label) AS "
                f"label, FLOAT64(one.score) AS score FROM UNNEST(JSON_QUERY_ARRAY({name})) AS one)"
            )
        elif format_ == "csv" and field.name in nullable and field.field_type == "STRING":
            value = f"NULLIF({name}, '')"
        names.append(name)
        values.append(value if value == name else f"{value} AS {name}")
    columns = ", ".join(names)
    return (
        f"MERGE INTO `{target}` AS labels\n"
        f"USING (SELECT {', '.join(values)} FROM `{own}`) AS loaded\n"
        "ON FALSE\n"
        "WHEN NOT MATCHED BY SOURCE AND labels.labeled_at >= @since "
        "AND labels.run_id IN UNNEST(@run_ids) THEN DELETE\n"
        f"WHEN NOT MATCHED THEN INSERT ({columns}) VALUES ({columns})"
    )


def _parameters(run_ids: Sequence[str], started: datetime) -> list[Any]:
    # Only partitions from the day before the runs began are scanned. Run ids begin with that day,
    # except if the clock went back.
    first = min(f"{started:%Y-%m-%d}", *(run_id[:10] for run_id in run_ids))
    since = datetime.strptime(first, "%Y-%m-%d").replace(tzinfo=timezone.utc) - timedelta(days=1)
    return [
        bigquery.ArrayQueryParameter("run_ids", "STRING", sorted(run_ids)),
        bigquery.ScalarQueryParameter("since", "TIMESTAMP", since),
    ]


def _fill(
    client: bigquery.Client,
    own: bigquery.TableReference,
    source: tuple[str, list[str]] | None,
    shards: Sequence[str],
    carried: Sequence[str],
    rows: int,
) -> None:
    """Load the rows into a table of their own, or what is missing of them.

    Raises:
      RunError: they were not so many.
    """
    schema = _own_schema("" if source is None else source[0], carried)
    table = bigquery.Table(own, schema)
    table.expires = datetime.now(timezone.utc) + _EXPIRES_AFTER
    table = client.create_table(table, exists_ok=True)
    # If the table is gone and made anew, what was loaded into it is gone as well.
    name = f"{own.table_id}-{table.created:%Y%m%dT%H%M%S%f}"

    def send(job_id: str) -> bigquery.LoadJob:
        return _send(client, own, shards, carried, job_id)

    def load_part(job_id: str) -> bigquery.LoadJob:
        return client.load_table_from_uri(part, own, job_id=job_id, job_config=config)

    loaded = 0
    if rows and source is None:
        loaded = _run_once(client, name, send).output_rows
    elif rows and source is not None:
        config = _load_config(source[0], schema)
        for at in range(0, len(source[1]), MOST_FILES):
            part = source[1][at : at + MOST_FILES]
            loaded += _run_once(client, f"{name}-{at}", load_part).output_rows
    if loaded != rows:
        raise RunError(f"{own}: {loaded:,} rows were loaded instead of {rows:,}")


def _load_config(format_: str, schema: Sequence[bigquery.SchemaField]) -> LoadJobConfig:
    config = LoadJobConfig(
        schema=schema,
        source_format=_SOURCES[format_],
        create_disposition=bigquery.CreateDisposition.CREATE_NEVER,
        write_disposition=bigquery.WriteDisposition.WRITE_APPEND,
    )
    if format_ == "parquet":
        config.parquet_options = bigquery.ParquetOptions()
        config.parquet_options.enable_list_inference = True
    if format_ == "csv":
        config.skip_leading_rows = 1
        config.allow_quoted_newlines = True
    return config


def _send(
    client: bigquery.Client,
    own: bigquery.TableReference,
    shards: Sequence[str],
    carried: Sequence[str],
    job_id: str,
) -> bigquery.LoadJob:
    """Send the rows of files that the service cannot read, by way of this machine's disk."""
    with tempfile.TemporaryFile() as file:
        for path in in_one_format(shards):
            for row in read_rows(path):
                texts = {name: as_text(row.get(name)) for name in carried}
                file.write(json.dumps(row | texts).encode() + b"\n")
        config = _load_config("jsonl", table_schema(carried))
        return client.load_table_from_file(file, own, rewind=True, job_id=job_id, job_config=config)


def _run_once(
    client: bigquery.Client,
    name: str,
    start: Callable[[str], _Job],
    is_wanted: Callable[[Any], bool] = lambda job: True,
) -> Any:
    """Run a job if it has not been run, and wait for its end.

    The jobs of a name are numbered. The next one is started only when the one before has ended: if
    that failed, which changes nothing, or if it was not the one that is wanted.

    Args:
      client: of the project.
      name: of the jobs, for their ids.
      start: starts the job with the id that it gets.
      is_wanted: tells whether a job that ended well is the one.

    Raises:
      one of ``ERRORS``: it failed.
    """
    for number in itertools.count():
        job_id = f"{name}-{number}"
        job = _find(client, job_id)
        is_new = job is None
        if job is None:
            try:
                job = start(job_id)
            except Conflict:
                is_new, job = False, client.get_job(job_id, retry=_UNTIL_FOUND)
            except GoogleAPICallError:
                # Another process may have done it all, and have tidied up what this one needs.
                is_new, job = False, _find(client, job_id)
                if job is None:
                    raise
        if _ended_well(job, must=is_new) and is_wanted(job):
            return job


def _find(client: bigquery.Client, job_id: str) -> Any:
    try:
        return client.get_job(job_id)
    except NotFound:
        return None


def _ended_well(job: Any, must: bool = False) -> bool:
    """Wait for the end of a job; raise the error of one that ``must`` end well."""
    try:
        job.result()
    except GoogleAPICallError:
        job.reload()
        if must or job.error_result is None:  # else it may still be running
            raise
        return False
    return True


def _wait_for_all(client: bigquery.Client, name: str) -> None:
    """Wait for the jobs of a name, if one of them is still running."""
    for number in itertools.count():
        job = _find(client, f"{name}-{number}")
        if job is None:
            return
        _ended_well(job)
