"""Tables of BigQuery, by Google's client; what it says to the service is recorded.

That the service would take it is not shown here: nothing but the service itself could.
"""

import dataclasses

import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud.bigquery import SchemaField
from helpers.bigquery_server import PROJECT, bigquery_server, table
from helpers.models import image_file, save_model
from helpers.runs import rows, run, summary, write_colors
from PIL import Image

from pipeline.errors import InputError, OutputError, RunError
from pipeline.formats import bigquery
from pipeline.inputs import find
from pipeline.inputs.queries import QUERY as QUERY_KIND
from pipeline.inputs.truth_table import identify_truth, read_truth
from pipeline.models.tensorflow_import import tf
from pipeline.records import Reason

TABLE = f"{PROJECT}:dataset.labels"


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
    [configuration] = service.jobs  # there was no table to delete from
    load = configuration["load"]
    assert load["sourceFormat"] == "NEWLINE_DELIMITED_JSON"
    assert load["writeDisposition"] == "WRITE_APPEND"
    assert load["timePartitioning"] == {"type": "DAY", "field": "labeled_at"}
    assert load["clustering"] == {"fields": ["label"]}
    assert load["destinationTable"] == {
        "projectId": PROJECT,
        "datasetId": "dataset",
        "tableId": "labels",
    }
    assert service.loaded["labels"] == rows(tmp_path / "out", "labels")


def test_an_image_has_any_number_of_labels(tmp_path, service):
    model = save_model(
        tmp_path / "model", lambda x: tf.sigmoid(10.0 * (tf.reduce_mean(x, [1, 2]) - 0.5))
    )
    write_colors(tmp_path / "p", 1)
    Image.new("RGB", (9, 9)).save(tmp_path / "p" / "black.png")
    Image.new("RGB", (9, 9), (255, 255, 255)).save(tmp_path / "p" / "white.png")
    flags = {"input": tmp_path / "p", "model": model, "output_table": TABLE}
    assert run(**flags, output=tmp_path / "out") == 0
    loaded = service.loaded["labels"]
    assert sorted(len(row["predictions"]) for row in loaded) == [0, 1, 3]
    assert loaded == rows(tmp_path / "out", "labels")


def test_the_same_run_again_replaces_its_rows_and_no_others(tmp_path, color_model, service):
    flags = {"input": write_colors(tmp_path / "p"), "model": color_model, "output_table": TABLE}
    assert run(**flags, output=tmp_path / "other") == 0
    assert run(**flags, output=tmp_path / "out") == 0
    assert run(**flags, output=tmp_path / "out") == 0
    loaded = service.loaded["labels"]
    assert len(loaded) == 6
    ids = {summary(tmp_path / name)["run_id"] for name in ("other", "out")}
    assert {row["run_id"] for row in loaded} == ids
    delete = service.jobs[-2]["query"]
    assert delete["query"] == (
        f"DELETE FROM `{PROJECT}.dataset.labels` "
        "WHERE labeled_at >= @since AND run_id IN UNNEST(@run_ids)"
    )
    since = delete["queryParameters"][1]["parameterValue"]["value"]
    assert since.startswith(summary(tmp_path / "out")["run_id"][:10])
    assert run(**flags, output=tmp_path / "out", if_exists="overwrite") == 0
    loaded = service.loaded["labels"]
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
    assert len(service.loaded["labels"]) == 3
    assert run("--incremental", **flags) == 0  # nothing is new
    assert len(service.loaded["labels"]) == 3


def test_what_is_carried_is_text_in_a_table(tmp_path, color_model, service):
    write_colors(tmp_path / "p", 2)
    (tmp_path / "list.jsonl").write_text(
        '{"image": "p/red-0.png", "id": 7}\n{"image": "p/green-1.png", "id": null}\n'
    )
    flags = {"input": tmp_path / "list.jsonl", "model": color_model, "output_table": TABLE}
    assert run(**flags, output=tmp_path / "out", carry="id", output_format="csv") == 0
    assert {row["label"]: row["id"] or None for row in service.loaded["labels"]} == {
        "red": "7",
        "green": None,
    }


def test_parquet_in_a_bucket_is_read_by_the_service(service):
    paths = ["gs://b/labels-00000-of-00001.parquet", "gs://b/labels-00000-of-00001.jsonl"]
    bigquery.load(TABLE, paths, [], ["2026-11-24T02-00-00Z-1"])
    [configuration] = service.jobs
    load = configuration["load"]
    assert load["sourceUris"] == paths[:1]
    assert load["sourceFormat"] == "PARQUET"
    assert load["parquetOptions"] == {"enableListInference": True}


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
    service.tables["strange"] = table("strange", [field])
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


def test_a_load_that_fails(service):
    service.refusals = ["Access Denied"]
    with pytest.raises(RunError, match=r"Access Denied.* run the same command again"):
        bigquery.load(TABLE, [], [], ["2026-11-24T02-00-00Z-1"])


def test_a_table_that_is_there_keeps_its_partitions(service):
    service.tables["labels"] = table("labels", [])
    service.loaded["labels"] = []
    bigquery.load(TABLE, ["gs://b/labels-00000-of-00001.parquet"], [], ["2026-11-24T02-00-00Z-1"])
    load = service.jobs[-1]["load"]
    assert "timePartitioning" not in load
    assert "clustering" not in load


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
    service.tables["labels"] = table("labels", []) | changes
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
