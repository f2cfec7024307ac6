import gzip
from datetime import datetime
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.http_server import HttpServer

from pipeline.formats.schema import plain
from pipeline.formats.tables import is_table, read_table


@pytest.mark.parametrize(
    "name", ["a.csv", "a.JSONL", "b/a.parquet", "gs://b/a.csv.gz", "a.jsonl.gz"]
)
def test_tables(name):
    assert is_table(name)
    assert is_table(f"https://host/{name}?token=1#top") or "://" in name


@pytest.mark.parametrize("name", ["a.txt", "csv", "a.csv.zip", "a.parquet.gz", "a.csv?", "a.csv/b"])
def test_what_is_none(name):
    assert not is_table(name)


CSV = '\ufeffimage,id,note\na.jpg,007,"two\nlines, and a comma"\nb.jpg,8,\n'


@pytest.mark.parametrize("gzipped", [False, True])
def test_csv(tmp_path, gzipped):
    path = tmp_path / ("t.csv.gz" if gzipped else "t.csv")
    path.write_bytes(gzip.compress(CSV.encode()) if gzipped else CSV.encode())
    assert list(read_table(str(path))) == [
        {"image": "a.jpg", "id": "007", "note": "two\nlines, and a comma"},
        {"image": "b.jpg", "id": "8", "note": ""},
    ]
    assert list(read_table(str(path), ["id"])) == [{"id": "007"}, {"id": "8"}]


def test_a_gzipped_file_that_ends_too_early(tmp_path):
    path = tmp_path / "t.csv.gz"
    path.write_bytes(gzip.compress(CSV.encode())[:-12])
    with pytest.raises(EOFError):
        list(read_table(str(path)))


def test_a_huge_cell(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(f"image,note\na.jpg,{'x' * 300_000}\n")
    assert list(read_table(str(path), ["image"])) == [{"image": "a.jpg"}]


def test_over_http():
    with HttpServer({"/t.csv": CSV.encode(), "/t.csv.gz": gzip.compress(CSV.encode())}) as server:
        for name in ("/t.csv", "/t.csv.gz"):
            assert len(list(read_table(server.url(name)))) == 2


def test_json_lines(tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_text('{"image": "a.jpg", "n": [1, 2.5]}\n\n{"image": "b.jpg"}\n')
    assert list(read_table(str(path))) == [{"image": "a.jpg", "n": [1, 2.5]}, {"image": "b.jpg"}]
    assert list(read_table(str(path), ["n"])) == [{"n": [1, 2.5]}, {"n": None}]


def test_parquet(tmp_path):
    path = tmp_path / "t.parquet"
    table = {"image": ["a.jpg"], "time": [datetime(2026, 1, 2)], "pixels": [b"\xff"], "x": [1.5]}
    pq.write_table(pa.table(table), path)
    assert list(read_table(str(path))) == [
        {"image": "a.jpg", "time": "2026-01-02T00:00:00", "pixels": "\\xff", "x": 1.5}
    ]
    assert list(read_table(str(path), ["x", "image"])) == [{"x": 1.5, "image": "a.jpg"}]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", b"image,id\na.jpg,1,2\n", "line 2 has more cells than the first"),
        ("t.csv", b'image\n"a.jpg\n', "line 1: unexpected end of data"),
        ("t.csv", b"image\n\xff\n", "can't decode byte 0xff"),
        ("t.csv", b"file,label\na.jpg,1\n", "has no column 'image'; its columns are file, label"),
        ("t.csv", b"", "has no column 'image'"),
        ("t.csv", b"image,image\na.jpg,b\n", "has 2 columns 'image'"),
        ("t.jsonl", b"a.jpg\n", "line 1 is not JSON: "),
        ("t.jsonl", b'{"image": "a.jpg"}\n[1]\n', "line 2 is not an object"),
        ("t.parquet", b"image\n", "is not a Parquet file that can be read: "),
        ("t.parquet", b"", "is not a Parquet file that can be read: "),
    ],
)
def test_what_cannot_be_read(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        list(read_table(str(tmp_path / name), ["image"]))


def test_a_parquet_file_without_the_column(tmp_path):
    pq.write_table(pa.table({"file": ["a.jpg"]}), tmp_path / "t.parquet")
    with pytest.raises(ValueError, match="has no column 'image'; its columns are file"):
        list(read_table(str(tmp_path / "t.parquet"), ["image"]))


def test_values():
    assert plain([True, 1, 1.5, float("nan"), None, "ü", b"a", "\ud800"]) == [
        *(True, 1, 1.5, None, None, "ü", "a", r"\ud800")
    ]
    assert plain({1: Decimal("1.50"), "t": (datetime(2026, 1, 2),)}) == {
        "1": "1.50",
        "t": ["2026-01-02T00:00:00"],
    }
