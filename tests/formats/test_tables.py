import gzip
import io
import os
import tracemalloc
from datetime import datetime
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.http_server import HttpServer

from pipeline.formats import parquet
from pipeline.formats.schema import BadRow, plain
from pipeline.formats.tables import is_table, read_table

pytestmark = pytest.mark.usefixtures("servers_here")


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
        ("t.csv", b"file,label\na.jpg,1\n", "has no column 'image'; its columns are file, label"),
        ("t.csv", b"", "has no column 'image': it is empty"),
        ("t.csv", b"\xef\xbb\xbf\r\n", "has no column 'image': it is empty"),
        ("t.csv", b"image:id\n", "its columns are image:id; columns are separated by commas, "),
        ("t.csv", b"image_path,id\n", r"its columns are image_path, id$"),
        ("t.csv", "image,id\n".encode("utf-16-le"), "its first line has NUL bytes; save it as CSV"),
        ("t.csv", b"PK\3\4\0\0\xff", "its first line has NUL bytes; save it as CSV in UTF-8"),
        ("t.csv", b"{" * 5000, r"its columns are \{{1000}…$"),
        ("t.csv", b"a.jpg;cat\n", "columns are a.jpg, cat; the first line has to name the columns"),
        ("t.csv", b"image,image\na.jpg,b\n", "has 2 columns 'image'"),
        ("t.jsonl", b'{"file": "a.jpg"}\n{"id": 1}\n', "has no column 'image'; .* are file, id"),
        ("t.parquet", b"image\n", "is not a Parquet file that can be read: "),
        ("t.parquet", b"", "is not a Parquet file that can be read: "),
    ],
)
def test_what_cannot_be_read(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        list(read_table(str(tmp_path / name), ["image"], "image"))


def read(folder, name, content, columns=("image",)):
    (folder / name).write_bytes(content)
    return list(read_table(str(folder / name), columns, "image"))


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("t.csv", b"image,id\na.jpg,1,2\nb.jpg,3\n", "line 2 has more cells than the first: 3 "),
        ("t.csv", b"image,id\na.jpg\nb.jpg,3\n", "line 2 has fewer cells than the first: 1 "),
        ("t.csv", b'image,id\n"a.jpg,1\nb.jpg,3\n', "line 2: unexpected end of data"),
        ("t.csv", b'image,id\n"a.jpg" x,1\nb.jpg,3\n', "line 2: ',' expected after '\"'"),
        ("t.csv", b'image,id\n"a.jpg,1\nb.jpg,3\nc.jpg,4"\n', "line 2 has fewer cells"),
        ("t.jsonl", b'a.jpg\n{"image": "b.jpg"}\n', "line 1 is not JSON: "),
        ("t.jsonl", b'["a.jpg"]\n{"image": "b.jpg"}\n', "line 1 is not an object"),
        ("t.jsonl", b'{"image": "a.jpg\n{"image": "b.jpg"}\n', "line 1 is not JSON: "),
        ("t.jsonl", b'{"image": "\xff.jpg"}\n{"image": "b.jpg"}\n', "line 1 has bytes that are"),
        ("t.jsonl", b"[" * 99_999 + b'.jpg\n{"image": "b.jpg"}\n', "line 1 is nested too deeply"),
    ],
)
def test_a_bad_row_leaves_the_others_as_they_are(tmp_path, name, content, problem):
    first, *others = read(tmp_path, name, content)
    assert isinstance(first, BadRow)
    assert first.problem.startswith(problem)
    assert others[0] == {"image": "b.jpg"}
    assert len(others) == str(content).count(".jpg") - 1


def test_the_cells_of_a_bad_row_are_kept(tmp_path):
    (row,) = read(tmp_path, "t.csv", b"image,id\na.jpg,1,2\n")
    assert row.cells == {"image": "a.jpg", "id": "1"}


def test_a_stray_quote_costs_no_row_but_its_own(tmp_path):
    lines = [f"{n}.jpg,x" for n in range(30_000)]
    for n in (10, 20_000, 29_999):
        lines[n] = f'"{lines[n]}'
    rows = read(tmp_path, "t.csv", "\n".join(["image,id", *lines]).encode())
    assert [n for n, row in enumerate(rows) if isinstance(row, BadRow)] == [10, 20_000, 29_999]
    assert "not closed within 10,000 lines" in rows[10].problem
    assert rows[11] == {"image": "11.jpg"}
    assert len(rows) == 30_000


def test_rows_between_two_stray_quotes_are_not_lost(tmp_path):
    lines = [
        'a.jpg,"x',
        "b.jpg,y",
        'http://h/c d.jpg,z"',
        'd.jpg,"two',
        'lines, of text"',
        "e.jpg,x",
    ]
    rows = read(tmp_path, "t.csv", "\r\n".join(["image,id", *lines]).encode(), ("image", "id"))
    assert isinstance(rows[0], BadRow)
    assert rows[0].problem == "line 2 has a quote that takes in whole rows"
    assert [row["image"] for row in rows[1:]] == ["b.jpg", "http://h/c d.jpg", "d.jpg", "e.jpg"]
    assert rows[3]["id"] == "two\r\nlines, of text"
    assert read(tmp_path, "t.csv", b'image\n"a\nb.jpg"\n') == [{"image": "a\nb.jpg"}]


def test_a_dictionary_of_images_is_not_in_memory_for_each_of_its_rows(tmp_path):
    images = pa.DictionaryArray.from_arrays(pa.array([0] * 200, pa.int32()), [b"x" * 2**20])
    pq.write_table(pa.table({"image": images}), tmp_path / "t.parquet")
    tracemalloc.start()
    try:
        rows = (
            len(row["image"]) for row in read_table(f"{tmp_path}/t.parquet", ["image"], "image")
        )
        assert sum(rows) == 200 * 2**20
        assert tracemalloc.get_traced_memory()[1] < 150 * 2**20
    finally:
        tracemalloc.stop()


def test_text_in_parquet_that_is_not_utf8(tmp_path):
    text = pa.array([b"a.jpg", b"\xff.jpg", None], pa.binary()).view(pa.string())
    late = pa.array([1, 2, 2**55], pa.timestamp("ms"))
    pq.write_table(pa.table({"image": text, "id": [1, 2, 3]}), tmp_path / "t.parquet")
    first, bad, last = read_table(str(tmp_path / "t.parquet"), ["image", "id"], "image")
    assert (first, last) == ({"image": "a.jpg", "id": 1}, {"image": None, "id": 3})
    assert bad.problem.startswith("row 2: its 'image' cannot be read: ")
    assert bad.cells == {"id": 2}
    pq.write_table(pa.table({"image": ["a", "b", "c"], "at": late}), tmp_path / "t.parquet")
    *_, bad = read_table(str(tmp_path / "t.parquet"), ["image", "at"], "image")
    assert bad.problem.startswith("row 3: its 'at' cannot be read: ")
    assert bad.cells == {"image": "c"}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_byte_order_marks(tmp_path, encoding):
    mark = "\ufeff" if encoding in ("utf-16-le", "utf-16-be") else ""
    csv = f"{mark}image,id\r\nü.jpg,1\r\n".encode(encoding)
    assert read(tmp_path, "t.csv", csv) == [{"image": "ü.jpg"}]
    jsonl = f'{mark}{{"image": "ü.jpg"}}\n'.encode(encoding)
    assert read(tmp_path, "t.jsonl", jsonl) == [{"image": "ü.jpg"}]
    assert read(tmp_path, "t.jsonl.gz", gzip.compress(jsonl)) == [{"image": "ü.jpg"}]


@pytest.mark.parametrize(
    "content",
    [
        "image;id\na,b.jpg;1\n",
        "image\tid\na,b.jpg\t1\n",
        "image|id\na,b.jpg|1\n",
        'id,image\n1,"a,b.jpg"\n',
        '\n\nsep=;\nid;"image"\n1;a,b.jpg\n',
        'sep=;\r\nid;"image"\r\n1;a,b.jpg\r\n',
        '"sep=\t"\r\nid\timage\r\n1\ta,b.jpg\r\n',
        ' id , image \n1,"a,b.jpg"\n',
        'id,image\r1,"a,b.jpg"\r',
    ],
)
def test_a_delimiter_is_seen_by_the_columns(tmp_path, content):
    assert read(tmp_path, "t.csv", content.encode(), ("image", "id")) == [
        {"image": "a,b.jpg", "id": "1"}
    ]


def test_bytes_stay_bytes_in_the_column_of_images(tmp_path):
    images = [{"bytes": b"\xff", "path": "a.jpg"}, {"bytes": None, "path": "b.jpg"}, None]
    pq.write_table(pa.table({"image": images, "other": [b"1"] * 3}), tmp_path / "t.parquet")
    rows = list(read_table(str(tmp_path / "t.parquet"), ["image", "other"], "image"))
    assert [row["image"] for row in rows] == images
    assert rows[0]["other"] == "1"


def test_some_cells_of_a_column(tmp_path):
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"n": range(1, 1001)}), path, row_group_size=300)
    wanted = [1, 2, 299, 300, 301, 599, 900, 1000]
    with path.open("rb") as file:
        assert list(parquet.read_cells(file, "n", wanted)) == [(n, n) for n in wanted]
        assert list(parquet.read_cells(file, "n", [999, 1001])) == [(999, 999)]
        assert list(parquet.read_cells(file, "n", [])) == []


@pytest.mark.parametrize("read", [parquet.read_table, parquet.read_cells])
def test_a_row_group_of_images_is_read_piece_by_piece(tmp_path, read):
    images = [os.urandom(10**6) for _ in range(32)]
    pages = {"use_dictionary": False, "write_batch_size": 1}  # a page for each image
    pq.write_table(pa.table({"image": images}), tmp_path / "t.parquet", **pages)
    most = 0

    class File(io.FileIO):
        def read(self, size=-1):
            nonlocal most
            most = max(most, size)
            return super().read(size)

    with File(tmp_path / "t.parquet") as file:
        if read is parquet.read_cells:
            found = [cell for _, cell in read(file, "image", list(range(1, 33)))]
        else:
            found = [row["image"] for row in read(file, ["image"], "image")]
    assert found == images
    assert 0 < most < 8 * 10**6


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
