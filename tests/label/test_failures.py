"""Images that fail alone, and runs that fail because of them."""

import errno
import re
import shutil
import time
import zlib
from pathlib import Path

from apache_beam.io.filesystems import FileSystems
from helpers.http_server import Answer, HttpServer, unused_url
from helpers.models import COLORS, color_logits, image_file, save_hungry_model, save_model
from helpers.runs import rows, run, run_process, summary, write_colors

from pipeline.label import job as label
from pipeline.models import handler
from pipeline.models.handler import SavedModelHandler
from pipeline.models.tensorflow_import import tf
from pipeline.outputs import layout


def only_when_probed(otherwise):
    """Well behaved with the images of the probe, which are noise."""
    return lambda images: tf.cond(
        tf.reduce_max(tf.math.reduce_std(images, [1, 2])) > 0.1,
        lambda: color_logits(images),
        lambda: otherwise(images),
    )


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
        "phone.heic": (heic, "corrupt"),  # nothing but its first box
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
    assert "failures: 6 not_an_image, 6 truncated, 4 corrupt, 2 unsupported_format, 1 empty" in (
        capsys.readouterr().out
    )


def test_too_many_failures(tmp_path, color_model, capsys):
    write_colors(tmp_path / "p", 9)
    (tmp_path / "p" / "bad.jpg").touch()
    flags = {"input": tmp_path / "p", "model": color_model}
    assert run(**flags, output=tmp_path / "a") == 0  # a tenth is not more than a tenth
    assert capsys.readouterr().err.count("error") == 0
    assert run(**flags, output=tmp_path / "b", max_failure_ratio=0.09) == 1
    bad = tmp_path / "p" / "bad.jpg"
    message = summary(tmp_path / "b")["failure_examples"]["empty"]["message"]
    assert capsys.readouterr().err.endswith(
        f"\nempty, such as {bad}: {message}\n"
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

    def full_for_results(path, *args, **more):
        return full() if layout.SUMMARY in path else create(path, *args, **more)

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


def write_many(folder, count):
    folder.mkdir()
    for n in range(count):
        (folder / f"{n}.png").write_bytes(image_file("red"))
