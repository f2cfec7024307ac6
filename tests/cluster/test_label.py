"""The label job on Flink: the rows of the local runner, also when a TaskManager dies."""

import signal
import time

import psutil
import pytest
from helpers.http_server import HttpServer
from helpers.models import COLORS, image_file
from helpers.runs import comparable, nights, rows, run, summary

SAMPLE = {"input": "sample", "model": "sample", "truth": "parent"}


def until(condition, seconds=30):
    """Wait for a condition; return whether it came."""
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.1)
    return condition()


def test_the_sample_has_the_same_rows_as_on_the_local_runner(tmp_path, cluster):
    assert run(**SAMPLE, output=tmp_path / "here") == 0
    console = cluster.label(**SAMPLE, output=tmp_path / "there")
    assert "123 found = 120 labeled + 3 failed in " in console
    assert "accuracy 0.9" in console
    assert comparable(tmp_path / "there") == comparable(tmp_path / "here")


def test_photographs_have_the_same_rows(tmp_path, cluster, fixtures):
    flags = {
        "input": fixtures / "photos",
        "model": fixtures / "models" / "mobilenet_v2_classification.tar.gz",
        "labels_file": fixtures / "labels" / "imagenet_labels.txt",
    }
    assert run(**flags, output=tmp_path / "here") == 0
    cluster.label(**flags, output=tmp_path / "there")
    here, there = comparable(tmp_path / "here"), comparable(tmp_path / "there")
    assert here.keys() == there.keys()
    assert len(here) == 201
    for image, row in here.items():
        assert row["label"] == there[image]["label"]
        assert row["score"] == pytest.approx(there[image]["score"], abs=1e-5)


def test_a_night_after_a_night_of_a_server_that_wants_a_header(tmp_path, cluster, color_model):
    """Workers have the options of the job: how servers are asked."""
    headers = tmp_path / "headers"
    headers.write_text("X-Api-Key: s3cret-s3cret\n")
    flags = {"model": color_model, "output": tmp_path / "out", "http_headers": headers}
    with HttpServer({f"/{color}.png": image_file(color) for color in COLORS}) as server:
        (tmp_path / "list.txt").write_text(
            "".join(f"{server.url(path)}\n" for path in server.answers)
        )
        flags["input"] = tmp_path / "list.txt"
        for _ in range(2):
            console = cluster.label("--incremental", "--allow_private_addresses", **flags)
        assert {request.headers.get("X-Api-Key") for request in server.log} == {"s3cret-s3cret"}
    first, second = nights(tmp_path / "out")
    assert (summary(first)["labeled"], summary(second)["labeled"]) == (3, 0)
    assert summary(second)["skipped"] == 3
    assert "s3cret" not in console


def test_a_task_manager_is_killed_and_the_job_ends_with_the_same_rows(tmp_path, cluster):
    out = tmp_path / "there"
    argv = [*(f"--{name}={value}" for name, value in SAMPLE.items()), f"--output={out}"]
    with cluster.begin(*argv, "--checkpoint_every=5", "--batch_size=1") as process:
        try:
            while not list((out / ".unfinished").glob("labels-*.jsonl")):
                assert process.poll() is None, process.communicate()[0]
                time.sleep(0.01)
            victim = cluster.process("task-manager-2")
            victim.send_signal(signal.SIGKILL)
            psutil.wait_procs([victim], 10)
            assert cluster.call("status").returncode == 1
            # As whatever keeps a real cluster alive does.
            assert cluster.call("start").returncode == 0
            console = process.communicate(timeout=600)[0]
        finally:
            process.kill()
    assert process.returncode == 0, console
    assert run(**SAMPLE, output=tmp_path / "here") == 0
    assert comparable(out) == comparable(tmp_path / "here")
    assert len(rows(out, "labels")) == 120
    assert "123 found = 120 labeled + 3 failed in " in console
    # The workers of the dead one have ended, too.
    assert until(lambda: not cluster.workers()), cluster.workers()
