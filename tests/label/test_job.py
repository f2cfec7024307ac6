"""The label job from its command line to its files."""

import os
import re
from pathlib import Path

import pytest
from helpers.http_server import unused_url
from helpers.models import COLORS, save_model
from helpers.runs import rows, run, run_process, summary, write_colors

from pipeline.__main__ import main
from pipeline.formats.shards import read_rows
from pipeline.label import truth_check
from pipeline.models import decoding
from pipeline.models.tensorflow_import import tf

# The embedded sample


def test_the_sample(tmp_path, capsys):
    out = str(tmp_path / "out")
    assert run(input="sample", model="sample", output=out) == 0
    labeled, failed = rows(out, "labels"), rows(out, "failures")
    right = [row for row in labeled if row["label"] == Path(row["image"]).parent.name]
    assert len(labeled) == 120
    assert len(right) >= 0.95 * len(labeled)
    assert {(Path(row["image"]).name, row["stage"], row["reason"]) for row in failed} == {
        ("empty.jpg", "decode", "empty"),
        ("truncated.jpg", "decode", "truncated"),
        ("web-page.jpg", "decode", "not_an_image"),
    }
    console = capsys.readouterr()
    assert re.match(
        r"123 found = 120 labeled \+ 3 failed in [\d.]+ s \([\d.]+ images/s\)\n"
        r"failures: 1 \w+, 1 \w+, 1 \w+\n",
        console.out,
    )
    for name in ("labels-*.jsonl", "failures-*.jsonl", "summary.json", "report.html"):
        assert f"{out}/{name}\n" in console.out


def test_the_files_of_a_run(tmp_path, color_model, capsys):
    # A folder whose name is not UTF-8 is like any other; a row has its URI.
    out, photos = tmp_path / "out", write_colors(tmp_path / os.fsdecode(b"caf\xe9 p"))
    for name in ("._red-0.png", "._green-1.png", "red-0.xmp"):
        Path(photos, name).touch()
    assert run(input=photos, model=color_model, output=out, top_k=2) == 0
    assert sorted(path.name for path in out.iterdir()) == [
        "failures-00000-of-00001.jsonl",
        "labels-00000-of-00001.jsonl",
        "report.html",
        "run.yaml",
        "summary.json",
    ]
    written = summary(out)
    assert sorted((Path(row["image"]).name, row["label"]) for row in rows(out, "labels")) == [
        ("blue-2.png", "blue"),
        ("green-1.png", "green"),
        ("red-0.png", "red"),
    ]
    for row in rows(out, "labels"):
        assert list(row) == [
            *("image", "label", "class_id", "score", "predictions", "width", "height"),
            *("model", "model_fingerprint", "run_id", "labeled_at", "version", "truth"),
        ]
        assert row["predictions"][0] == {key: row[key] for key in ("class_id", "label", "score")}
        assert len(row["predictions"]) == 2
        assert row["run_id"] == written["run_id"]
        assert row["model_fingerprint"] == written["model"]["fingerprint"]
    assert (written["found"], written["labeled"], written["failed"]) == (3, 3, 0)
    assert written["passed_over"] == {"hidden": 2, "other_suffix": 1}
    assert (
        written["passed_over_examples"]["hidden"][1] == f"file://{tmp_path}/caf%E9%20p/._red-0.png"
    )
    assert {str(Path(row["image"]).parent) for row in rows(out, "labels")} == {
        f"file:{tmp_path}/caf%E9%20p"
    }
    said = "passed over: 2 hidden files, 1 with another suffix (.xmp 1)\n"
    assert capsys.readouterr().out.count(said) == 1
    assert written["skipped"] == 0
    assert written["labels"] == {"red": 1, "green": 1, "blue": 1}
    assert written["options"]["top_k"] == 2
    assert written["versions"]["apache-beam"]
    assert all(seconds > 0 for seconds in written["stage_seconds_per_image"].values())
    assert 0 < written["startup_seconds"] < written["seconds"]
    assert written["bottleneck"].startswith("start-up, ")  # of three small images
    assert written["cost_per_million_images"] is None


def test_every_format_at_once(tmp_path, color_model, capsys):
    flags = {"input": write_colors(tmp_path / "p"), "model": color_model, "output": tmp_path / "o"}
    assert run("--gzip", **flags, output_format="csv,parquet,tfrecord,jsonl") == 0
    suffixes = ("csv.gz", "jsonl.gz", "parquet", "tfrecord.gz")
    names = [f"{name}-00000-of-00001.{s}" for name in ("failures", "labels") for s in suffixes]
    assert sorted(path.name for path in (tmp_path / "o").iterdir()) == [
        *names,
        "report.html",
        "run.yaml",
        "summary.json",
    ]
    console = capsys.readouterr().out
    assert all(f"{tmp_path}/o/labels-*.{suffix}\n" in console for suffix in suffixes)
    read = [list(read_rows(f"{tmp_path}/o/{name}")) for name in names[4:]]
    assert len(read[0]) == 3
    assert all(sorted(map(str, found)) == sorted(map(str, read[0])) for found in read)


# What is known of the images


def write_list(tmp_path, count=3):
    write_colors(tmp_path / "p", count)
    lines = [f"p/{list(COLORS)[n % 3]}-{n}.png,{n:03},{n % 2}" for n in range(count)]
    (tmp_path / "list.csv").write_text("\n".join(["file,id,odd", *lines, "absent.png,007,1", ""]))
    return str(tmp_path / "list.csv")


def test_columns_of_a_list_are_carried_into_the_rows(tmp_path, color_model):
    flags = {"input": write_list(tmp_path), "uri_column": "file", "carry": "id,odd"}
    flags |= {"model": color_model, "output": tmp_path / "out", "max_failure_ratio": 0.5}
    assert run(**flags) == 0
    labeled = {row["label"]: (row["id"], row["odd"]) for row in rows(tmp_path / "out", "labels")}
    assert labeled == {"red": ("000", "0"), "green": ("001", "1"), "blue": ("002", "0")}
    [failed] = rows(tmp_path / "out", "failures")
    assert (failed["reason"], failed["id"]) == ("not_found", "007")
    # The rows of a run are also an --input: here the failed ones.
    again = tmp_path / "out" / "failures-00000-of-00001.jsonl"
    assert run(input=again, model=color_model, output=tmp_path / "again", carry="id") == 1
    assert rows(tmp_path / "again", "failures")[0]["id"] == "007"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"carry": "id"}, "has no column 'image'; its columns are file, id, odd"),
        (
            {"uri_column": "file", "carry": "no"},
            "has no column 'no'; its columns are file, id, odd",
        ),
        ({"uri_column": "odd", "carry": "label"}, "the rows have a column label of their own"),
        ({"uri_column": "file", "truth": "p"}, "is neither a .csv, .jsonl or .parquet file, or"),
        ({"uri_column": "file", "truth": "list.csv"}, "--truth list.csv: has no column 'label'"),
        (
            {"uri_column": "file", "truth": "many.csv"},
            "--truth many.csv: has no column 'label', but several like it: class, Category; name "
            "the right columns with --uri_column and --truth_column",
        ),
        ({"uri_column": "file", "truth": "no.csv"}, "--truth no.csv: there is no such file"),
    ],
)
def test_columns_that_are_not_there(tmp_path, color_model, capsys, monkeypatch, flags, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "many.csv").write_text("file;class;Category\np/red-0.png;red;blue\n")
    flags |= {"input": write_list(tmp_path), "model": color_model, "output": tmp_path / "out"}
    assert run(**flags) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_columns_of_a_folder(tmp_path, color_model, capsys):
    flags = {"input": write_colors(tmp_path / "p"), "model": color_model, "carry": "id"}
    assert run(**flags, output=tmp_path / "out") == 2
    assert "--carry: no input has columns; give .csv" in capsys.readouterr().err


def test_the_truth_of_a_table(tmp_path, color_model, capsys):
    flags = {"input": write_colors(tmp_path / "p"), "model": color_model}
    (tmp_path / "truth.csv").write_text(
        "image,label\np/red-0.png,red\nGREEN-1.PNG,blue\nred-0.png,blue\nx,y\n"
        "C:\\q\\red-0.PNG,blue\n,\n"
    )
    out = tmp_path / "out"
    assert run(**flags, output=out, truth=tmp_path / "truth.csv") == 0
    truth = {"red": "red", "green": "blue", "blue": None}
    assert {row["label"]: row["truth"] for row in rows(out, "labels")} == truth
    assert summary(out)["truth"] == {
        "columns": {"image": "image", "class": "label"},
        "images_with_truth": 2,
        "images_without_truth": 1,
        "images_with_several_rows": 0,
        "images_with_contradicting_rows": 0,
        "rows": 6,
        "rows_of_no_image": 3,
        "rows_of_several_images": 0,
        "rows_of_other_folders": 0,
        "rows_without_name": 1,
        "rows_without_class": 0,
        "examples": {
            "images_without_truth": [f"{tmp_path}/p/blue-2.png"],
            "rows_of_no_image": ["C:\\q\\red-0.PNG", "red-0.png", "x"],
        },
    }
    assert [line for line in capsys.readouterr().err.splitlines() if line[:6] == "truth:"] == [
        f"truth: 2 of 3 images have a class; 1 have none, such as {tmp_path}/p/blue-2.png",
        "truth: 3 of 6 rows name no image, such as C:\\q\\red-0.PNG",
        "truth: 1 of 6 rows have no image's name",
    ]
    # The same command with another truth predicts nothing again.
    (tmp_path / "better.jsonl").write_text('{"File Name": "green-1.png", "color": "green"}\n')
    truth = {"truth": tmp_path / "better.jsonl", "truth_column": "color"}
    assert run(**flags, output=out, **truth) == 0
    assert (
        f"truth: of {tmp_path}/better.jsonl, the column 'File Name' names the images, and 'color' "
        "their classes\n" in capsys.readouterr().err
    )
    assert summary(out)["truth"]["columns"] == {"image": "File Name", "class": "color"}
    assert summary(out)["taken_over"] == 3
    assert {row["truth"] for row in rows(out, "labels")} == {None, "green"}


def test_a_truth_of_other_images_is_refused(tmp_path, color_model, capsys, monkeypatch):
    flags = {"input": write_colors(tmp_path / "p", 1), "model": color_model}
    (tmp_path / "truth.csv").write_text("image,label\nold/1.jpg,red\nold/2.jpg,blue\n")
    flags |= {"output": tmp_path / "out", "truth": tmp_path / "truth.csv"}
    said = (
        f"ruth {tmp_path}/truth.csv: no row names one of the 1 images; rows name 'old/1.jpg', "
        f"'old/2.jpg', and images are '{tmp_path}/p/red-0.png'; name the right columns with "
    )
    assert run(**flags) == 2
    assert f"error: --t{said}--uri_column and --truth_column\n" in capsys.readouterr().err
    assert not list(tmp_path.glob("out/*"))
    assert main(["check", *(f"--{name}={value}" for name, value in flags.items())]) == 2
    monkeypatch.setattr(truth_check, "_MOST", 0)  # as if there were very many
    assert run(**flags) == 1
    assert f"error: the run failed: t{said}uri_column and" in capsys.readouterr().err
    assert not list(tmp_path.glob("out/.unfinished/labels-*"))


def test_a_truth_of_other_classes_leaves_a_finished_run_as_it_is(tmp_path, color_model, capsys):
    flags = {"input": write_colors(tmp_path / "p", 1), "model": color_model}
    flags |= {"output": tmp_path / "out"}
    assert run(**flags) == 0
    before = summary(tmp_path / "out")
    assert run(**flags, truth="parent") == 2
    assert (
        "error: --truth parent: none of the 1 images has a class of the model's: it has 'p' (1); "
        "the model has 'red', 'green', 'blue'\n" in capsys.readouterr().err
    )
    assert summary(tmp_path / "out") == before


def test_the_truth_of_folders(tmp_path, color_model):
    for color in ("red", "blue"):
        write_colors(tmp_path / "p" / color, 1)
    out = tmp_path / "out"
    assert run(input=tmp_path / "p", model=color_model, output=out, truth="parent") == 0
    assert sorted((row["truth"], row["label"]) for row in rows(out, "labels")) == [
        ("blue", "red"),
        ("red", "red"),
    ]


def test_below_the_threshold_there_is_no_label(tmp_path, color_model, capsys):
    flags = {"input": write_colors(tmp_path / "p"), "model": color_model, "output": tmp_path / "o"}
    assert run(**flags, threshold=1.0) == 0
    assert "\n3 without a label, below --threshold\n" in capsys.readouterr().out
    written = rows(tmp_path / "o", "labels")
    assert [(row["label"], row["class_id"]) for row in written] == [(None, None)] * 3
    assert {row["predictions"][0]["label"] for row in written} == set(COLORS)
    assert all(0.4 < row["score"] < 1 for row in written)
    assert (summary(tmp_path / "o")["below_threshold"], summary(tmp_path / "o")["labels"]) == (
        3,
        {},
    )
    assert run(**flags, threshold=0.4) == 0
    assert {row["label"] for row in rows(tmp_path / "o", "labels")} == set(COLORS)
    assert summary(tmp_path / "o")["taken_over"] == 3


def test_the_cost_of_a_million_images(tmp_path, color_model):
    photos = write_colors(tmp_path / "p")
    argv = ["--price_per_hour", "3.6"]
    assert run(*argv, input=photos, model=color_model, output=tmp_path / "out") == 0
    written = summary(tmp_path / "out")
    assert written["price_per_hour"] == 3.6
    assert written["cost_per_million_images"] == pytest.approx(written["seconds"] / 3 * 1000, 0.01)


def test_a_gpu_that_is_required_and_absent_is_told_at_once(tmp_path, color_model, capsys):
    if tf.config.list_physical_devices("GPU"):
        pytest.skip("there is a GPU")
    photos = write_colors(tmp_path / "p")
    argv = ["--require_gpu"]
    assert run(*argv, input=photos, model=color_model, output=tmp_path / "out") == 2
    assert capsys.readouterr().err.startswith("error: --require_gpu: TensorFlow sees no GPU here")
    assert not (tmp_path / "out").exists()


def test_images_named_twice_are_labeled_once(tmp_path, color_model):
    photos = write_colors(tmp_path / "p")
    (tmp_path / "list.txt").write_text("p/red-0.png\np/red-0.png\n")
    argv = ["--input", photos, f"{photos}/*.png", str(tmp_path / "list.txt")]
    assert run(*argv, model=color_model, output=tmp_path / "out") == 0
    assert len(rows(tmp_path / "out", "labels")) == 3


def test_many_workers(tmp_path):
    """Processes of their own, each with its own copy of the model."""
    argv = ["--direct_running_mode=multi_processing", "--direct_num_workers=2"]
    done = run_process("--input=sample", "--model=sample", f"--output={tmp_path}/out", *argv)
    assert done.returncode == 0, done.stderr
    assert summary(tmp_path / "out")["labeled"] == 120


def test_columns_of_an_image_that_is_also_in_a_folder(tmp_path, color_model):
    write_colors(tmp_path / "p", 2)
    (tmp_path / "list.csv").write_text("image,id\np/red-0.png,7\n")
    argv = ["--input", str(tmp_path / "p"), str(tmp_path / "list.csv")]
    assert run(*argv, model=color_model, output=tmp_path / "out", carry="id") == 0
    assert {row["label"]: row["id"] for row in rows(tmp_path / "out", "labels")} == {
        "red": "7",
        "green": None,
    }


def test_an_empty_truth_is_none(tmp_path, color_model):
    flags = {"input": write_colors(tmp_path / "p", 1), "model": color_model}
    (tmp_path / "t.csv").write_text("image,label\np/red-0.png,\np/red-0.png,red\nx,a\nx,b\n")
    assert run(**flags, output=tmp_path / "out", truth=tmp_path / "t.csv") == 0
    assert rows(tmp_path / "out", "labels")[0]["truth"] == "red"


@pytest.mark.parametrize("name", ["image/filename", "image/width", "predictions/label"])
def test_columns_that_would_be_others_in_a_tf_example(capsys, name):
    assert run(input="sample", model="sample", output="out", carry=name) == 2
    assert f"the rows have a column {name} of their own" in capsys.readouterr().err


# What the user has to correct


def mistakes(tmp_path, color_model):
    """Wrong arguments, and the messages about them."""
    photos = write_colors(tmp_path / "p")
    (tmp_path / "none").mkdir()
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "summary.json").touch()
    (tmp_path / "two.txt").write_text("one\ntwo\n")
    no_classifier = save_model(tmp_path / "m", lambda images: images)
    right = {"input": photos, "model": color_model, "output": str(tmp_path / "out")}
    absent = str(tmp_path / "absent")
    return {
        "nothing found": (
            right | {"input": tmp_path / "none"},
            f"--input {tmp_path}/none: no images",
        ),
        "no such folder": (right | {"input": absent}, f"--input {absent}: there is no such file"),
        "no match": (
            right | {"input": f"{photos}/*.gif"},
            f"--input {photos}/*.gif: nothing found",
        ),
        "no model": (right | {"model": absent}, f"--model {absent}: there is no such folder"),
        "no classifier": (right | {"model": no_classifier}, "a classifier returns float [N, cl"),
        "no network": (
            right | {"model": unused_url("/model")},
            "the download failed or is truncated: ",
        ),
        "wrong labels": (
            right | {"labels_file": tmp_path / "two.txt"},
            "two.txt: has 2 labels, but the model returns 3 numbers for each image",
        ),
        "no labels": (right | {"labels_file": absent}, f"--labels_file {absent}: cannot be read"),
        "used output": (right | {"output": tmp_path / "used"}, "already has results of a run"),
        "no output": (right | {"output": tmp_path / "two.txt" / "out"}, "cannot be written"),
        "unknown flag": (right | {"batchsize": 3}, "unknown argument --batchsize=3; did you mean"),
        "bad value": (right | {"top_k": 0}, "--top_k: 0 is not a positive number"),
        "no runner": (right | {"runner": "NoRunner"}, "NoRunner"),
    }


def test_a_users_mistakes_are_one_line_and_exit_code_2(tmp_path, color_model, capsys, monkeypatch):
    monkeypatch.setattr(decoding, "read_and_decode", None)  # no image is read before that
    for name, (flags, message) in mistakes(tmp_path, color_model).items():
        assert run(**flags) == 2, name
        console = capsys.readouterr()
        assert console.out == "", name
        assert console.err.startswith("error: "), name
        assert console.err.count("\n") == 1, name
        assert message in console.err, name
        assert not (tmp_path / "out" / "summary.json").exists(), name


def test_a_mistake_in_a_process_of_its_own(tmp_path):
    done = run_process("--input=sample", "--model=sample", f"--output={tmp_path}", "--batchsize=1")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == (
        "error: unknown argument --batchsize=1; did you mean --batch_size? "
        "python -m pipeline label --help lists the flags\n"
    )
