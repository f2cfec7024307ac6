"""The formats of rows, read back by readers that are not this package's."""

import gzip
import io
import json
from csv import DictReader
from pathlib import Path

import duckdb
import pandas
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.formats import csv, tfrecord
from pipeline.formats.files import row_writer
from pipeline.formats.registry import FORMATS
from pipeline.formats.schema import Schema
from pipeline.formats.shards import read_rows
from pipeline.models.tensorflow_import import tf
from pipeline.records import Failure, Labeled, Prediction, from_row

ROWS = [
    Labeled(
        image=f"gs://b/{n}, „ü“\n.jpg",
        label=None if n == 1 else 'a "quoted", one',
        class_id=None if n == 1 else n,
        score=0.905579 if n else 1e-06,
        predictions=(Prediction(n, 'a "quoted", one', 0.905579), Prediction(7, "=b;", 0.012566)),
        width=512,
        height=600,
        model="sample",
        model_fingerprint="sha256:0",
        run_id="r",
        labeled_at="2026-11-24T02:00:07Z",
        version="4 5.0",
        truth="dog" if n else None,
        carried={"id": f"00{n}", "price": "1.50" if n else None},
    )
    for n in range(3)
]
# Of a model that gives an image several labels: one without any, and one with several.
ROWS += [
    ROWS[0]._replace(
        image="gs://b/none.jpg", label=None, class_id=None, predictions=(), truth="[]"
    ),
    ROWS[2]._replace(image="gs://b/several.jpg", truth='["a \\"quoted\\", one", "d\u00f6g"]'),
]
CARRIED = ("id", "price")


def write(folder, records, gzipped=False, only=tuple(FORMATS), carried=CARRIED):
    paths = {f: Path(folder, f"rows{FORMATS[f].suffix(gzipped)}") for f in only}
    for format_, path in paths.items():
        schema = Schema(type(records[0]), carried)
        with path.open("wb") as file, row_writer(file, format_, gzipped, schema) as write_row:
            for record in records:
                write_row(record.to_row())
    return {format_: str(path) for format_, path in paths.items()}


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    """A file of the rows in each format."""
    return write(tmp_path_factory.mktemp("rows"), ROWS)


def as_is(row):
    """The row with its time as pandas and others tell it."""
    return row.to_row() | {"labeled_at": "2026-11-24 02:00:07+00:00"}


def by_image(rows):
    return sorted(rows, key=lambda row: row["image"])


def test_pyarrow_reads_parquet(paths):
    table = pq.read_table(paths["parquet"])
    assert table.schema.field("labeled_at").type == pa.timestamp("ms", tz="UTC")
    assert all(field.nullable for field in table.schema)
    read = [row | {"labeled_at": str(row["labeled_at"])} for row in table.to_pylist()]
    assert by_image(read) == by_image(map(as_is, ROWS))


def test_duckdb_reads_parquet(paths):
    table = duckdb.sql(
        "SELECT image, label, p.label AS also, p.score AS score "
        f"FROM (SELECT *, UNNEST(predictions) AS p FROM '{paths['parquet']}') ORDER BY ALL"
    )
    expected = [
        (row.image, row.label, prediction.label, prediction.score)
        for row in ROWS
        for prediction in row.predictions
    ]
    assert sorted(table.fetchall(), key=str) == sorted(expected, key=str)


def test_duckdb_reads_json_and_csv(paths):
    for path in (paths["jsonl"], paths["csv"]):
        images = duckdb.sql(f"SELECT image, score, version FROM '{path}'").fetchall()
        assert sorted(images) == sorted((row.image, row.score, row.version) for row in ROWS)


def test_pandas_reads_all_but_tfrecord(paths):
    texts = {"id": str, "price": str}
    tables = {
        "jsonl": pandas.read_json(paths["jsonl"], lines=True, dtype=texts, precise_float=True),
        "parquet": pandas.read_parquet(paths["parquet"]),
        "csv": pandas.read_csv(paths["csv"], dtype=texts),
    }
    for format_, table in tables.items():
        read = table.sort_values("image").to_dict("list")
        for name in ("image", "score", "width", "model_fingerprint", "version", "id"):
            assert read[name] == [row.to_row()[name] for row in ROWS], (format_, name)
        assert [str(time) for time in pandas.to_datetime(read["labeled_at"])] == [
            as_is(row)["labeled_at"] for row in ROWS
        ]
        has_label = [True, False, True, False, True]
        assert [isinstance(label, str) for label in read["label"]] == has_label
        predictions = [
            json.loads(cell) if isinstance(cell, str) else list(cell)
            for cell in read["predictions"]
        ]
        assert predictions == [row.to_row()["predictions"] for row in ROWS]


def test_tensorflow_reads_tfrecord(paths):
    spec = {
        "image/filename": tf.io.FixedLenFeature([], tf.string),
        "image/class/text": tf.io.FixedLenFeature([], tf.string, ""),
        "image/class/label": tf.io.FixedLenFeature([], tf.int64, -1),
        "image/width": tf.io.FixedLenFeature([], tf.int64),
        "score": tf.io.FixedLenFeature([], tf.float32),
        "predictions/label": tf.io.FixedLenSequenceFeature([], tf.string, allow_missing=True),
        "predictions/score": tf.io.FixedLenSequenceFeature([], tf.float32, allow_missing=True),
        "id": tf.io.FixedLenFeature([], tf.string),
    }
    read = {}
    for record in tf.data.TFRecordDataset(paths["tfrecord"]):
        example = tf.io.parse_single_example(record, spec)
        read[example["image/filename"].numpy().decode()] = example
    assert len(read) == len(ROWS)
    for row in ROWS:
        example = read[row.image]
        assert example["image/class/text"].numpy().decode() == (row.label or "")
        assert example["image/class/label"].numpy() == (
            -1 if row.class_id is None else row.class_id
        )
        assert example["image/width"].numpy() == row.width
        assert example["score"].numpy() == pytest.approx(row.score)
        assert [label.decode() for label in example["predictions/label"].numpy()] == [
            prediction.label for prediction in row.predictions
        ]
        assert example["predictions/score"].numpy() == pytest.approx(
            [prediction.score for prediction in row.predictions]
        )
        assert example["id"].numpy().decode() == row.carried["id"]


@pytest.mark.parametrize("format_", FORMATS)
def test_what_is_written_is_read_again(paths, format_):
    read = [from_row(row) for row in read_rows(paths[format_])]
    if format_ == "tfrecord":  # where what is None is absent
        read = [row._replace(carried={"price": None, **row.carried}) for row in read]
    if format_ == "csv":  # where it is an empty cell
        read = [
            row._replace(carried={name: cell or None for name, cell in row.carried.items()})
            for row in read
        ]
    assert sorted(read, key=lambda row: row.image) == sorted(ROWS, key=lambda row: row.image)


@pytest.mark.parametrize("format_", FORMATS)
def test_gzipped_failures(tmp_path, format_):
    failures = [
        Failure("a.jpg", "decode", "corrupt", "with, a comma\nand a line", "r", "4 5.0"),
        Failure("b.jpg", "read", "not_found", "", "r"),
    ]
    [path] = write(tmp_path, failures, True, [format_], ()).values()
    compresses_itself = FORMATS[format_].compresses_itself
    assert path.endswith(f".{format_}" if compresses_itself else f".{format_}.gz")
    assert sorted(map(from_row, read_rows(path))) == failures
    if format_ == "csv":
        with gzip.open(path, "rt", newline="") as file:
            assert len(list(DictReader(file))) == 2


TEXTS = st.text(st.characters(codec="utf-8"), max_size=20)


@given(TEXTS, st.none() | TEXTS.filter(bool), st.none() | TEXTS.filter(bool))
def test_any_text_goes_through_every_format(image, label, carried):
    schema = Schema(Labeled, ("own",))
    record = ROWS[0]._replace(image=image, label=label, carried={"own": carried})
    line = csv.encode(record.to_row(), schema)
    header = csv.encode({name: name for name in schema.names}, schema)
    [row] = DictReader(io.StringIO(f"{header}\n{line}\n", newline=""))
    read = from_row(csv.decode(row))
    assert read._replace(carried={"own": read.carried["own"] or None}) == record
    read = from_row(tfrecord.decode(tfrecord.encode(record.to_row(), schema)))
    assert read._replace(carried={"own": None, **read.carried}) == record


def test_what_is_carried_is_text_but_in_json(tmp_path):
    values = {"number": 7, "list": [1, {"a": None}], "text": "7", "none": None}
    row = ROWS[0]._replace(carried=values)
    paths = write(tmp_path, [row], carried=tuple(values))
    [read] = read_rows(paths.pop("jsonl"))
    assert {name: read[name] for name in values} == values
    for path in paths.values():
        [read] = read_rows(path)
        assert (read["number"], read["list"]) == ("7", '[1, {"a": null}]')
        assert (read["text"], read.get("none") or None) == ("7", None)


def test_text_that_is_no_utf8(tmp_path):
    for path in write(tmp_path, [ROWS[0]._replace(label="\ud800")]).values():
        [read] = read_rows(path)
        assert read["label"] in ("\ud800", r"\ud800")


def test_a_file_in_none_of_the_formats():
    with pytest.raises(ValueError, match="is in none of the formats jsonl, parquet"):
        list(read_rows("/absent/labels-00000-of-00001.txt"))


@pytest.mark.parametrize("format_", FORMATS)
def test_damaged_files(tmp_path, format_):
    [path] = write(tmp_path, ROWS, only=[format_]).values()
    content = Path(path).read_bytes()
    Path(path).write_bytes(content[:-40])
    with pytest.raises((ValueError, KeyError, TypeError)):
        [from_row(row) for row in read_rows(path)]
