"""Reads tables of true classes, whatever their columns are called."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import InputError
from pipeline.inputs.truth_table import identify_truth, read_truth


def columns(path, uri_column="image", truth_column="label"):
    source = identify_truth(str(path), uri_column, truth_column)
    return source.uri_column, source.truth_column


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("image,label", ("image", "label")),
        ("file,label", ("file", "label")),
        ("file_name,class", ("file_name", "class")),
        ("filename,category", ("filename", "category")),
        ("path;target", ("path", "target")),
        ("uri\ttruth", ("uri", "truth")),
        (",File Name,Ground-Truth", ("File Name", "Ground-Truth")),
        ("label,file,path,image", ("image", "label")),
        ("id,url,class_name,class_id", ("url", "class_name")),
    ],
)
def test_usual_names(tmp_path, header, found):
    path = tmp_path / "t.csv"
    path.write_text(f"{header}\n" + header.replace("e", "x") + "\n")
    assert columns(path) == found


def test_the_columns_of_the_input_are_not_those_of_the_truth(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("file_name,label\na.jpg,cat\n")
    assert columns(path, uri_column="url") == ("file_name", "label")
    path.write_text("url,file_name,label\nhttp://x/1,a.jpg,cat\n")
    assert columns(path, uri_column="url") == ("url", "label")


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (
            "file,path,label",
            "has no column 'image', but several like it: file, path; name the",
        ),
        ("image,class,target", "has no column 'label', but several like it: class, target"),
        (
            "key,label",
            "has no column 'image'; its columns are key, label; name the right columns with "
            "uri_column and truth_column, or call the images' column 'file'$",
        ),
        ("image,kind", "has no column 'label'; its columns are image, kind"),
        ("", "it is empty"),
    ],
)
def test_names_that_are_not_clear(tmp_path, header, message):
    path = tmp_path / "t.csv"
    path.write_text(f"{header}\n" if header else "")
    with pytest.raises(InputError, match=message):
        columns(path)


def test_a_column_that_was_given_for_the_classes_is_there(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("file,label\na.jpg,cat\n")
    with pytest.raises(InputError, match="has no column 'color'; its columns are file, label"):
        columns(path, truth_column="color")


@pytest.mark.parametrize("rows", [1, 2000])
def test_of_other_formats(tmp_path, rows):
    lines = [{"file": f"{n}.jpg", "category": "cat", "width": n} for n in range(rows)]
    (tmp_path / "t.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    pq.write_table(pa.Table.from_pylist(lines), tmp_path / "t.parquet")
    for name in ("t.jsonl", "t.parquet"):
        source = identify_truth(str(tmp_path / name), "image", "label")
        assert (source.uri_column, source.truth_column) == ("file", "category")
        found = list(read_truth(source))
        assert len(found) == rows
        assert found[0] == (1, "0.jpg", f"{tmp_path}/0.jpg", "cat")


def test_rows_that_say_nothing(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("image,label\n,cat\n  ,cat\na.jpg, \nb.jpg,cat,more\n c.jpg , cat \n")
    rows = list(read_truth(identify_truth(str(path), "image", "label")))
    assert [(row.entry, row.truth) for row in rows] == [
        ("", "cat"),
        ("", "cat"),
        ("a.jpg", None),
        ("", None),
        ("c.jpg", "cat"),
    ]


def test_images_in_the_table_itself_are_named_as_the_input_names_them(tmp_path):
    images = [{"bytes": b"1", "path": "a.jpg"}, {"bytes": b"2", "path": None}]
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"image": images, "label": ["cat", "dog"]}), path)
    rows = list(read_truth(identify_truth(str(path), "image", "label")))
    assert [(row.entry, row.truth) for row in rows] == [
        ("a.jpg", "cat"),
        (f"{path}#row=2", "dog"),
    ]


@pytest.mark.parametrize("given", ["parts", "parts/*.csv", "parts/**"])
def test_several_tables_are_one(tmp_path, monkeypatch, given):
    monkeypatch.chdir(tmp_path)
    for n, folder in enumerate(("class=cat", "class=dog")):
        (tmp_path / "parts" / folder).mkdir(parents=True)
        (tmp_path / "parts" / folder / "0.csv").write_text(f"file\n{n}.jpg\n{n}.png\n")
    (tmp_path / "parts" / "_SUCCESS").touch()
    (tmp_path / "parts" / "2.csv").write_text("file,class\n2.jpg,owl\n")
    source = identify_truth(given.replace("*.csv", "class=*/*.csv"), "image", "label")
    rows = [(row.number, row.entry, row.truth) for row in read_truth(source)]
    assert [row for row in rows if row[2] != "owl"][-4:] == [
        (len(rows) - 3, "0.jpg", "cat"),
        (len(rows) - 2, "0.png", "cat"),
        (len(rows) - 1, "1.jpg", "dog"),
        (len(rows), "1.png", "dog"),
    ]
    assert ("owl" in {row[2] for row in rows}) is (given != "parts/*.csv")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("none.csv", "^truth none.csv: there is no such file$"),
        ("none", "is neither a .csv, .jsonl or .parquet file, or a folder or glob of them, nor"),
        ("none/*.csv", "there are no rows in tables that match this pattern"),
    ],
)
def test_a_table_that_is_not_there(tmp_path, monkeypatch, given, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message):
        identify_truth(given, "image", "label")
