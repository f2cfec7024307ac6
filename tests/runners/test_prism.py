"""The label job, unchanged, on Prism: Beam's runner in Go, with workers in processes of their own.

``make prism`` builds it where Go is.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from helpers import ROOT
from helpers.runs import comparable, run, summary

PRISM = Path(sys.executable).parent / "prism"

pytestmark = pytest.mark.skipif(not PRISM.exists(), reason="Prism is not built: make prism")


def free_port():
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


def wait_for(port):
    for _ in range(200):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.1)
    raise TimeoutError(f"nothing listens on {port}")


@contextlib.contextmanager
def running(*command, log):
    """A process and its children, until the end of the block."""
    path = os.pathsep.join((str(PRISM.parent), os.environ["PATH"]))  # of the workers' python
    environment = os.environ | {
        "PATH": path,
        "PYTHONPATH": str(ROOT),  # the workers have this code, whatever is installed
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    with (
        log.open("wb") as file,
        subprocess.Popen(command, stdout=file, stderr=file, env=environment) as process,
    ):
        try:
            yield process
        finally:
            with contextlib.suppress(psutil.NoSuchProcess):  # it has ended by itself
                for one in [*psutil.Process(process.pid).children(recursive=True), process]:
                    one.kill()


class Cluster:
    """Prism and a pool of workers.

    Attributes:
      flags: with which a command runs there.
      pool: the process of the pool.
    """

    def __init__(self, job_port, pool_port, pool):
        self.flags = [
            "--runner=PortableRunner",
            f"--job_endpoint=localhost:{job_port}",
            "--environment_type=EXTERNAL",
            f"--environment_config=localhost:{pool_port}",
        ]
        self.pool = pool

    def workers(self):
        """The workers' processes."""
        return psutil.Process(self.pool.pid).children(recursive=True)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    logs = tmp_path_factory.mktemp("logs")
    job_port, pool_port = free_port(), free_port()
    pool = (sys.executable, str(ROOT / "launch" / "worker_pool.py"))
    prism = (str(PRISM), f"-job_port={job_port}", "-serve_http=false", "-log_level=error")
    with (
        running(*prism, log=logs / "prism"),
        running(*pool, f"127.0.0.1:{pool_port}", log=logs / "pool") as process,
    ):
        wait_for(job_port)
        wait_for(pool_port)
        yield Cluster(job_port, pool_port, process)


def test_the_sample_has_the_same_rows_as_on_the_local_runner(tmp_path, cluster, capsys):
    flags = {"input": "sample", "model": "sample", "truth": "parent"}
    assert run(**flags, output=tmp_path / "here") == 0
    capsys.readouterr()
    assert run(*cluster.flags, **flags, output=tmp_path / "there") == 0
    console = capsys.readouterr().out
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
    assert run(*cluster.flags, **flags, output=tmp_path / "there") == 0
    here, there = comparable(tmp_path / "here"), comparable(tmp_path / "there")
    assert here.keys() == there.keys()
    assert len(here) == 201
    for image, row in here.items():
        assert row["label"] == there[image]["label"]
        assert row["score"] == pytest.approx(there[image]["score"], abs=1e-5)


def test_a_night_after_a_night(tmp_path, cluster):
    flags = {"input": "sample", "model": "sample", "output": tmp_path / "out"}
    argv = ["--incremental", *cluster.flags]
    assert run(*argv, **flags) == 0
    assert run(*argv, **flags) == 0
    first, second = sorted((tmp_path / "out").iterdir())
    assert (summary(first)["labeled"], summary(second)["labeled"]) == (120, 0)
    assert summary(second)["skipped"] == 123


def test_a_worker_is_killed_and_the_same_command_finishes(tmp_path, cluster):
    """Prism does not try bundles again, as clusters do: the job fails, and is gone on with."""
    flags = {"input": "sample", "model": "sample"}
    assert run(**flags, output=tmp_path / "here") == 0
    command = [sys.executable, "-m", "pipeline", "label", *cluster.flags, "--checkpoint_every=10"]
    command += ["--input=sample", "--model=sample", f"--output={tmp_path}/there", "--batch_size=1"]
    with running(*command, log=tmp_path / "log") as process:
        kept = tmp_path / "there" / ".unfinished"
        while not list(kept.glob("labels-*.jsonl")):
            assert process.poll() is None, (tmp_path / "log").read_text()
            time.sleep(0.01)
        for worker in cluster.workers():
            worker.send_signal(signal.SIGKILL)
        assert process.wait(90) == 1
    assert not (tmp_path / "there" / "summary.json").exists()
    assert run(*cluster.flags, **flags, output=tmp_path / "there") == 0
    assert comparable(tmp_path / "there") == comparable(tmp_path / "here")
    assert summary(tmp_path / "there")["taken_over"] >= 10


def test_ctrl_c_cancels_the_job(tmp_path, cluster):
    """The output is free after that, and the same command goes on."""
    out = tmp_path / "out"
    command = [sys.executable, "-m", "pipeline", "label", *cluster.flags, "--checkpoint_every=10"]
    command += ["--input=sample", "--model=sample", f"--output={out}", "--batch_size=1"]
    with running(*command, log=tmp_path / "log") as process:
        while not list((out / ".unfinished").glob("labels-*.jsonl")):
            assert process.poll() is None, (tmp_path / "log").read_text()
            time.sleep(0.01)
        assert "job" in json.loads((out / ".claim").read_text())
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    said = (tmp_path / "log").read_text()
    assert "canceling the job label-out-" in said
    assert "Traceback" not in said and "ERROR" not in said
    assert "job" not in json.loads((out / ".claim").read_text())
    assert run(*cluster.flags, input="sample", model="sample", output=out) == 0
    assert summary(out)["taken_over"] >= 10
