"""Runs on tables with rows that name no image, and with images inside."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.models import image_file
from helpers.runs import nights, rows, run, summary

from pipeline.__main__ import main


@pytest.fixture
def tables(tmp_path):
    """Two files, and tables that name them or have images inside."""
    for color in ("red", "green"):
        (tmp_path / f"{color}.png").write_bytes(image_file(color))
    (tmp_path / "photos.csv").write_text(
        "image;sku\nred.png;A\n;B\n green.png ;C\nx.png;D;!\nred.png;E\nhttp://[;F\n"
    )
    red, green, blue = (image_file(color) for color in ("red", "green", "blue"))
    images = [
        {"bytes": blue, "path": "cat.png"},
        {"bytes": None, "path": "red.png"},
        {"bytes": green, "path": "cat.png"},
        {"bytes": blue, "path": "cat.png"},
        {"bytes": red, "path": None},
        {"bytes": None, "path": None},
        {"bytes": b"<html>", "path": "dog.png"},
    ]
    pq.write_table(pa.table({"image": images, "sku": list("GHIJKLM")}), tmp_path / "hf.parquet")
    pq.write_table(pa.table({"image": [blue, None], "sku": ["N", "O"]}), tmp_path / "raw.parquet")
    (tmp_path / "list.jsonl").write_text(
        '{"image": {"path": "green.png"}, "sku": "P"}\n{"image": 7, "sku": "Q"}\n{"image"\n'
    )
    return [
        f"--input={tmp_path}/{name}" for name in ("photos.csv", "hf.parquet", "raw.parquet")
    ] + [f"--input={tmp_path}/list.jsonl"]


def test_rows_without_an_image_and_images_in_rows(tmp_path, tables, color_model, capsys):
    out = tmp_path / "out"
    flags = {"model": color_model, "output": out, "max_failure_ratio": 0.6, "carry": "sku"}
    assert run(*tables, "--incremental", **flags) == 0
    (night,) = nights(out)
    found = {row["image"]: (row["label"], row["sku"]) for row in rows(night, "labels")}
    assert found == {
        f"{tmp_path}/red.png": ("red", "A"),
        f"{tmp_path}/green.png": ("green", "C"),
        "cat.png": ("blue", "G"),
        f"{tmp_path}/hf.parquet#row=3": ("green", "I"),
        f"{tmp_path}/hf.parquet#row=5": ("red", "K"),
        f"{tmp_path}/raw.parquet#row=1": ("blue", "N"),
    }
    failed = {row["image"]: row for row in rows(night, "failures")}
    html = failed.pop("dog.png")
    assert (html["stage"], html["reason"], html["sku"]) == ("decode", "not_an_image", "M")
    assert {(row["stage"], row["reason"]) for row in failed.values()} == {("find", "no_uri")}
    expected = {
        "photos.csv#row=2": ("'image' is empty", "B"),
        "photos.csv#row=4": ("line 5 has more cells than the first: 3 instead of 2", "D"),
        "photos.csv#row=6": ("'image' has a URI that cannot be used: Invalid IPv6 URL", "F"),
        "hf.parquet#row=6": ("'image' has neither bytes nor a path", "L"),
        "raw.parquet#row=2": ("'image' is empty", "O"),
        "list.jsonl#row=2": ("'image' is not text: 7", "Q"),
    }
    line = failed.pop(f"{tmp_path}/list.jsonl#row=3")
    assert line["message"].startswith("line 3 is not JSON: ")
    assert line["sku"] is None
    assert {name: (row["message"], row["sku"]) for name, row in failed.items()} == {
        f"{tmp_path}/{name}": value for name, value in expected.items()
    }
    counts = summary(night)
    assert (counts["found"], counts["labeled"], counts["failed"]) == (14, 6, 8)
    assert counts["merged"] == 4
    assert "merged: 4 repeated mentions of images" in capsys.readouterr().out
    assert b"\\xff" not in (night / "labels-00000-of-00001.jsonl").read_bytes()

    # A night later, rows and cells that are as they were are left alone, wherever else rows came.
    path = tmp_path / "photos.csv"
    path.write_text(path.read_text().replace(";B", "green.png;B") + ";R\n")
    assert run(*tables, "--incremental", **flags | {"max_failure_ratio": 1}) == 0
    night = nights(out)[1]
    assert [row["image"] for row in rows(night, "failures")] == [f"{path}#row=7"]
    # Of images of one name inside of tables, only the first is known by it.
    assert [row["image"] for row in rows(night, "labels")] == [f"{tmp_path}/hf.parquet#row=3"]
    assert summary(night)["skipped"] == 12


def test_check_counts_rows_without_an_image(tables, tmp_path, color_model, capsys):
    flags = [f"--model={color_model}", f"--output={tmp_path / 'out'}", "--max_failure_ratio=0.6"]
    assert main(["check", *tables, *flags]) == 0
    out = capsys.readouterr().out
    assert "inputs   18 images" in out
    assert "18 images: 10 labeled, 8 failed (7 no_uri, 1 not_an_image)" in out
    assert "photos.csv#row=2: no_uri: 'image' is empty" in out
