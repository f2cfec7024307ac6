"""The check job from its command line to what it says; it leaves nothing."""

import json
import re
import shutil
from pathlib import Path

import pytest
from helpers.bigquery_server import bigquery_server
from helpers.models import COLORS, image_file

from pipeline.__main__ import main
from pipeline.inputs import find
from pipeline.label import check, lock, trial
from pipeline.models.tensorflow_import import tf


def write_colors(folder, count=3):
    folder.mkdir(parents=True, exist_ok=True)
    for n in range(count):
        (folder / f"{n}.png").write_bytes(image_file(list(COLORS)[n % 3]))
    return str(folder)


def run(*argv, command="check", **flags):
    return main([command, *argv, *(f"--{name}={value}" for name, value in flags.items())])


def tree(folder):
    """All files and folders below, with what is in them."""
    return {path: path.is_file() and path.read_bytes() for path in Path(folder).rglob("*")}


@pytest.fixture
def photos(tmp_path):
    return write_colors(tmp_path / "photos")


def test_what_it_says(tmp_path, photos, color_model, capsys):
    Path(photos, "._0.png").touch()
    before = tree(tmp_path)
    argv = {"input": photos, "model": color_model, "output": tmp_path / "a" / "b"}
    assert run(**argv, price_per_hour=3.6) == 0
    size = sum(path.stat().st_size for path in Path(photos).iterdir())
    said = capsys.readouterr()
    assert said.err == ""
    assert re.fullmatch(
        r"model    32×32 pixels, 3 classes\n"
        r"         takes 0 to 1, RGB \(read from its graph\), and returns logits\n"
        rf"output   {tmp_path}/a/b: would begin a new run\n"
        rf"inputs   3 images, {size} bytes\n"
        r"         passed over: 1 hidden file\n"
        r"sample   3 images: 3 labeled, 0 failed\n"
        r"image    [\d.]+ ms reading, [\d.]+ ms of a core decoding, [\d.]+ ms predicting\n"
        r"time     \d+ \w+ on this machine: \d+ \w+ to start, then [\d,.]+ images/s\n"
        r"         if [^\n]* the longest, as here[^\n]*\n"
        r"memory   [\d.]+ [MG]B at its peak here, about [\d.]+ [MG]B in the run\n"
        r"results  about [\d.]+ kB\n"
        r"disk     about 2\.\d MB needed, [\d.]+ [MGT]B free\n"
        r"cost     [\d.]+, at that rate [\d,.]+ for a million images\n",
        said.out,
    )
    assert tree(tmp_path) == before  # not even a folder


def test_the_size_of_the_results_is_right(tmp_path, photos, color_model, capsys):
    flags = {"input": photos, "model": color_model, "output": tmp_path / "out"}
    assert run(**flags) == 0
    expected = re.search(r"results  about ([\d.]+) kB", capsys.readouterr().out)[1]
    assert run(command="label", **flags) == 0
    written = sum(path.stat().st_size for path in (tmp_path / "out").glob("labels-*"))
    assert float(expected) * 1000 == pytest.approx(written, rel=0.05)


def test_bad_files_are_named(tmp_path, photos, color_model, capsys):
    Path(photos, "bad\x1b.jpg").write_bytes(b"<html>")
    flags = {"input": photos, "model": color_model, "output": tmp_path / "out"}
    assert run(**flags, max_failure_ratio=0.25) == 0
    said = capsys.readouterr()
    assert "sample   4 images: 3 labeled, 1 failed (1 not_an_image)\n" in said.out
    assert f"         {photos}/bad\\x1b.jpg: not_an_image: " in said.out
    assert run(**flags, max_failure_ratio=0.2) == 1
    assert capsys.readouterr().err == (
        "error: 25.0% of the sample failed, more than --max_failure_ratio 0.2 allows\n"
    )
    assert not (tmp_path / "out").exists()


def test_of_many_bad_files_some_are_named(tmp_path, color_model, capsys):
    photos = tmp_path / "photos"
    photos.mkdir()
    for n in range(100):
        (photos / f"{n}.jpg").touch()
    assert run(input=photos, model=color_model, output=tmp_path / "out") == 1
    said = capsys.readouterr().out
    assert (
        "inputs   100 images, 0 bytes\nsample   64 images: 0 labeled, 64 failed (64 empty)" in said
    )
    assert said.count(": empty: ") == 10
    assert said.endswith("         and 54 more\n")


def test_the_bytes_behind_a_list_are_estimated(tmp_path, photos, color_model, capsys):
    remote = "http://127.0.0.1:1/none.png"
    (tmp_path / "list.txt").write_text(f"photos/0.png\nphotos/1.png\n{remote}\n")
    argv = {"input": tmp_path / "list.txt", "model": color_model, "output": tmp_path / "out"}
    argv |= {"max_failure_ratio": 1, "read_timeout_seconds": 1}
    assert run("--allow_private_addresses", **argv) == 0
    said = capsys.readouterr().out
    sizes = [(Path(photos) / f"{n}.png").stat().st_size for n in range(2)]
    assert f"inputs   3 images, about {sum(sizes) + round(sum(sizes) / 2)} bytes\n" in said
    assert f"{remote}: unavailable: " in said


def test_images_in_tfrecord_files(tmp_path, color_model, capsys):
    path = str(tmp_path / "photos.tfrecord")
    with tf.io.TFRecordWriter(path) as writer:
        for color in COLORS:
            image = tf.train.Feature(bytes_list=tf.train.BytesList(value=[image_file(color)]))
            features = tf.train.Features(feature={"image/encoded": image})
            writer.write(tf.train.Example(features=features).SerializeToString())
    assert run(input=path, model=color_model, output=tmp_path / "out") == 0
    said = capsys.readouterr().out
    assert "inputs   3 images, about " in said
    assert "sample   3 images: 3 labeled, 0 failed\n" in said


def test_counting_ends_in_time_and_says_so(tmp_path, photos, color_model, capsys, monkeypatch):
    counted = trial.count([find.identify(photos)], seconds=-1)
    assert (counted.files, counted.complete) == (1, False)
    monkeypatch.setattr(trial, "count", lambda *_, **__: counted)
    assert run(input=photos, model=color_model, output=tmp_path / "out", price_per_hour=1) == 0
    said = capsys.readouterr().out
    for line in ("inputs   ", "time     ", "results  ", "cost     "):
        assert f"{line}at least " in said


def test_the_sample_is_of_all_images_and_the_same_again(tmp_path):
    found = [find.identify(write_colors(tmp_path / "p", 300))]
    counted = trial.count(found)
    assert (counted.files, counted.sized, counted.complete) == (300, 300, True)
    assert len({ref.uri for ref in counted.sample}) == trial.SAMPLE_SIZE
    assert trial.count(found) == counted
    listed = list(find.list_images(found[0]))
    assert any(ref in counted.sample for ref in listed[200:])


def test_nothing_is_copied_or_put_into_a_table(tmp_path, photos, color_model):
    flags = {"input": photos, "model": color_model, "output": tmp_path / "out"}
    flags |= {"copy_to": tmp_path / "copies", "output_table": "project:dataset.labels"}
    with bigquery_server() as service:
        before = tree(tmp_path)
        assert run(**flags) == 0
    assert tree(tmp_path) == before
    assert service.jobs == []


# Where the output stands


def test_an_output_with_results(tmp_path, photos, color_model, capsys):
    flags = {"input": photos, "model": color_model, "output": tmp_path / "out"}
    assert run(command="label", **flags) == 0
    before = tree(tmp_path)
    capsys.readouterr()
    assert run(**flags) == 0
    said = capsys.readouterr().out
    assert f"output   {tmp_path}/out: would go on with the run of 20" in said
    assert said.endswith("         3 more have been done before\n")
    assert run(**flags, top_k=2) == 2
    said = capsys.readouterr()
    assert "already has results of another command (top_k was 5, is 2)" in said.err
    assert said.err.count("\n") == 1
    assert run(**flags, top_k=2, if_exists="overwrite") == 0
    expected = f"would begin a new run, once the results in {tmp_path}/out are deleted\n"
    assert expected in capsys.readouterr().out
    assert run(**flags, if_exists="fail") == 2
    assert run("--incremental", **flags) == 2
    assert tree(tmp_path) == before


def test_an_unfinished_run(tmp_path, photos, color_model, capsys):
    out = tmp_path / "out"
    flags = {"input": photos, "model": color_model, "output": out}
    assert run(command="label", **flags) == 0
    settings = json.loads((out / "summary.json").read_text())["settings"]
    shutil.rmtree(out)
    (out / ".unfinished").mkdir(parents=True)
    note = {"run_id": "r", "started_at": "2026-01-02T03:04:05Z", "settings": settings}
    (out / ".unfinished" / "run.json").write_text(json.dumps(note))
    before = tree(out)
    capsys.readouterr()
    assert run(**flags) == 0
    said = capsys.readouterr().out
    assert "would go on with the run of 2026-01-02T03:04:05Z\ninputs   3 images, " in said
    assert tree(out) == before


def test_incremental_runs(tmp_path, photos, color_model, capsys):
    flags = {"input": photos, "model": color_model, "output": tmp_path / "out"}
    assert run("--incremental", command="label", **flags) == 0
    before = tree(tmp_path)
    assert run("--incremental", **flags) == 0
    said = capsys.readouterr().out
    assert re.search(r"out/run=\S+: would begin a new run\n", said)
    assert said.endswith("inputs   0 new images, 0 bytes\n         3 more have been done before\n")
    assert tree(tmp_path) == before
    for n in range(3, 6):
        (Path(photos) / f"{n}.png").write_bytes(image_file())
    (Path(photos) / "0.png").write_bytes(image_file("blue") + bytes(9))
    assert run("--incremental", **flags) == 0
    said = capsys.readouterr().out
    assert "inputs   4 new images, " in said
    assert "         2 more have been done before\nsample   4 images: 4 labeled, 0 failed\n" in said
    assert run("--incremental", **flags, limit=1) == 0
    assert "inputs   1 new images, " in capsys.readouterr().out
    assert run(**flags | {"output": tmp_path / "other"}, limit=2) == 0
    said = capsys.readouterr().out
    assert "limit    the first 2 of 6 images\ninputs   2 images, " in said


def test_an_output_that_another_run_has_locked(tmp_path, photos, color_model, capsys):
    out = tmp_path / "out"
    out.mkdir()
    with lock.held(str(out)):
        before = tree(tmp_path)
        assert run(input=photos, model=color_model, output=out) == 2
        assert f"--output {out}: a run is writing there (process " in capsys.readouterr().err
        assert tree(tmp_path) == before
    assert run(input=photos, model=color_model, output=out) == 0


def test_a_lock_whose_holder_is_dead_is_not_held(tmp_path):
    (tmp_path / lock.FILE_NAME).write_text("{}")
    lock.refuse_held(str(tmp_path))


# Users' mistakes


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"input": "/none"}, "--input /none: there is no such file or folder"),
        ({"model": "/none"}, "--model /none: "),
        ({"labels_file": "/none"}, "--labels_file /none: "),
        ({"output": "/proc/none"}, "--output /proc/none: cannot be written: "),
        ({"runner": "NoRunner"}, "No"),
        ({"top": 1}, "unknown argument --top=1; did you mean --top_k?"),
    ],
)
def test_mistakes_are_said_in_one_line(tmp_path, photos, color_model, capsys, flags, message):
    usual = {"input": photos, "model": color_model, "output": tmp_path / "out"}
    assert run(**usual | flags) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()


# The arithmetic


def test_what_holds_an_image_up():
    each, why = check.seconds_each(read=0.064, overlapped=0.005)
    assert (each, why.startswith("if decoding and predicting")) == (0.005, True)
    each, why = check.seconds_each(read=0.64, overlapped=0.005)
    assert (each, why.startswith("if reading, 64 at a time")) == (0.01, True)


def test_time_is_that_of_a_worker_where_there_are_several(tmp_path, photos, color_model, capsys):
    argv = ["--direct_running_mode=multi_processing", "--direct_num_workers=2"]
    assert run(*argv, input=photos, model=color_model, output=tmp_path / "out") == 0
    said = capsys.readouterr().out
    assert " on one worker like this: " in said
    assert "with N workers, 1/N of that, plus the time until they have started\n" in said
