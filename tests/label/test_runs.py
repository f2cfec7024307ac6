"""Runs that are broken off: resumed, refused, or started over."""

import dataclasses
import errno
import gc
import json
import os
import re
import subprocess
from pathlib import Path

import pytest
from helpers.http_server import Answer, HttpServer
from helpers.models import image_file
from helpers.runs import (
    WHOLE,
    break_off,
    comparable,
    files,
    nights,
    rows,
    run,
    summary,
    write_colors,
)

from pipeline import storage
from pipeline.__main__ import main
from pipeline.config.label_options import LabelConfig
from pipeline.errors import OutputError, RunError
from pipeline.label import job as label
from pipeline.label import notes, runs
from pipeline.outputs import disk, layout

ROWS = ("labels", "failures")


class Killed(BaseException):
    """Stands for a process that ends in the middle."""


# Going on


def test_the_same_command_goes_on(tmp_path, flags, monkeypatch, capsys):
    Path(flags["input"], "notes.txt").touch()
    assert run(**flags | {"output": tmp_path / "unbroken"}) == 0
    break_off(monkeypatch, flags)
    out = Path(flags["output"])
    assert not (out / "summary.json").exists()
    assert len(list((out / ".unfinished").glob("labels-*.jsonl"))) == 2
    capsys.readouterr()
    assert run(**flags) == 0
    console = capsys.readouterr()
    assert "resuming the run of 20" in console.err
    assert re.search(r"11 found = 9 labeled \+ 2 failed .*\n\d of them by earlier", console.out)
    assert comparable(out) == comparable(tmp_path / "unbroken")
    assert files(out) == WHOLE
    written = summary(out)
    assert written["taken_over"] >= 4
    assert (written["found"], written["labeled"], written["failed"]) == (11, 9, 2)
    assert written["passed_over"] == {"other_suffix": 1}
    assert written["labels"] == {"red": 3, "green": 3, "blue": 3}
    assert {row["run_id"] for row in rows(out, "labels")} == {written["run_id"]}


def test_what_is_done_is_not_read_again(flags, monkeypatch):
    break_off(monkeypatch, flags)
    kept = Path(flags["output"]) / ".unfinished"
    done = [
        json.loads(line)["image"]
        for part in kept.glob("*-*.jsonl")
        for line in part.read_text().splitlines()
    ]
    assert len(done) >= 4
    read = []
    read_content = storage.read_content

    def noting(uri, *limits, **more):
        if uri.startswith(flags["input"]):
            read.append(uri)
        return read_content(uri, *limits, **more)

    monkeypatch.setattr(storage, "read_content", noting)
    monkeypatch.setattr(label.report, "write", lambda folder: [])  # which reads a few for itself
    assert run(**flags) == 0
    assert len(read) == 11 - len(done)
    assert not set(read) & set(done)


def test_broken_off_twice(tmp_path, flags, monkeypatch):
    assert run(**flags | {"output": tmp_path / "unbroken"}) == 0
    break_off(monkeypatch, flags)
    break_off(monkeypatch, flags, after=3)
    assert run(**flags) == 0
    assert comparable(flags["output"]) == comparable(tmp_path / "unbroken")


@pytest.mark.parametrize("step", ["remove", "rename", "write_file", "complete"])
def test_broken_off_at_the_very_end_or_beginning(tmp_path, flags, monkeypatch, step):
    """While the files of a whole run become those of an unfinished one, and the reverse."""
    assert run(**flags) == 0
    before = comparable(flags["output"])

    def killed(*_, **__):
        raise Killed

    if step == "complete":
        monkeypatch.setattr(runs, "complete", killed)
    elif step == "remove":
        monkeypatch.setattr(layout, step, killed)
    else:
        monkeypatch.setattr(runs.storage, step, killed)
    with pytest.raises((Killed, RuntimeError), match=r"Killed|^$"):
        run(**flags)
    monkeypatch.undo()
    assert run(**flags) == 0
    assert comparable(flags["output"]) == before
    assert files(flags["output"]) == WHOLE


def test_a_whole_run_takes_in_what_is_new(flags, photos, capsys):
    assert run(**flags) == 0
    before = comparable(flags["output"])
    (Path(photos) / "new.png").write_bytes(image_file("red"))
    os.utime(Path(photos) / "red-0.png", (1, 1))
    assert run(**flags) == 0
    after = comparable(flags["output"])
    assert after.keys() - before.keys() == {f"{photos}/new.png"}
    assert summary(flags["output"])["taken_over"] == 10  # all but red-0
    assert "12 found = 10 labeled + 2 failed" in capsys.readouterr().out
    (Path(photos) / "new.png").unlink()
    assert run(**flags) == 0
    said = capsys.readouterr().out
    assert "removed: 1 row of images that the inputs no longer name\n" in said
    assert summary(flags["output"])["no_longer_found"] == 1
    assert comparable(flags["output"]).keys() == before.keys()


def test_what_could_not_be_read_is_tried_again(tmp_path, color_model, monkeypatch):
    monkeypatch.setattr(label.report, "write", lambda folder: [])  # which reads a few for itself
    with HttpServer({"/a.png": Answer(status=404), "/b.png": image_file("red")}) as server:
        (tmp_path / "list.txt").write_text(f"{server.url('/a.png')}\n{server.url('/b.png')}\n")
        flags = {"input": tmp_path / "list.txt", "model": color_model, "output": tmp_path / "out"}
        flags["max_failure_ratio"] = 1
        assert run("--allow_private_addresses", **flags) == 0
        assert summary(tmp_path / "out")["failure_reasons"] == {"not_found": 1}
        server.answers["/a.png"] = image_file("blue")
        assert run("--allow_private_addresses", **flags) == 0
        assert summary(tmp_path / "out")["labels"] == {"red": 1, "blue": 1}
        assert server.requests["/b.png"] == 1


def test_formats_are_tried_again_by_another_version(flags, photos):
    (Path(photos) / "layers.psd").write_bytes(b"8BPS\0\1" + bytes(100))
    assert run(**flags) == 0
    out = Path(flags["output"])
    made = summary(out)
    taken_over = []
    for version in (made["versions"]["image-labeling"], "0.0.1"):
        versions = made["versions"] | {"image-labeling": version}
        (out / "summary.json").write_text(json.dumps(summary(out) | {"versions": versions}))
        assert run(**flags) == 0
        taken_over.append(summary(out)["taken_over"])
        assert summary(out)["failure_reasons"] == made["failure_reasons"]
    assert taken_over == [made["found"], made["found"] - 1]


def test_what_beam_left_behind_is_cleared_away(flags, monkeypatch):
    break_off(monkeypatch, flags)
    assert list(Path(flags["output"]).glob("beam-temp-*"))
    assert run(**flags) == 0
    assert files(flags["output"]) == WHOLE


def test_an_attempt_without_a_row_is_in_nobodys_way(flags, monkeypatch):
    def killed(*_):
        raise Killed

    for argv in ([], ["--incremental"]):
        flags["output"] += "-next"
        with monkeypatch.context() as patch:
            patch.setattr(label, "run_pipeline", killed)
            with pytest.raises(Killed):
                run(*argv, **flags)
        assert run(*argv, **flags, top_k=1) == 0
    (night,) = nights(flags["output"])
    assert summary(night)["labeled"] == 9


def test_killed_before_the_run_is_noted(flags):
    unfinished = Path(flags["output"]) / ".unfinished"
    unfinished.mkdir(parents=True)
    (unfinished / "run.json.0123.tmp").write_text("{")
    assert run(**flags) == 0
    assert files(flags["output"]) == WHOLE


@pytest.mark.parametrize("format_", ["csv", "parquet,csv", "tfrecord"])
def test_a_whole_run_is_gone_on_with_in_any_format(tmp_path, flags, format_):
    assert run(**flags, output_format=format_) == 0
    write_colors(tmp_path / "photos" / "new", 3)
    assert run(**flags) == 0
    out = Path(flags["output"])
    shards = {f"{name}-00000-of-00001.{one}" for name in ROWS for one in format_.split(",")}
    assert files(out) == sorted({*WHOLE, *shards})  # what another program reads is still there
    written = summary(out)
    assert (written["found"], written["taken_over"]) == (14, 11)
    assert run(**flags | {"output": tmp_path / "unbroken"}) == 0
    assert comparable(out) == comparable(tmp_path / "unbroken")


def test_the_same_command_on_a_finished_run(tmp_path, color_model, capsys):
    """Keeps what has been measured and written, adds formats, and refuses to take away."""
    for color in ("red", "blue"):
        write_colors(tmp_path / "p" / color, 2)
    flags = {"input": tmp_path / "p", "model": color_model, "output": str(tmp_path / "out")}
    truth = {"truth": "parent", "copy_to": tmp_path / "copies", "threshold": 0.5}
    out = tmp_path / "out"
    assert run(**flags, **truth, price_per_hour=2) == 0
    first, before = summary(out), comparable(out)
    capsys.readouterr()
    for lost in truth:
        given = {name: value for name, value in truth.items() if name != lost}
        assert run(**flags, **given, batch_size=3) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"error: --{lost}: the results in {out} were made with it (")
        assert f"give --{lost} again, or --if_exists=overwrite to begin anew\n" in error
        assert error.count("\n") == 1
    assert run("--gzip", **flags, **truth) == 2
    assert "are not compressed, and would be replaced" in capsys.readouterr().err
    assert (summary(out), comparable(out)) == (first, before)
    assert run(**flags, **truth, output_format="csv") == 0
    console = capsys.readouterr().out
    assert console.startswith(
        f"nothing new: 4 were labeled on {first['finished_at'][:10]}\n4 found"
    )
    assert "by earlier attempts" not in console
    again = summary(out)
    for name in (*notes.MEASURES, "price_per_hour", "cost_per_million_images"):
        assert again[name] == first[name], name
    assert again["images_per_second"] > 0 and again["cost_per_million_images"] > 0
    assert again["copied"] == 4
    assert comparable(out) == before
    assert {row["truth"] for row in rows(out, "labels")} == {"red", "blue"}
    added = [f"{name}-00000-of-00001.csv" for name in ROWS]
    assert files(out) == sorted([*WHOLE, "mistakes.csv", *added])
    # Killed in the middle of the next attempt, the run still knows what it had.
    note = json.loads(json.dumps({"finished": notes.finished(again)}))
    assert notes.finished(note) == notes.finished(again)
    assert run(**flags, **truth, if_exists="overwrite") == 0
    assert files(out) == sorted([*WHOLE, "mistakes.csv"])


def test_what_a_command_would_take_away_from_a_finished_run():
    config = LabelConfig(input=("p",), model="m", output="o", threshold=0.0)

    def keeping(**options):
        before = {"options": options}
        return notes.keeping(config, config, before, "o")

    kept = keeping(output_format=["csv", "parquet"], price_per_hour=3.0, carry=[], gzip=False)
    assert (kept.output_format, kept.price_per_hour) == (("csv", "parquet", "jsonl"), 3.0)
    for options in (
        {"carry": ["id", "day"]},
        {"truth": "t.csv"},
        {"gzip": True},
        {"output_table": "p:d.t"},
        {"copy_to": "c"},
    ):
        with pytest.raises(OutputError) as caught:
            keeping(**options)
        assert caught.value.subject == next(iter(options))
    true = dataclasses.replace(config, truth="t.csv")
    with pytest.raises(OutputError, match=r"truth_column: .* \(species\)"):
        notes.keeping(true, true, {"options": {"truth": "t.csv", "truth_column": "species"}}, "o")
    for options in ({"truth": "u.csv", "truth_column": "species"}, {"truth_column": "species"}):
        assert notes.keeping(true, true, {"options": options}, "o").truth == "t.csv"
    more = dataclasses.replace(config, carry=("id", "new"))
    with pytest.raises(OutputError, match=r"\(day\)"):
        notes.keeping(more, more, {"options": {"carry": ["id", "day"]}}, "o")
    assert notes.keeping(more, more, {"options": {"carry": ["id"]}}, "o").carry == ("id", "new")


@pytest.fixture
def small_disk(tmp_path):
    """A disk that is nearly full, and a function that makes it larger."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(options):
        command = ["mount", "-t", "tmpfs", "-o", options, "none", str(folder)]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    if not mount("size=64k"):
        pytest.skip("a disk cannot be mounted here")
    yield folder, lambda: mount("remount,size=10m")
    subprocess.run(["umount", "-l", str(folder)], check=True)


# What could not be written is still in the buffers of files that Beam leaves open.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_full_disk(flags, small_disk, capsys):
    mounted, enlarge = small_disk
    flags["output"] = str(mounted / "out")
    assert run(**flags, checkpoint_every=1, batch_size=1) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert re.fullmatch(
        rf"error: .+; the disk of {mounted}/out has [\d.]+ \w+ free, the run needs about "
        r"[\d.]+ kB more; make room there, and the same command goes on",
        error,
    )
    assert not list(Path(mounted / "out").glob("beam-temp-*"))
    gc.collect()  # else another test would be blamed for them
    # Nor is there room for the run that check tries, and it says so before.
    assert main(["check", *(f"--{name}={value}" for name, value in flags.items())]) == 1
    assert re.search(
        rf"error: the disk of {mounted}/out has .* free; the run needs about 2\.\d MB\n",
        capsys.readouterr().err,
    )
    assert enlarge()
    assert run(**flags, checkpoint_every=1, batch_size=1) == 0
    assert summary(mounted / "out")["taken_over"] > 0
    assert files(mounted / "out") == WHOLE


@pytest.mark.parametrize(
    ("error", "is_full"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), True),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), True),
        (RunError("the run failed: [Errno 28] No space left on device"), True),
        (OSError(errno.EACCES, "Permission denied"), False),
        (RunError("28 images failed"), False),
    ],
)
def test_what_a_full_disk_raises(error, is_full):
    try:
        raise RunError("x") from error
    except RunError as raised:
        assert disk.is_full(raised) == is_full


# Not going on


def contents(folder):
    """What is in the files, but for those that Beam still has open."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return {path: path.read_bytes() for path in found if "/beam-temp-" not in str(path)}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"top_k": 2}, "top_k was 5, is 2"),
        ({"resample": "bilinear"}, "resample was bicubic, is bilinear"),
        ({"max_image_pixels": 100}, "max_image_pixels was 89478485, is 100"),
        ({"labels_file": "names.txt"}, "labels_file has changed"),
        ({"input": "sample"}, "input has changed"),
        ({"model": "sample"}, "model has changed"),
    ],
)
@pytest.mark.parametrize("whole", [True, False])
def test_another_command_is_not_mixed_in(
    tmp_path, flags, monkeypatch, capsys, changed, message, whole
):
    monkeypatch.chdir(tmp_path)
    Path("names.txt").write_text("a\nb\nc\n")
    if whole:
        assert run(**flags) == 0
    else:
        break_off(monkeypatch, flags)
    before = contents(tmp_path / "out")
    capsys.readouterr()
    assert run(**flags | changed) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: --output {tmp_path}/out: already has results of another")
    assert message in error
    assert error.count("\n") == 1
    assert contents(tmp_path / "out") == before


def test_flags_that_do_not_change_rows_may_change(flags, monkeypatch):
    break_off(monkeypatch, flags)
    more = {"batch_size": 3, "checkpoint_every": 7, "price_per_hour": 1, "read_timeout_seconds": 9}
    assert run(**flags | more) == 0


@pytest.mark.parametrize("whole", [True, False])
def test_if_exists_fail(flags, monkeypatch, capsys, whole):
    if whole:
        assert run(**flags, if_exists="fail") == 0
    else:
        break_off(monkeypatch, flags)
    assert run(**flags, if_exists="fail") == 2
    assert "already has results of a run; give another folder" in capsys.readouterr().err


@pytest.mark.parametrize("whole", [True, False])
def test_if_exists_overwrite(flags, monkeypatch, whole, color_model):
    if whole:
        assert run(**flags) == 0
    else:
        break_off(monkeypatch, flags)
    other = Path(flags["output"]) / "notes.txt"
    other.write_text("mine")
    assert run(**flags, top_k=1, if_exists="overwrite") == 0
    assert files(flags["output"]) == sorted([*WHOLE, "notes.txt"])
    assert summary(flags["output"])["taken_over"] == 0
    assert all(len(row["predictions"]) == 1 for row in rows(flags["output"], "labels"))


@pytest.mark.parametrize("note", ['{"run_id": "r", "sett', '{"settings": 5}', "[]", "{}"])
def test_a_damaged_note_is_no_note(flags, capsys, note):
    unfinished = Path(flags["output"]) / ".unfinished"
    unfinished.mkdir(parents=True)
    (unfinished / "run.json").write_text(note)
    assert run(**flags) == 2
    assert "already has results of a run; give another folder" in capsys.readouterr().err
    assert run(**flags, if_exists="overwrite") == 0


def test_a_damaged_row_is_told_in_a_line(flags, capsys):
    assert run(**flags) == 0
    shard = Path(flags["output"]) / "labels-00000-of-00001.jsonl"
    shard.write_bytes(shard.read_bytes()[:-30])
    assert run(**flags) == 1
    error = capsys.readouterr().err
    assert re.search(
        r"error: the run failed: \S+/labels-\w+\.jsonl is damaged: it contains something", error
    )
    assert "Traceback" not in error


def test_results_that_no_run_noted_are_refused(tmp_path, flags, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "labels-00000-of-00001.jsonl").write_text("{}\n")
    assert run(**flags) == 2
    assert "already has results of a run; give another folder" in capsys.readouterr().err


def test_a_clock_that_goes_back(tmp_path, color_model, capsys):
    """The latest run has the last name, so the next one goes by its rows."""
    photos, output = tmp_path / "photos", tmp_path / "out"
    write_colors(photos, 1)
    flags = {"input": photos, "model": color_model, "output": output}
    assert run("--incremental", **flags) == 0
    (first,) = nights(output)
    note = summary(first) | {"finished_at": "2999-01-01T00:00:00Z"}
    (first / "summary.json").write_text(json.dumps(note))
    capsys.readouterr()
    (photos / "red-0.png").write_bytes(image_file("blue"))
    assert run("--incremental", **flags) == 0
    assert f"{first} ended at 2999-01-01T00:00:00Z, but the clock says 2" in capsys.readouterr().err
    second = output / "run=2999-01-01T00-00-01Z"
    assert [row["label"] for row in rows(second, "labels")] == ["blue"]
    assert rows(second, "labels")[0]["run_id"].startswith("2999-01-01T00-00-01Z-")
    assert run("--incremental", **flags) == 0
    assert summary(nights(output)[-1])["skipped"] == 1
