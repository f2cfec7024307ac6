"""Incremental runs: each night labels what is new."""

import json
import os
import re
from pathlib import Path

import pytest
from helpers.http_server import Answer, HttpServer
from helpers.models import COLORS, image_file, save_model
from helpers.runs import WHOLE, break_off, files, nights, rows, run, summary, write_colors
from helpers.tfrecords import write_tfrecord

from pipeline import storage


def labeled_in(folder):
    return sorted(Path(row["image"]).name for row in rows(folder, "labels"))


def run_night(flags, **changed):
    return run("--incremental", **flags | changed)


def test_a_night_labels_what_is_new_or_changed(flags, photos, capsys):
    (Path(photos) / "notes.txt").touch()
    assert run_night(flags) == 0
    (first,) = nights(flags["output"])
    assert re.fullmatch(r"run=\d{4}-\d\d-\d\dT\d\d-\d\d-\d\dZ", first.name)
    assert files(first) == WHOLE
    assert summary(first)["labeled"] == 9
    (Path(photos) / "new.png").write_bytes(image_file("red"))
    (Path(photos) / "blue-2.png").write_bytes(image_file("green"))
    os.utime(Path(photos) / "empty.jpg", (1, 1))
    capsys.readouterr()
    assert run_night(flags) == 0
    assert "12 found = 2 labeled + 1 failed + 9 skipped in " in capsys.readouterr().out
    second = nights(flags["output"])[1]
    assert labeled_in(second) == ["blue-2.png", "new.png"]
    assert [Path(row["image"]).name for row in rows(second, "failures")] == ["empty.jpg"]
    assert summary(second)["skipped"] == 9
    assert run_night(flags) == 0  # and nothing of it again
    third = nights(flags["output"])[2]
    assert summary(third)["skipped"] == summary(third)["found"] == 12
    assert files(third) == ["summary.json"]
    assert "nothing new: 12 were done before\n12 found = " in capsys.readouterr().out
    assert all(
        summary(night)["passed_over"] == {"other_suffix": 1} for night in nights(flags["output"])
    )


def made_by_an_older_version(folder):
    """As if the run in a folder had been one of an older version of this package."""
    made = summary(folder)
    made["versions"]["image-labeling"] = "0.0.1"
    (folder / "summary.json").write_text(json.dumps(made))


def test_formats_are_tried_again_by_another_version(flags, photos):
    (Path(photos) / "layers.psd").write_bytes(b"8BPS\0\1" + bytes(100))
    (Path(photos) / "damaged.png").write_bytes(image_file("red")[:60])

    def failed_in(night):
        if files(night) == ["summary.json"]:
            return []
        return [Path(row["image"]).name for row in rows(night, "failures")]

    assert run_night(flags, max_failure_ratio=1) == 0
    assert {"layers.psd", "damaged.png"} <= set(failed_in(nights(flags["output"])[0]))
    for night, tried in enumerate([[], ["layers.psd"], []], 1):
        assert run_night(flags, max_failure_ratio=1) == 0
        assert failed_in(nights(flags["output"])[night]) == tried
        if night == 1:
            for folder in nights(flags["output"]):
                made_by_an_older_version(folder)


def test_a_new_model_labels_all_again(tmp_path, flags, color_model, capsys):
    assert run_night(flags) == 0
    assert run_night(flags, batch_size=3, max_image_bytes=10**6) == 0
    assert summary(nights(flags["output"])[1])["skipped"] == 11
    other = save_model(tmp_path / "other", labels=("rot", "grün", "blau"))
    capsys.readouterr()
    assert run_night(flags, model=other) == 2
    assert capsys.readouterr().err == (
        f"error: --output {flags['output']}: none of the 2 earlier runs counts (model has changed, "
        "labels_file has changed), so every image would be labeled again; give the model and the "
        "flags of the earlier runs, or --relabel to do that\n"
    )
    assert len(nights(flags["output"])) == 2
    assert run("--incremental", "--relabel", **flags | {"model": other}) == 0
    assert "2 of 2 earlier runs do not count (model has changed, " in capsys.readouterr().err
    assert summary(nights(flags["output"])[2])["labeled"] == 9
    assert run_night(flags, top_k=1) == 2
    assert "(top_k was 5, is 1), so every image would be" in capsys.readouterr().err
    assert run("--incremental", "--relabel", **flags, top_k=1) == 0
    assert summary(nights(flags["output"])[3])["labeled"] == 9
    assert run_night(flags) == 0  # the first ones count again
    assert summary(nights(flags["output"])[4])["skipped"] == 11


def test_a_night_that_was_broken_off_is_finished_first(flags, monkeypatch, photos):
    assert run_night(flags) == 0
    for n in range(8):
        (Path(photos) / f"new-{n}.png").write_bytes(image_file("red"))
    break_off(monkeypatch, flags, "--incremental")
    _, broken = nights(flags["output"])
    assert not (broken / "summary.json").exists()
    assert run_night(flags) == 0
    assert nights(flags["output"])[1:] == [broken]
    written = summary(broken)
    assert (written["labeled"], written["skipped"], written["taken_over"]) == (8, 11, 4)
    assert files(broken) == WHOLE


def test_a_broken_night_of_another_command_is_left(flags, monkeypatch, capsys):
    break_off(monkeypatch, flags, "--incremental")
    (broken,) = nights(flags["output"])
    assert run_night(flags, if_exists="fail") == 2
    assert f"{broken} is not finished; give --if_exists=resume" in capsys.readouterr().err
    assert run_night(flags, top_k=1) == 0
    assert f"{broken} stays unfinished: another command" in capsys.readouterr().err
    assert summary(nights(flags["output"])[1])["labeled"] == 9
    assert run_night(flags, if_exists="overwrite") == 2
    assert "the earlier run does not count (top_k was 1, is 5)" in capsys.readouterr().err
    assert run("--incremental", "--relabel", **flags, if_exists="overwrite") == 0
    assert [summary(night)["labeled"] for night in nights(flags["output"])] == [9, 9]
    assert broken not in nights(flags["output"])


def test_runs_of_every_night_and_others_do_not_share_an_output(flags, capsys):
    assert run_night(flags) == 0
    assert run(**flags) == 2
    assert "has a folder for each run; add --incremental" in capsys.readouterr().err
    flags["output"] += "-alone"
    assert run(**flags) == 0
    assert run_night(flags, output=flags["output"]) == 2
    assert (
        "has the results of a single run; give another folder for --incremental"
        in capsys.readouterr().err
    )


def test_images_in_a_list_that_changed_on_their_server(tmp_path, color_model):
    answers = {
        "/a.png": Answer(image_file("red"), headers={"ETag": '"1"'}),
        "/b.png": Answer(image_file("red"), headers={"ETag": '"1"'}),
    }
    with HttpServer(answers) as server:
        (tmp_path / "list.txt").write_text("".join(f"{server.url(path)}\n" for path in answers))
        flags = {
            "input": tmp_path / "list.txt",
            "model": color_model,
            "output": tmp_path / "out",
        }
        assert run("--incremental", "--allow_private_addresses", **flags) == 0
        server.answers["/b.png"] = Answer(image_file("blue"), headers={"ETag": '"2"'})
        assert run("--incremental", "--allow_private_addresses", **flags) == 0
    second = nights(tmp_path / "out")[1]
    assert labeled_in(second) == ["b.png"]
    assert summary(second)["skipped"] == 1


def test_rows_are_kept_in_files_of_their_number(tmp_path, flags, monkeypatch):
    written = []
    write_file = storage.write_file

    def noting(path, data, keep=True):
        if "/.unfinished/labels-" in path:
            written.append(data.count(b"\n"))
        write_file(path, data, keep)

    monkeypatch.setattr(storage, "write_file", noting)
    assert run(**flags, checkpoint_every=4) == 0
    assert written == [4, 4, 1]


def test_records_of_tfrecord_files_are_gone_on_with_and_skipped(tmp_path, color_model, monkeypatch):
    images = [(f"{n}.png", image_file(list(COLORS)[n % 3])) for n in range(9)]
    # Two images of one name, and one without.
    path = write_tfrecord(tmp_path / "a.tfrecord", [*images, images[0], (None, image_file())])
    flags = {"input": path, "model": color_model, "output": str(tmp_path / "out")}
    break_off(monkeypatch, flags)
    assert run(**flags) == 0
    written = summary(tmp_path / "out")
    assert written["labeled"] == 11
    assert written["taken_over"] >= 3
    names = {row["image"] for row in rows(tmp_path / "out", "labels")}
    assert names == {f"{n}.png" for n in range(9)} | {f"{path}#9", f"{path}#10"}
    flags = flags | {"output": tmp_path / "nights"}
    assert run_night(flags) == 0
    assert run_night(flags) == 0
    # Of two images of a name, the second is not known again.
    assert summary(nights(tmp_path / "nights")[1])["skipped"] == 10


@pytest.mark.parametrize("format_", ["csv", "parquet", "tfrecord,csv"])
def test_earlier_runs_are_read_in_any_format(tmp_path, flags, format_):
    assert run("--incremental", "--gzip", **flags, output_format=format_) == 0
    write_colors(tmp_path / "photos" / "new", 3)
    assert run("--incremental", **flags) == 0
    first, second = sorted(Path(flags["output"]).iterdir())
    assert (summary(first)["labeled"], summary(first)["skipped"]) == (9, 0)
    assert (summary(second)["labeled"], summary(second)["skipped"]) == (3, 11)


def test_a_limit(tmp_path, flags, capsys):
    """The first images by name, the same ones again; with nights, the first of the new ones."""
    assert run(**flags, limit=4) == 0
    assert "limited to the first 4 of 11 images (--limit)\n" in capsys.readouterr().err
    out = flags["output"]
    assert labeled_in(out) == ["blue-2.png", "blue-5.png", "blue-8.png"]
    assert [Path(row["image"]).name for row in rows(out, "failures")] == ["empty.jpg"]
    assert summary(out)["found"] == 4
    assert run(**flags) == 2
    assert "another command (limit was 4, is None)" in capsys.readouterr().err
    flags["output"] += "-nights"
    found = []
    for left in (7, 3, 0):
        assert run_night(flags, limit=4) == 0
        console = capsys.readouterr()
        words = f"{left} new images left for the next run (--limit 4)\n"
        assert (words in console.out) == (left > 0)
        night = nights(flags["output"])[-1]
        found += labeled_in(night)
        assert summary(night)["left_out"] == left
    assert len(found) == len(set(found)) == 9
