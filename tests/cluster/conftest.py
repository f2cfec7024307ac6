"""One Flink cluster for all tests here: the one of ``launch/flink.sh``."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from helpers import ROOT

SCRIPT = ROOT / "launch" / "flink.sh"


def pytest_collection_modifyitems(items):
    missing = [name for name in ("java", "mvn") if shutil.which(name) is None]
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.cluster)
            if missing:
                item.add_marker(pytest.mark.skip(reason=f"not installed: {', '.join(missing)}"))


class Cluster:
    """A Flink cluster of two TaskManagers.

    Attributes:
      folder: has its logs and the ids of its processes.
    """

    def __init__(self, folder):
        self.folder = folder
        path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
        self._environment = os.environ | {"PATH": path, "CLUSTER": str(folder)}

    def call(self, *argv):
        """Run ``flink.sh``; return what it has printed and its exit code."""
        return subprocess.run(
            [SCRIPT, *argv],
            cwd=ROOT,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=600,
            check=False,
        )

    def label(self, *argv, **flags):
        """Run ``label`` there, to a good end; return what it has printed."""
        ended = self.call("label", *argv, *(f"--{name}={value}" for name, value in flags.items()))
        assert ended.returncode == 0, ended.stdout
        return ended.stdout

    def begin(self, *argv):
        """Start ``label`` there; return its process."""
        return subprocess.Popen(
            [SCRIPT, "label", *argv],
            cwd=ROOT,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def process(self, name):
        """The process with this name in ``flink.sh``, such as ``pool-1``."""
        return psutil.Process(int((self.folder / f"{name}.pid").read_text().split()[0]))

    def processes(self):
        """All processes of the cluster that live."""
        mains = [self.process(path.stem) for path in self.folder.glob("*.pid")]
        return [one for main in mains for one in (main, *main.children(recursive=True))]

    def workers(self):
        """The workers of both pools that live."""
        return [
            worker
            for pool in ("pool-1", "pool-2")
            for worker in self.process(pool).children(recursive=True)
            if worker.status() != psutil.STATUS_ZOMBIE
        ]


@pytest.fixture(scope="session")
def cluster(tmp_path_factory):
    one = Cluster(tmp_path_factory.mktemp("flink") / "cluster")
    try:
        started = one.call("start")
        assert started.returncode == 0, started.stdout
        yield one
        running = one.processes()
        assert len(running) >= 6  # JobManager, job server, TaskManagers, pools
    finally:
        stopped = one.call("stop")
    assert stopped.returncode == 0, stopped.stdout
    assert [process for process in running if process.is_running()] == []
