"""Tables of BigQuery, by Google's client; its counterpart has the tables in DuckDB.

That the service would take it is not shown here: nothing but the service itself could.
"""

import dataclasses
import threading
import time
from datetime import datetime, timezone

import pytest
from google.auth.credentials import AnonymousCredentials
from google.auth.transport.requests import AuthorizedSession
from google.cloud.bigquery import SchemaField
from helpers.bigquery_server import PROJECT, bigquery_server
from helpers.models import image_file, save_model
from helpers.runs import rows, run, summary, write_colors
from PIL import Image

from pipeline.errors import InputError, OutputError, RunError
from pipeline.formats import bigquery, bigquery_load
from pipeline.formats.files import row_writer
from pipeline.formats.schema import Schema
from pipeline.inputs import find
from pipeline.inputs.queries import QUERY as QUERY_KIND
from pipeline.inputs.truth_table import identify_truth, read_truth
from pipeline.models.tensorflow_import import tf
from pipeline.records import Labeled, Prediction, Reason

TABLE = f"{PROJECT}:dataset.labels"
RUN = "2026-11-24T02-00-00Z-1"
STARTED = datetime(2026, 11, 24, 2, tzinfo=timezone.utc)
LATER = datetime(2026, 11, 24, 3, tzinfo=timezone.utc)


def by_image(some):
    return sorted(some, key=lambda row: row["image"])


@pytest.fixture
def service():
    with bigquery_server() as service:
        yield service


# The schema


def test_the_schema_is_one_for_the_client():
    schema = bigquery.table_schema(["id"])
    assert [(field.name, field.field_type, field.mode) for field in schema] == [
        ("image", "STRING", "NULLABLE"),
        ("label", "STRING", "NULLABLE"),
        ("class_id", "INTEGER", "NULLABLE"),
        ("score", "FLOAT", "NULLABLE"),
        ("predictions", "RECORD", "REPEATED"),
        ("width", "INTEGER", "NULLABLE"),
        ("height", "INTEGER", "NULLABLE"),
        ("model", "STRING", "NULLABLE"),
        ("model_fingerprint", "STRING", "NULLABLE"),
        ("run_id", "STRING", "NULLABLE"),
        ("labeled_at", "TIMESTAMP", "NULLABLE"),
        ("version", "STRING", "NULLABLE"),
        ("truth", "STRING", "NULLABLE"),
        ("id", "STRING", "NULLABLE"),
    ]
    assert [field.name for field in schema[4].fields] == ["class_id", "label", "score"]
    assert [SchemaField.from_api_repr(field.to_api_repr()) for field in schema] == schema


@pytest.mark.parametrize("given", ["p:d.t", "p.d.t"])
def test_the_name_of_a_table(given):
    assert str(bigquery.parse_table(given)) == "p.d.t"


@pytest.mark.parametrize("given", ["t", "d.t", "p:d"])
def test_what_is_no_name_of_a_table(given):
    with pytest.raises(OutputError, match=r"is not of the form project:dataset.table"):
        bigquery.parse_table(given)


# As an output


def test_a_run_puts_its_labels_into_a_table(tmp_path, color_model, service, capsys):
    flags = {"input": write_colors(tmp_path / "p"), "model": color_model, "output_table": TABLE}
    assert run(**flags, output=tmp_path / "out") == 0
    assert f"\n{TABLE}\n" in capsys.readouterr().out
    load, merge = service.jobs
    assert load["load"]["sourceFormat"] == "NEWLINE_DELIMITED_JSON"
    assert load["load"]["destinationTable"]["tableId"].startswith("loading-")
    assert merge["query"]["query"].startswith(f"MERGE INTO `{PROJECT}.dataset.labels` AS")
    [(name, created)] = service.tables.items()  # what was loaded into is gone
    assert name == "labels"
    assert created["timePartitioning"] == {"type": "DAY", "field": "labeled_at"}
    assert created["clustering"] == {"fields": ["label"]}
    assert service.rows("labels") == by_image(rows(tmp_path / "out", "labels"))


def test_an_image_has_any_number_of_labels(tmp_path, service):
    model = save_model(
        tmp_path / "model", lambda x: tf.sigmoid(10.0 * (tf.reduce_mean(x, [1, 2]) - 0.5))
    )
    write_colors(tmp_path / "p", 1)
    Image.new("RGB", (9, 9)).save(tmp_path / "p" / "black.png")
    Image.new("RGB", (9, 9), (255, 255, 255)).save(tmp_path / "p" / "white.png")
    flags = {"input": tmp_path / "p", "model": model, "output_table": TABLE}
    assert run(**flags, output=tmp_path / "out") == 0
    loaded = service.rows("labels")
    assert sorted(len(row["predictions"]) for row in loaded) == [0, 1, 3]
    assert loaded == by_image(rows(tmp_path / "out", "labels"))


def test_the_same_run_again_replaces_its_rows_and_no_others(tmp_path, color_model, service):
    flags = {"input": write_colors(tmp_path / "p"), "model": color_model, "output_table": TABLE}
    assert run(**flags, output=tmp_path / "other") == 0
    assert run(**flags, output=tmp_path / "out") == 0
    assert run(**flags, output=tmp_path / "out") == 0
    loaded = service.rows("labels")
    assert len(loaded) == 6
    ids = {summary(tmp_path / name)["run_id"] for name in ("other", "out")}
    assert {row["run_id"] for row in loaded} == ids
    assert run(**flags, output=tmp_path / "out", if_exists="overwrite") == 0
    loaded = service.rows("labels")
    assert {row["run_id"] for row in loaded} == {
        summary(tmp_path / name)["run_id"] for name in ("other", "out")
    }
    assert len(loaded) == 6


def test_a_night_whose_rows_the_table_refused(tmp_path, color_model, service, capsys):
    flags = {"input": write_colors(tmp_path / "p"), "model": color_model, "output_table": TABLE}
    flags["output"] = tmp_path / "out"
    service.refusals = ["no quota"]
    assert run("--incremental", **flags) == 1
    assert f"the rows cannot be put into {TABLE}: 400" in capsys.readouterr().err
    assert run("--incremental", **flags) == 0
    assert "3 of them by earlier attempts" in capsys.readouterr().out
    assert len(service.rows("labels")) == 3
    assert run("--incremental", **flags) == 0  # nothing is new
    assert len(service.rows("labels")) == 3


def test_what_is_carried_is_text_in_a_table(tmp_path, color_model, service):
    write_colors(tmp_path / "p", 2)
    (tmp_path / "list.jsonl").write_text(
        '{"image": "p/red-0.png", "id": 7}\n{"image": "p/green-1.png", "id": null}\n'
    )
    flags = {"input": tmp_path / "list.jsonl", "model": color_model, "output_table": TABLE}
    assert run(**flags, output=tmp_path / "out", carry="id", output_format="csv") == 0
    assert {row["label"]: row["id"] or None for row in service.rows("labels")} == {
        "red": "7",
        "green": None,
    }


def labeled(n, run_id=RUN, **carried):
    predictions = (Prediction(1, 'a "b",\nc', 0.75), Prediction(0, "ä", 0.25))
    label = None if n == 1 else predictions[0].label
    return Labeled(
        f"gs://b/{n}.jpg",
        label,
        None if n == 1 else 1,
        0.75,
        predictions,
        640,
        480,
        "model",
        "sha256:0",
        run_id,
        "2026-11-24T02:00:00Z",
        carried=carried,
    )


def put(service, folder, some, format_="parquet", gzipped=False, shards=2):
    """Put rows into the files of a run in a bucket; return their URIs and the rows."""
    suffix = f".{format_}" + (".gz" if gzipped else "")
    columns = tuple(some[0].carried)
    uris = []
    for n in range(shards):
        path = folder / f"labels-{n:05}-of-{shards:05}{suffix}"
        with (
            path.open("wb") as file,
            row_writer(file, format_, gzipped, Schema(Labeled, columns)) as write,
        ):
            for row in some[n::shards]:
                write(row.to_row())
        uris.append(f"gs://b/{path.name}")
        service.objects[uris[-1]] = path.read_bytes()
    return uris


def load(uris, rows=3, carried=(), run_ids=(RUN,), started=STARTED):
    bigquery_load.load(TABLE, uris, carried, run_ids, started, rows)


CARRIED = [{"sku": 7, "tags": "null"}, {"sku": None, "tags": ["a"]}, {"sku": True, "tags": 0.5}]


@pytest.mark.parametrize(
    ("format_", "gzipped"),
    [("jsonl", False), ("jsonl", True), ("parquet", False), ("csv", False), ("csv", True)],
)
def test_rows_in_a_bucket_are_read_by_the_service(service, tmp_path, format_, gzipped):
    some = [labeled(n, **CARRIED[n]) for n in range(3)]
    uris = put(service, tmp_path, some, format_, gzipped)
    load([*uris, "gs://b/labels-00000-of-00001.tfrecord"], carried=["sku", "tags"])
    assert service.jobs[0]["load"]["sourceUris"] == uris
    texts = [("7", "null"), ("" if format_ == "csv" else None, '["a"]'), ("true", "0.5")]
    assert service.rows("labels") == [
        row.to_row() | dict(zip(("sku", "tags"), text, strict=True))
        for row, text in zip(some, texts, strict=True)
    ]


def test_more_files_than_a_load_takes(service, tmp_path, monkeypatch):
    monkeypatch.setattr(bigquery_load, "MOST_FILES", 2)
    load(put(service, tmp_path, [labeled(n) for n in range(3)], shards=3))
    assert [len(job["load"]["sourceUris"]) for job in service.jobs[:-1]] == [2, 1]
    assert len(service.rows("labels")) == 3


class Killed(BaseException):
    """Ends a client."""


def test_a_run_that_is_killed_between_any_two_requests(tmp_path, monkeypatch):
    """Whatever was done before, and whether the job that was started ends before or after."""
    request = AuthorizedSession.request
    left = float("inf")

    def counting(*args, **kwargs):
        nonlocal left
        left -= 1
        if left < 0:
            raise Killed
        answer = request(*args, **kwargs)
        if left == 0:
            raise Killed
        return answer

    monkeypatch.setattr(AuthorizedSession, "request", counting)
    for killed_after in range(1, 100):
        with bigquery_server() as service:
            service.add_table("labels", [])
            uris = put(service, tmp_path, [labeled(n) for n in range(3)])
            left = killed_after
            try:
                load(uris)
            except Killed:
                done = False
            else:
                done = True
            left = float("inf")
            load(uris)  # the step is tried again
            assert len(service.rows("labels")) == 3
            load(uris)  # and once more
            load(put(service, tmp_path, [labeled(n) for n in range(2)]), rows=2, started=LATER)
            assert service.seen == [{RUN: 3}, {RUN: 2}]  # at no time none or more
            assert list(service.tables) == ["labels"]
        if done:
            break
    assert 10 < killed_after < 99


def test_overlapping_processes_load_once(service, tmp_path):
    service.seconds = 0.5
    uris = put(service, tmp_path, [labeled(n) for n in range(3)])
    errors = []

    def one(started, delay):
        time.sleep(delay)
        try:
            load(uris, started=started)
        except RunError as error:
            errors.append(error)

    delays = [(STARTED, 0), (STARTED, 0), (STARTED, 0.7), (LATER, 0.2), (STARTED, 1.2)]
    threads = [threading.Thread(target=one, args=args) for args in delays]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert service.seen == [{RUN: 3}, {RUN: 3}]  # one for each attempt
    assert list(service.tables) == ["labels"]


def test_a_run_that_replaces_one_whose_job_is_still_running(service, tmp_path, monkeypatch):
    other = "2026-11-24T03-00-00Z-2"
    uris = put(service, tmp_path, [labeled(n) for n in range(3)])
    wait = bigquery_load._ended_well

    def killed_at_the_end(job, must=False):
        if job.job_type == "query":
            raise Killed
        return wait(job, must)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        service.seconds = 0.8
        patch.setattr(bigquery_load, "_ended_well", killed_at_the_end)
        load(uris)
    service.seconds = 0.0
    load(put(service, tmp_path, [labeled(n, other) for n in range(3)]), run_ids=[other, RUN])
    assert service.seen == [{RUN: 3}, {other: 3}]


def test_a_load_that_fails(service, tmp_path):
    uris = put(service, tmp_path, [labeled(n) for n in range(3)])
    content = service.objects.pop(uris[1])
    with pytest.raises(RunError, match=r"labels-00001-of-00002.* run the same command again"):
        load(uris)
    assert service.rows("labels") == []
    service.objects[uris[1]] = content
    load(uris)
    assert len(service.rows("labels")) == 3
    for service.refusals, service.problems in (["Access Denied"], []), ([], ["Access Denied"]):
        with pytest.raises(RunError, match=r"Access Denied.* run the same command again"):
            load(uris, started=LATER)
        assert len(service.rows("labels")) == 3
    load(uris, started=LATER)
    assert service.seen == [{RUN: 3}, {RUN: 3}]


def test_what_was_loaded_has_expired_before_it_was_merged(service, tmp_path):
    uris = put(service, tmp_path, [labeled(n) for n in range(3)])
    with pytest.raises(RunError, match="3 rows were loaded instead of 4"):
        load(uris, rows=4)
    [own] = [table for name, table in service.tables.items() if name != "labels"]
    assert 0.9 < int(own["expirationTime"]) / 1000 / 86400 - time.time() / 86400 < 1.1
    own["expirationTime"] = "1"
    load(uris)
    assert len(service.rows("labels")) == 3


def test_a_table_that_is_there_keeps_its_partitions_and_columns(service, tmp_path):
    fields = [field.to_api_repr() for field in bigquery.table_schema(["mine"])]
    service.add_table("labels", [fields[-1], *fields[:3]])
    load(put(service, tmp_path, [labeled(n, sku="A") for n in range(3)]), carried=["sku"])
    assert "timePartitioning" not in service.tables["labels"]
    names = [field["name"] for field in service.tables["labels"]["schema"]["fields"]]
    assert names[:4] == ["mine", "image", "label", "class_id"]
    assert [(row["mine"], row["sku"]) for row in service.rows("labels")] == [(None, "A")] * 3


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (f"{PROJECT}:absent.labels", "there is no dataset absent; make it first"),
        (f"{PROJECT}:dataset.strange", "its column score is NULLABLE STRING, and labels need"),
        ("labels", "is not of the form project:dataset.table"),
    ],
)
def test_a_table_that_cannot_be_used(tmp_path, color_model, service, capsys, given, message):
    field = {"name": "score", "type": "STRING", "mode": "NULLABLE"}
    service.add_table("strange", [field])
    flags = {"input": write_colors(tmp_path / "p"), "model": color_model, "output_table": given}
    assert run(**flags, output=tmp_path / "out") == 2
    assert f"error: --output_table {given}: {message}" in capsys.readouterr().err
    assert service.jobs == []


def test_no_credentials(monkeypatch):
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/absent.json")
    with pytest.raises(OutputError, match=r"cannot be reached: File /absent\.json was not found"):
        bigquery.check_table(TABLE, [])


# As an input

QUERY = "SELECT uri, id FROM dataset.images"
STRING, INTEGER = ({"type": type_, "mode": "NULLABLE"} for type_ in ("STRING", "INTEGER"))


def test_a_query(tmp_path, color_model, service):
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    for path, color in zip(paths, ("red", "blue"), strict=True):
        path.write_bytes(image_file(color))
    fields = [{"name": "uri", **STRING}, {"name": "id", **INTEGER}]
    service.answers[QUERY] = fields, [[str(paths[0]), "7"], [str(paths[1]), None]]
    flags = {"input": f"bigquery:{QUERY}", "uri_column": "uri", "carry": "id"}
    assert run(**flags, model=color_model, output=tmp_path / "out") == 0
    labeled = {row["image"]: (row["label"], row["id"]) for row in rows(tmp_path / "out", "labels")}
    assert labeled == {str(paths[0]): ("red", 7), str(paths[1]): ("blue", None)}
    assert [job.get("dryRun", False) for job in service.jobs] == [True, False]


def test_a_query_without_the_column(service):
    service.answers[QUERY] = [{"name": "uri", **STRING}], []
    with pytest.raises(InputError, match="has no column 'image'; its columns are uri"):
        find.require_images(find.identify(f"bigquery:{QUERY}"))
    found = find.identify(f"bigquery:{QUERY}", "uri")
    find.require_images(found)
    assert found.kind is QUERY_KIND
    assert list(find.list_images(found)) == []
    service.answers[QUERY] = [{"name": "uri", **STRING}], [[None]]
    (ref,) = find.list_images(found)
    assert ref.uri == f"bigquery:{QUERY}#row=1"
    assert ref.problem == (Reason.NO_URI, "'uri' is empty")
    service.answers[QUERY] = [{"name": "uri", "type": "BYTES", "mode": "NULLABLE"}], []
    with pytest.raises(InputError, match=r"has images as bytes in 'uri', .* EXPORT DATA"):
        find.require_images(found)
    service.refusals = ["Syntax error"]
    with pytest.raises(InputError, match="Syntax error"):
        list(find.list_images(dataclasses.replace(found, uri="SELEC")))


def test_the_truth_of_a_query(service):
    fields = [{"name": "uri", **STRING}, {"name": "id", **INTEGER}]
    service.answers[QUERY] = fields, [["gs://b/1.jpg", "7"], ["gs://b/2.jpg", None]]
    truth = identify_truth(f"bigquery:{QUERY}", "uri", "id")
    assert [(row.name, row.truth) for row in read_truth(truth)] == [
        ("gs://b/1.jpg", "7"),
        ("gs://b/2.jpg", None),
    ]
    with pytest.raises(InputError, match=r"^truth bigquery:.*: has no column 'label'; its columns"):
        identify_truth(f"bigquery:{QUERY}", "uri", "label")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"type": "VIEW"}, "is a VIEW, not a table"),
        (
            {"schema": {"fields": [{"name": "x", "type": "STRING", "mode": "REQUIRED"}]}},
            "its column x is REQUIRED, and labels do not have it; give another table",
        ),
        (
            {"schema": {"fields": [{"name": "predictions", "type": "RECORD", "mode": "REPEATED"}]}},
            r"predictions is REPEATED RECORD, and labels need REPEATED RECORD \(class_id NULLABLE",
        ),
    ],
)
def test_tables_that_labels_do_not_fit_into(service, changes, message):
    service.add_table("labels", [])
    service.tables["labels"] |= changes
    with pytest.raises(OutputError, match=message):
        bigquery.check_table(TABLE, [])


@pytest.mark.parametrize("name", ["IMAGE", "a.b", "über x", "1st"])
def test_columns_that_bigquery_has_not(service, name):
    with pytest.raises(OutputError, match="cannot have a column"):
        bigquery.check_table(TABLE, [name])
    with pytest.raises(OutputError, match="cannot have a column"):
        bigquery.check_table(TABLE, ["id", "ID"])
    bigquery.check_table(TABLE, ["id", "sku_2"])


def test_names_of_old_projects_and_of_no_tables():
    assert bigquery.parse_table("example.com:p:d.t").project == "example.com:p"
    for given in ("p:d.t$20260101", "p:d.my`t"):
        with pytest.raises(OutputError, match="is not of the form"):
            bigquery.parse_table(given)


def test_credentials_that_do_not_tell_the_project(service, monkeypatch):
    monkeypatch.setattr("google.auth.default", lambda **_: (AnonymousCredentials(), None))
    with pytest.raises(InputError, match="Project was not passed"):
        find.require_images(find.identify(f"bigquery:{QUERY}"))
