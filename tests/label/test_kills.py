"""Runs that are broken off, gone on with, refused, started over; and every night's increment."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions
from helpers import ROOT
from helpers.emulators import s3_emulator
from helpers.http_server import Answer, HttpServer
from helpers.models import COLORS, image_file, save_model
from helpers.runs import comparable, rows, run, run_process, summary, write_colors
from helpers.tfrecords import write_tfrecord

from pipeline import storage, transforms
from pipeline.errors import RunError
from pipeline.label import job as label
from pipeline.label import runs
from pipeline.label.lock import FILE_NAME


def files(folder):
    return sorted(path.name for path in Path(folder).iterdir())


WHOLE = [
    "failures-00000-of-00001.jsonl",
    "labels-00000-of-00001.jsonl",
    "report.html",
    "run.yaml",
    "summary.json",
]


@pytest.fixture
def photos(tmp_path):
    """Nine images, and two that cannot be decoded."""
    folder = write_colors(tmp_path / "photos", 9)
    (tmp_path / "photos" / "empty.jpg").touch()
    (tmp_path / "photos" / "page.jpg").write_bytes(b"<html>")
    return folder


@pytest.fixture
def flags(tmp_path, photos, color_model):
    return {
        "input": photos,
        "model": color_model,
        "output": str(tmp_path / "out"),
        "max_failure_ratio": 0.5,
    }


class Killed(BaseException):
    """Stands for a process that ends in the middle."""


def break_off(monkeypatch, flags, *argv, after=4):
    """A run that ends after so many images, with the rows of some of them kept."""
    original, count = transforms.label_image, 0

    def killing(*args, **kwargs):
        nonlocal count
        count += 1
        if count > after:
            raise RunError("killed")
        return original(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(transforms, "label_image", killing)
        assert run(*argv, **flags, checkpoint_every=2, batch_size=1) == 1


# Going on


def test_the_same_command_goes_on(tmp_path, flags, monkeypatch, capsys):
    assert run(**flags | {"output": tmp_path / "unbroken"}) == 0
    break_off(monkeypatch, flags)
    out = Path(flags["output"])
    assert not (out / "summary.json").exists()
    assert len(list((out / ".unfinished").glob("labels-*.jsonl"))) == 2
    capsys.readouterr()
    assert run(**flags) == 0
    console = capsys.readouterr()
    assert "going on with the run of 20" in console.err
    assert re.search(r"11 found = 9 labeled \+ 2 failed .*\n\d of them by earlier", console.out)
    assert comparable(out) == comparable(tmp_path / "unbroken")
    assert files(out) == WHOLE
    written = summary(out)
    assert written["taken_over"] >= 4
    assert (written["found"], written["labeled"], written["failed"]) == (11, 9, 2)
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
    read_bytes = storage.read_bytes

    def noting(uri, *limits):
        if uri.startswith(flags["input"]):
            read.append(uri)
        return read_bytes(uri, *limits)

    monkeypatch.setattr(storage, "read_bytes", noting)
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
        monkeypatch.setattr(runs.outputs, step, killed)
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
    assert comparable(flags["output"]).keys() == before.keys()


def test_what_could_not_be_read_is_tried_again(tmp_path, color_model, monkeypatch):
    monkeypatch.setattr(label.report, "write", lambda folder: [])  # which reads a few for itself
    with HttpServer({"/a.png": Answer(status=404), "/b.png": image_file("red")}) as server:
        (tmp_path / "list.txt").write_text(f"{server.url('/a.png')}\n{server.url('/b.png')}\n")
        flags = {"input": tmp_path / "list.txt", "model": color_model, "output": tmp_path / "out"}
        flags["max_failure_ratio"] = 1
        assert run(**flags) == 0
        assert summary(tmp_path / "out")["failure_reasons"] == {"not_found": 1}
        server.answers["/a.png"] = image_file("blue")
        assert run(**flags) == 0
        assert summary(tmp_path / "out")["labels"] == {"red": 1, "blue": 1}
        assert server.requests["/b.png"] == 1


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
        ({"labels_file": "names.txt"}, "labels_file is another"),
        ({"input": "sample"}, "input is another"),
        ({"model": "sample"}, "model is another"),
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
        r"error: the run failed: \S+/labels-\w+\.jsonl is damaged: there is something", error
    )
    assert "Traceback" not in error


def test_results_that_no_run_noted_are_refused(tmp_path, flags, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "labels-00000-of-00001.jsonl").write_text("{}\n")
    assert run(**flags) == 2
    assert "already has results of a run; give another folder" in capsys.readouterr().err


# Killed from outside


def start(*argv):
    return subprocess.Popen(
        [sys.executable, "-m", "pipeline", "label", *argv],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_request(server, path):
    deadline = time.monotonic() + 120
    while not server.requests[path]:
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """Eight times the sample's images; the arguments for them, the rows, and how long they took."""
    folder = tmp_path_factory.mktemp("unbroken")
    for copy in range(8):
        shutil.copytree(ROOT / "pipeline" / "sample" / "images", folder / "images" / str(copy))
    argv = [f"--input={folder}/images", "--model=sample", "--checkpoint_every=100"]
    started = time.monotonic()
    assert run_process(*argv, f"--output={folder}/out").returncode == 0
    duration = time.monotonic() - started
    expected = comparable(folder / "out")
    assert len(expected) == 8 * 123
    return argv, expected, duration


@pytest.mark.parametrize("number", range(int(os.environ.get("LABELING_KILLS", "4"))))
def test_kill_9_at_a_random_moment(tmp_path, unbroken, number):
    argv, expected, duration = unbroken
    out = f"--output={tmp_path}/out"
    process = start(*argv, out)
    time.sleep(random.Random(number).uniform(0.3, 1.0) * duration)
    process.kill()
    process.communicate()
    done = run_process(*argv, out)
    assert done.returncode == 0, done.stderr
    assert comparable(tmp_path / "out") == expected
    assert files(tmp_path / "out") == WHOLE
    print("rows taken over:", summary(tmp_path / "out")["taken_over"])


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["ctrl-c", "sigterm"]
)
def test_an_interrupted_run_keeps_what_is_done(tmp_path, color_model, number, code):
    """One image never comes; of the others, far from a checkpoint, all rows are kept."""
    write_colors(tmp_path / "photos", 200)
    with HttpServer({"/slow.png": Answer(image_file(), delay=600)}) as server:
        argv = [
            *("--input", str(tmp_path / "photos"), server.url("/slow.png?sig=SECRET")),
            *(f"--model={color_model}", f"--output={tmp_path}/out"),
        ]
        process = start(*argv)
        wait_for_request(server, "/slow.png")
        time.sleep(2)
        sent = time.monotonic()
        process.send_signal(number)
        _, error = process.communicate(timeout=60)
        assert time.monotonic() - sent < 5
        assert process.returncode == code
        line = error.splitlines()[-1]
        assert re.match(r"interrupted: \d+ images done, 0 failed, the rows of \d+ kept; ", line)
        assert f"-m pipeline label --input {tmp_path}/photos" in line
        assert "SECRET" not in error
        server.answers["/slow.png"] = image_file("blue")
        done = run_process(*argv)
    assert done.returncode == 0, done.stderr
    kept = int(re.search(r"the rows of (\d+) kept", line)[1])
    assert summary(tmp_path / "out")["taken_over"] == kept >= 64
    assert summary(tmp_path / "out")["labeled"] == 201


def test_ctrl_c_keeps_the_rows_and_releases_the_lock_in_a_bucket(tmp_path, color_model):
    """Where no system takes a lock from a process that ends: the next run need not wait for it."""
    write_colors(tmp_path / "photos", 200)
    with (
        s3_emulator() as store,
        store.reached_at(store.url) as beam_flags,
        HttpServer({"/slow.png": Answer(image_file(), delay=600)}) as server,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(FileSystems, "_pipeline_options", PipelineOptions(beam_flags))
        output = store.uri("out")
        argv = [
            *("--input", str(tmp_path / "photos"), server.url("/slow.png")),
            *(f"--model={color_model}", f"--output={output}", *beam_flags),
        ]
        process = start(*argv)
        wait_for_request(server, "/slow.png")
        time.sleep(2)
        assert storage.exists(f"{output}/{FILE_NAME}")
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=60)
        assert process.returncode == 130
        kept = int(re.search(r"the rows of (\d+) kept", error)[1])
        assert not storage.exists(f"{output}/{FILE_NAME}")
        in_the_bucket = 0
        for path in storage.find(output, f"{runs.UNFINISHED}/labels-*"):
            with storage.open_file(path) as file:
                in_the_bucket += len(list(file))
        assert in_the_bucket == kept >= 64


def test_two_runs_at_once(tmp_path, color_model):
    write_colors(tmp_path / "photos", 3)
    with HttpServer({"/slow.png": Answer(image_file(), delay=600)}) as server:
        argv = [
            *("--input", str(tmp_path / "photos"), server.url("/slow.png")),
            *(f"--model={color_model}", f"--output={tmp_path}/out"),
        ]
        first = start(*argv)
        wait_for_request(server, "/slow.png")
        second = run_process(*argv)
        assert second.returncode == 2
        assert re.match(
            rf"error: --output {tmp_path}/out: a run is writing there \(process {first.pid} on "
            r"\S+, since 20\S+Z\); wait until it has ended\n$",
            second.stderr,
        )
        first.kill()
        first.communicate()
        server.answers["/slow.png"] = image_file("green")
        third = run_process(*argv)  # the lock died with its holder
    assert third.returncode == 0, third.stderr
    assert summary(tmp_path / "out")["labeled"] == 4


# Every night


def nights(output):
    return sorted(Path(output).glob("run=*"))


def labeled_in(folder):
    return sorted(Path(row["image"]).name for row in rows(folder, "labels"))


def run_night(flags, **changed):
    return run("--incremental", **flags | changed)


def test_a_night_labels_what_is_new_or_changed(flags, photos, capsys):
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
    assert files(third) == WHOLE
    assert rows(third, "labels") == []


def test_a_new_model_labels_all_again(tmp_path, flags, color_model, capsys):
    assert run_night(flags) == 0
    assert run_night(flags, batch_size=3, max_image_bytes=10**6) == 0
    assert summary(nights(flags["output"])[1])["skipped"] == 11
    other = save_model(tmp_path / "other", labels=("rot", "grün", "blau"))
    capsys.readouterr()
    assert run_night(flags, model=other) == 0
    assert "2 of 2 earlier runs do not count: another model" in capsys.readouterr().err
    assert summary(nights(flags["output"])[2])["labeled"] == 9
    assert run_night(flags, top_k=1) == 0
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
    assert run_night(flags, if_exists="overwrite") == 0
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
        assert run_night(flags) == 0
        server.answers["/b.png"] = Answer(image_file("blue"), headers={"ETag": '"2"'})
        assert run_night(flags) == 0
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


# Rows in other formats


@pytest.mark.parametrize("format_", ["csv", "parquet,csv", "tfrecord"])
def test_a_whole_run_is_gone_on_with_in_any_format(tmp_path, flags, format_):
    assert run(**flags, output_format=format_) == 0
    write_colors(tmp_path / "photos" / "new", 3)
    assert run(**flags) == 0
    out = Path(flags["output"])
    assert files(out) == WHOLE
    written = summary(out)
    assert (written["found"], written["taken_over"]) == (14, 11)
    assert run(**flags | {"output": tmp_path / "unbroken"}) == 0
    assert comparable(out) == comparable(tmp_path / "unbroken")


@pytest.mark.parametrize("format_", ["csv", "parquet", "tfrecord,csv"])
def test_earlier_runs_are_read_in_any_format(tmp_path, flags, format_):
    assert run("--incremental", "--gzip", **flags, output_format=format_) == 0
    write_colors(tmp_path / "photos" / "new", 3)
    assert run("--incremental", **flags) == 0
    first, second = sorted(Path(flags["output"]).iterdir())
    assert (summary(first)["labeled"], summary(first)["skipped"]) == (9, 0)
    assert (summary(second)["labeled"], summary(second)["skipped"]) == (3, 11)
