"""The label job from its command line to its files."""

import csv
import errno
import re
import shutil
import time
import zlib
from pathlib import Path

import pytest
from apache_beam.io.filesystems import FileSystems
from helpers.http_server import Answer, HttpServer, truncated, unused_url
from helpers.models import COLORS, color_logits, image_file, save_hungry_model, save_model
from helpers.runs import rows, run, run_process, summary, write_colors

from pipeline.formats.shards import read_rows
from pipeline.label import job as label
from pipeline.models import class_names, decoding, handler
from pipeline.models.handler import SavedModelHandler
from pipeline.models.tensorflow_import import tf
from pipeline.outputs import layout

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


def test_the_files_of_a_run(tmp_path, color_model):
    out = tmp_path / "out"
    assert run(input=write_colors(tmp_path / "p"), model=color_model, output=out, top_k=2) == 0
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
    assert written["skipped"] == 0
    assert written["labels"] == {"red": 1, "green": 1, "blue": 1}
    assert written["options"]["top_k"] == 2
    assert written["versions"]["apache-beam"]
    assert all(seconds > 0 for seconds in written["stage_seconds_per_image"].values())
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
    # The rows of a list are an --input, too: here those that failed.
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
        ({"uri_column": "file", "truth": "p"}, "is neither a .csv, .jsonl or .parquet file nor"),
        ({"uri_column": "file", "truth": "list.csv"}, "--truth list.csv: has no column 'label'"),
        ({"uri_column": "file", "truth": "no.csv"}, "--truth no.csv: cannot be listed: "),
    ],
)
def test_columns_that_are_not_there(tmp_path, color_model, capsys, monkeypatch, flags, message):
    monkeypatch.chdir(tmp_path)
    flags |= {"input": write_list(tmp_path), "model": color_model, "output": tmp_path / "out"}
    assert run(**flags) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_columns_of_a_folder(tmp_path, color_model, capsys):
    flags = {"input": write_colors(tmp_path / "p"), "model": color_model, "carry": "id"}
    assert run(**flags, output=tmp_path / "out") == 2
    assert "--carry: no input has columns; give .csv" in capsys.readouterr().err


def test_the_truth_of_a_table(tmp_path, color_model):
    flags = {"input": write_colors(tmp_path / "p"), "model": color_model}
    (tmp_path / "truth.csv").write_text("image,label\np/red-0.png,red\np/green-1.png,blue\nx,y\n")
    out = tmp_path / "out"
    assert run(**flags, output=out, truth=tmp_path / "truth.csv") == 0
    truth = {"red": "red", "green": "blue", "blue": None}
    assert {row["label"]: row["truth"] for row in rows(out, "labels")} == truth
    # The same command with another truth predicts nothing again.
    (tmp_path / "better.jsonl").write_text('{"image": "p/green-1.png", "color": "green"}\n')
    truth = {"truth": tmp_path / "better.jsonl", "truth_column": "color"}
    assert run(**flags, output=out, **truth) == 0
    assert summary(out)["taken_over"] == 3
    assert {row["truth"] for row in rows(out, "labels")} == {None, "green"}


def test_a_truth_that_contradicts_itself(tmp_path, color_model, capsys):
    flags = {"input": write_colors(tmp_path / "p"), "model": color_model}
    (tmp_path / "truth.csv").write_text("image,label\np/red-0.png,red\np/red-0.png,blue\n")
    assert run(**flags, output=tmp_path / "out", truth=tmp_path / "truth.csv") == 1
    assert "/p/red-0.png has several classes: blue, red" in capsys.readouterr().err


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


# Bad images among good ones


def bad_files():
    """Twenty kinds of bad file: name → content, reason."""
    png, jpeg = image_file("red", "PNG", (200, 150)), image_file("red", "JPEG", (200, 150))
    webp, bmp = image_file("red", "WEBP", (200, 150)), image_file("red", "BMP", (200, 150))
    bomb = bytearray(png)
    bomb[16:24] = (60000).to_bytes(4, "big") * 2
    bomb[29:33] = zlib.crc32(bomb[12:29]).to_bytes(4, "big")
    damaged = bytearray(png)
    damaged[len(png) // 2] ^= 0xFF
    heic = b"\0\0\0\x18ftypheic" + bytes(200)
    return {
        "empty.jpg": (b"", "empty"),
        "zeros.jpg": (bytes(4096), "not_an_image"),
        "page.jpg": (b"<!DOCTYPE html><title>404</title>", "not_an_image"),
        "error.png": (b'{"error": "access denied"}', "not_an_image"),
        "text.gif": (b"hello, world\n", "not_an_image"),
        "archive.webp": (b"PK\x03\x04" + bytes(100), "not_an_image"),
        "noise.bmp": (bytes(range(7, 256)) * 9, "not_an_image"),
        "half.jpg": (jpeg[: len(jpeg) // 2], "truncated"),
        "header.jpg": (jpeg[:100], "truncated"),
        "half.png": (png[: len(png) // 2], "truncated"),
        "half.webp": (webp[: len(webp) // 2], "truncated"),
        "half.bmp": (bmp[: len(bmp) // 2], "truncated"),
        "start.jpg": (b"\xff\xd8\xff", "truncated"),
        "damaged.png": (bytes(damaged), "corrupt"),
        "no-header.gif": (b"GIF89a", "corrupt"),
        "no-header.tif": (b"II*\0", "corrupt"),
        "phone.heic": (heic, "unsupported_format"),
        "scan.jpg": (b"%PDF-1.7\n" + bytes(100), "unsupported_format"),
        "layers.psd": (b"8BPS\0\1" + bytes(100), "unsupported_format"),
        "bomb.png": (bytes(bomb), "too_many_pixels"),
    }


def test_twenty_kinds_of_bad_files_among_good_ones(tmp_path, color_model, capsys):
    write_colors(tmp_path / "p", 30)
    bad = bad_files()
    assert len(bad) == 20
    for name, (content, _) in bad.items():
        (tmp_path / "p" / name).write_bytes(content)
    (tmp_path / "p" / "broken-link.jpg").symlink_to("nowhere")
    out = tmp_path / "out"
    argv = {"input": tmp_path / "p", "model": color_model, "output": out}
    assert run(**argv, max_failure_ratio=0.5, batch_size=4) == 0
    labeled = {Path(row["image"]).name: row["label"] for row in rows(out, "labels")}
    assert labeled == {f"{color}-{n}.png": color for n, color in enumerate(list(COLORS) * 10)}
    failed = {Path(row["image"]).name: row["reason"] for row in rows(out, "failures")}
    expected = {name: reason for name, (_, reason) in bad.items()}
    assert failed == expected | {"broken-link.jpg": "not_found"}
    assert summary(out)["failure_reasons"]["truncated"] == 6
    assert "failures: 6 not_an_image, 6 truncated, 3 corrupt, 3 unsupported_format, 1 empty" in (
        capsys.readouterr().out
    )


def test_too_many_failures(tmp_path, color_model, capsys):
    write_colors(tmp_path / "p", 9)
    (tmp_path / "p" / "bad.jpg").touch()
    flags = {"input": tmp_path / "p", "model": color_model}
    assert run(**flags, output=tmp_path / "a") == 0  # a tenth is not more than a tenth
    assert capsys.readouterr().err.count("error") == 0
    assert run(**flags, output=tmp_path / "b", max_failure_ratio=0.09) == 1
    assert capsys.readouterr().err.endswith(
        "error: 10.0% of the images failed, more than --max_failure_ratio 0.09 allows; "
        "the results are kept\n"
    )
    assert len(rows(tmp_path / "b", "labels")) == 9
    assert summary(tmp_path / "b")["failed"] == 1


def test_too_many_failures_fail_a_job_that_nobody_waits_for(tmp_path, color_model, capsys):
    """As that of a template, whose exit code nobody sees; its results are whole all the same."""
    write_colors(tmp_path / "p", 9)
    (tmp_path / "p" / "bad.jpg").touch()
    flags = {"input": tmp_path / "p", "model": color_model, "template_location": "gs://b/job"}
    assert run(**flags, output=tmp_path / "a") == 0
    assert run(**flags, output=tmp_path / "b", max_failure_ratio=0.09) == 1
    assert "10.0% of the images failed, more than --max_failure_ratio 0.09" in (
        capsys.readouterr().err
    )
    assert summary(tmp_path / "b")["failed"] == 1
    assert len(rows(tmp_path / "b", "labels")) == 9


def test_limits_are_flags(tmp_path, color_model):
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "good.png").write_bytes(image_file("red"))
    (tmp_path / "p" / "wide.png").write_bytes(image_file("red", size=(100, 100)))
    (tmp_path / "p" / "long.bmp").write_bytes(image_file("red", "BMP", (60, 60)))
    flags = {"input": tmp_path / "p", "model": color_model, "output": tmp_path / "out"}
    limits = {"max_image_pixels": 5000, "max_image_bytes": 5000, "max_failure_ratio": 1}
    with HttpServer({"/slow.png": Answer(image_file(), delay=60)}) as server:
        argv = ["--input", server.url("/slow.png")]
        assert run(*argv, **flags, **limits, read_timeout_seconds=0.1) == 0
        assert server.requests["/slow.png"] == 4
    failed = {Path(row["image"]).name: row["reason"] for row in rows(tmp_path / "out", "failures")}
    assert failed == {
        "wide.png": "too_many_pixels",
        "long.bmp": "too_large",
        "slow.png": "timeout",
    }


def test_secrets_are_nowhere_to_be_seen(tmp_path, color_model, capsys):
    photos = {"/a.png": image_file("red"), "/b.png": Answer(status=403), "/c.png": b"<html>"}
    with HttpServer(photos) as server:
        address = server.url("").replace("http://", "http://user:SECRET@")
        urls = [f"{address}{path}?id=7&X-Amz-Signature=SECRET" for path in photos]
        urls.append(unused_url("/d.png?token=SECRET"))
        (tmp_path / "list.txt").write_text("\n".join(urls))
        out = tmp_path / "out"
        flags = {"input": tmp_path / "list.txt", "model": color_model, "output": out}
        assert run("--input", *urls, **flags, max_failure_ratio=1) == 0
    (labeled,) = rows(out, "labels")
    assert labeled["image"] == server.url("/a.png?id=7")
    reasons = {row["image"].rpartition("/")[2]: row["reason"] for row in rows(out, "failures")}
    expected = {"b.png?id=7": "forbidden", "c.png?id=7": "not_an_image", "d.png": "unavailable"}
    assert reasons == expected
    console = capsys.readouterr()
    written = [path.read_text() for path in out.iterdir()]
    assert "SECRET" not in "".join([console.out, console.err, *written])


# Bad batches


def poisoned_by(color):
    """A model that fails on a batch if an image of this color is in it."""
    channel = list(COLORS).index(color)

    def classify(images):
        logits = color_logits(images)
        bad = tf.reduce_any(tf.argmax(logits, 1) == channel)
        # A division by zero of integers is an error on a CPU.
        return logits + tf.cast(1 // (1 - tf.cast(bad, tf.int32)), tf.float32)

    return only_when_probed(classify)


def test_one_poisonous_image_in_a_batch_of_64(tmp_path):
    (tmp_path / "p").mkdir()
    for n in range(64):
        color = "blue" if n == 37 else "red"
        (tmp_path / "p" / f"{n}.png").write_bytes(image_file(color))
    out = tmp_path / "out"
    model = save_model(tmp_path / "m", poisoned_by("blue"))
    assert run(input=tmp_path / "p", model=model, output=out) == 0
    assert len(rows(out, "labels")) == 63
    (failure,) = rows(out, "failures")
    assert failure["image"] == f"{tmp_path}/p/37.png"
    assert (failure["stage"], failure["reason"]) == ("predict", "prediction_failed")
    assert failure["message"].startswith("the model fails on a batch of 1 images: ")
    assert summary(out)["failure_reasons"] == {"prediction_failed": 1}


def test_a_batch_that_does_not_fit_in_memory(tmp_path, capsys):
    model = save_hungry_model(tmp_path / "m", most=32)
    photos = write_colors(tmp_path / "p", 150)
    assert run(input=photos, model=model, output=tmp_path / "out") == 0
    assert summary(tmp_path / "out")["labeled"] == 150
    warnings = re.findall(r"warning: (\d+) images at a time do not fit", capsys.readouterr().err)
    assert warnings == ["64"]


# What the user has to correct


def mistakes(tmp_path, color_model):
    """Wrong arguments, and what is to be said of them."""
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
        "no classifier": (right | {"model": no_classifier}, "a classifier returns float [2, cl"),
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


# Runs that must not end green


class LosesOne(SavedModelHandler):
    """Returns a result too few for each batch; keyed results are then zipped, without a word."""

    def run_inference(self, batch, model, inference_args=None):
        return super().run_inference(batch, model, inference_args)[:-1]


def test_a_handler_that_returns_too_few_results(tmp_path, color_model, monkeypatch, capsys):
    monkeypatch.setattr(handler, "SavedModelHandler", LosesOne)
    out = tmp_path / "out"
    assert run(input=write_colors(tmp_path / "p"), model=color_model, output=out) == 1
    assert (
        "error: the run failed: 3 images found, 2 labeled and 0 failed: the counts do not add up"
        in capsys.readouterr().err
    )
    assert not (out / "summary.json").exists()


def test_a_model_that_fails_on_all_images(tmp_path, capsys):
    """The run ends early and red, not after a row for each of them."""

    def broken(images):
        return tf.matmul(color_logits(images), tf.ones([4 + tf.shape(images)[0], 3]))

    model = save_model(tmp_path / "m", only_when_probed(broken))
    photos = write_colors(tmp_path / "p", 300)
    out = tmp_path / "out"
    flags = {"input": photos, "model": model, "output": out, "max_failure_ratio": 1}
    assert run(**flags) == 1
    error = capsys.readouterr().err
    assert (
        "error: the run failed: the model fails on 128 images in a row: the model fails on a"
        in error
    )
    assert "Traceback" not in error
    assert not list(out.glob("labels-*"))
    assert not (out / "summary.json").exists()


def test_a_list_that_changes_after_the_check(tmp_path, color_model, monkeypatch, capsys):
    photos = write_colors(tmp_path / "p")
    validate = label.validate

    def validate_and_empty(config):
        result = validate(config)
        shutil.rmtree(photos)
        return result

    monkeypatch.setattr(label, "validate", validate_and_empty)
    assert run(input=photos, model=color_model, output=tmp_path / "out") == 1
    assert "no images were found when the pipeline listed the inputs" in capsys.readouterr().err


def test_a_full_disk(tmp_path, color_model, monkeypatch, capsys):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    create = FileSystems.create

    def full_for_results(path, *args):
        return full() if layout.SUMMARY in path else create(path, *args)

    monkeypatch.setattr(FileSystems, "create", full_for_results)
    assert run(input=write_colors(tmp_path / "p"), model=color_model, output=tmp_path / "out") == 1
    error = capsys.readouterr().err
    assert "error: the run failed: [Errno 28] No space left on device" in error
    assert "Traceback" not in error


def test_a_failed_run_ends_although_images_are_being_read(tmp_path):
    """One image never comes, and the model fails on those that did."""

    def fails_later(images):
        return tf.matmul(color_logits(images), tf.ones([4 + tf.shape(images)[0], 3]))

    model = save_model(tmp_path / "m", only_when_probed(fails_later))
    with HttpServer({"/slow.jpg": Answer(image_file(), delay=600)}) as server:
        lines = [server.url("/slow.jpg"), *(f"{n}.png" for n in range(200))]
        write_many(tmp_path / "p", 200)
        (tmp_path / "p" / "list.txt").write_text("\n".join(lines))
        started = time.monotonic()
        done = run_process(
            *(f"--input={tmp_path}/p/list.txt", f"--model={model}", "--batch_size=1"),
            f"--output={tmp_path}/out",
        )
    assert done.returncode == 1
    assert "error: the run failed: the model fails on 128 images in a row" in done.stderr
    assert time.monotonic() - started < 28  # the server's answer is waited for for 30 s


def only_when_probed(otherwise):
    """Well behaved with the images of the probe, which are noise."""
    return lambda images: tf.cond(
        tf.reduce_max(tf.math.reduce_std(images, [1, 2])) > 0.1,
        lambda: color_logits(images),
        lambda: otherwise(images),
    )


def write_many(folder, count):
    folder.mkdir()
    for n in range(count):
        (folder / f"{n}.png").write_bytes(image_file("red"))


# Real weights and real photographs


@pytest.fixture(scope="session")
def truth(fixtures):
    """File name → class id."""
    with (fixtures / "photos" / "truth.csv").open() as file:
        return {row["file"]: int(row["class_id"]) for row in csv.DictReader(file)}


def check_photos(out, truth):
    """The reference figures hold."""
    labeled = {Path(row["image"]).name: row for row in rows(out, "labels")}
    assert summary(out)["found"] == summary(out)["labeled"] == 201
    hopper = labeled["grace_hopper.bmp"]
    assert (hopper["class_id"], hopper["label"]) == (653, "military uniform")
    assert hopper["score"] == pytest.approx(0.906, abs=0.01)
    assert (hopper["width"], hopper["height"]) == (512, 600)
    top_1 = [row["class_id"] == truth[name] for name, row in labeled.items() if name in truth]
    top_5 = [
        truth[name] in [prediction["class_id"] for prediction in row["predictions"]]
        for name, row in labeled.items()
        if name in truth
    ]
    print(f"top-1 {sum(top_1) / len(top_1):.4f}, top-5 {sum(top_5) / len(top_5):.4f}")
    assert sum(top_1) >= 0.80 * len(truth)
    assert sum(top_5) >= 0.95 * len(truth)


def test_real_photographs(fixtures, truth, tmp_path):
    out = tmp_path / "out"
    assert (
        run(
            input=fixtures / "photos",
            model=fixtures / "models" / "mobilenet_v2_classification.tar.gz",
            labels_file=fixtures / "labels" / "imagenet_labels.txt",
            output=out,
        )
        == 0
    )
    check_photos(out, truth)


def test_a_hub_handle(fixtures, truth, tmp_path, monkeypatch, capsys):
    """The one of tfhub.dev's, from a local server."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    archive = (fixtures / "models" / "mobilenet_v2_classification.tar.gz").read_bytes()
    names = (fixtures / "labels" / "imagenet_labels.txt").read_bytes()
    path = "/google/tf2-preview/mobilenet_v2/classification/2"
    with HttpServer({path: truncated(archive, len(archive) // 2), "/labels.txt": names}) as server:
        monkeypatch.setattr(class_names, "IMAGENET_LABELS_URL", server.url("/labels.txt"))
        flags = {"model": server.url(path), "input": fixtures / "photos"}
        assert run(**flags, output=tmp_path / "0") == 2
        assert "the download failed or is truncated" in capsys.readouterr().err

        server.answers[path] = archive
        assert run(**flags, output=tmp_path / "1") == 0
        assert server.requests == {path: 2, "/labels.txt": 1}
        assert run(**flags, output=tmp_path / "2") == 0
        assert server.requests == {path: 2, "/labels.txt": 1}
    check_photos(tmp_path / "1", truth)
    assert sorted(row["image"] for row in rows(tmp_path / "2", "labels")) == sorted(
        row["image"] for row in rows(tmp_path / "1", "labels")
    )


def test_a_hub_handle_that_is_forbidden(tmp_path, capsys):
    with HttpServer({"/model/1": Answer(status=403)}) as server:
        flags = {"model": server.url("/model/1"), "input": "sample", "output": tmp_path}
        assert run(**flags) == 2
    assert "the download failed or is truncated: 403 " in capsys.readouterr().err


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
