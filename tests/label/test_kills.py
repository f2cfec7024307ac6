"""Processes that are killed or interrupted, and what their runs keep."""

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions
from helpers import ROOT
from helpers.emulators import s3_emulator
from helpers.http_server import Answer, HttpServer
from helpers.models import image_file
from helpers.runs import WHOLE, comparable, files, run_process, summary, write_colors

from pipeline import storage
from pipeline.label import runs
from pipeline.label.lock import FILE_NAME


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
            r"loading [^\n]+\n"
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
