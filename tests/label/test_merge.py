"""The latest row of each image over several runs, as one table."""

import json
import os
from pathlib import Path

import pytest
from helpers.models import image_file
from helpers.runs import nights, run, write_colors

from pipeline.__main__ import main
from pipeline.formats.shards import read_rows
from pipeline.label import merge as job
from pipeline.records import Labeled, Prediction


def merge(folder, *argv):
    return main(["merge", str(folder), *argv])


def read(folder, name, suffix="jsonl"):
    found = list(read_rows(f"{folder}/{name}-00000-of-00001.{suffix}"))
    by_image = {Path(row["image"]).name: row for row in found}
    assert len(by_image) == len(found)
    return by_image


def test_the_latest_row_of_each_image(tmp_path, color_model, capsys, monkeypatch):
    photos = Path(write_colors(tmp_path / "p", 4))
    (photos / "bad.png").write_bytes(b"<html>")
    (tmp_path / "list.csv").write_text(
        "image,id\n" + "".join(f"{path},{n}\n" for n, path in enumerate(sorted(photos.iterdir())))
    )
    flags = {"model": color_model, "output": tmp_path / "out"}
    assert run("--incremental", **flags, input=photos, output_format="csv") == 0
    (photos / "red-0.png").write_bytes(image_file("blue"))
    (photos / "bad.png").write_bytes(image_file("green"))
    (photos / "green-1.png").write_bytes(b"")
    (photos / "new.png").write_bytes(image_file("red"))
    assert run("--incremental", **flags, input=tmp_path / "list.csv", carry="id") == 0
    os.utime(photos / "new.png", (1, 1))
    assert run("--incremental", **flags, input=photos, output_format="parquet") == 0
    assert run("--incremental", **flags, input=photos) == 0  # a quiet night
    assert len(nights(flags["output"])) == 4
    capsys.readouterr()
    # As little memory as can be, with the same result.
    monkeypatch.setattr(job, "_ROWS", 2)
    formats = "jsonl,csv,parquet,tfrecord"
    assert merge(flags["output"], "--output_format", formats) == 0
    said = capsys.readouterr()
    assert said.out.startswith("4 runs merged: 6 images = 5 labeled + 1 failed\n")
    assert said.err == ""
    merged = tmp_path / "out" / "merged"
    labeled, failed = read(merged, "labels"), read(merged, "failures")
    colors = {"red-0": "blue", "bad": "green", "blue-2": "blue", "red-3": "red", "new": "red"}
    assert {name: row["label"] for name, row in labeled.items()} == {
        f"{name}.png": color for name, color in colors.items()
    }
    # Its label was that of another file, and is no longer there.
    assert {name: row["reason"] for name, row in failed.items()} == {"green-1.png": "empty"}
    assert {name: row.get("id") for name, row in labeled.items()} == {
        **dict.fromkeys(labeled, None),
        "bad.png": "0",
        "red-0.png": "3",
    }
    names = sorted(path.name for path in merged.iterdir())
    assert len(names) == 8  # and nothing that is unfinished
    for suffix in ("csv", "parquet", "tfrecord"):
        assert read(merged, "labels", suffix).keys() == labeled.keys()
        assert read(merged, "failures", suffix).keys() == failed.keys()
    labels = {name: row["predictions"] for name, row in labeled.items()}
    again = read(merged, "labels", "parquet")
    assert {name: row["predictions"] for name, row in again.items()} == labels
    # The merged table is no run, and is replaced by the next one.
    assert merge(flags["output"], "--gzip", "--output_format=csv") == 0
    assert sorted(path.name for path in merged.iterdir()) == [
        "failures-00000-of-00001.csv.gz",
        "labels-00000-of-00001.csv.gz",
    ]
    assert run("--incremental", **flags, input=photos) == 0
    night = nights(flags["output"])[0]
    assert merge(night, f"--into={tmp_path}/one") == 0  # one run, in another format
    assert len(read(tmp_path / "one", "labels")) == 4
    capsys.readouterr()
    for into in (night, flags["output"]):
        assert merge(flags["output"], f"--into={into}") == 2
        assert f"--into {into}: has a run of its own" in capsys.readouterr().err


def test_a_run_that_was_finished_nights_later(tmp_path):
    """Its rows are of then; and a column of no row's own has one type in a table."""
    prediction = Prediction(0, "red", 1.0)
    for day, finished, seen in ((1, 3, True), (2, 2, "true"), (3, 2, "false")):
        folder = tmp_path / f"run=2026-01-0{day}T00-00-00Z"
        folder.mkdir()
        note = {"run_id": "r", "labeled": 1, "failed": 0, "settings": {}}
        times = {"started_at": f"2026-01-0{day}T00:00:00Z"}
        times["finished_at"] = f"2026-01-0{finished}T01:00:00Z"  # the clock went back on day 3
        (folder / "summary.json").write_text(json.dumps(note | times))
        row = Labeled(
            image="2.png" if day == 3 else "1.png",
            label="red",
            class_id=0,
            score=1.0,
            predictions=(prediction,),
            width=1,
            height=1,
            model="m",
            model_fingerprint="f",
            run_id=str(day),
            labeled_at="2026-01-01T00:00:00Z",
            carried={"trained_on": seen},
        )
        (folder / "labels-00000-of-00001.jsonl").write_text(row.to_json())
    assert merge(tmp_path) == 0
    found = read(tmp_path / "merged", "labels")
    assert {name: (row["run_id"], row["trained_on"]) for name, row in found.items()} == {
        "1.png": ("1", True),
        "2.png": ("3", False),
    }


@pytest.mark.parametrize("content", [None, "{", json.dumps({"found": 1})])
def test_a_folder_without_runs(tmp_path, capsys, content):
    if content is not None:
        (tmp_path / "run=1").mkdir()
        (tmp_path / "run=1" / "summary.json").write_text(content)
    assert merge(tmp_path) == 2
    assert f"error: {tmp_path} has no run that has ended; give the --output of" in (
        capsys.readouterr().err
    )
    assert not (tmp_path / "merged").exists()
