import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import ROOT

from pipeline import shutdown
from pipeline.errors import StoreError
from pipeline.label import lock
from pipeline.outputs import rows
from pipeline.records import Reason
from pipeline.runners.running import cancel
from pipeline.shutdown import Step, at


@pytest.fixture
def _no_hooks(monkeypatch):
    monkeypatch.setattr(shutdown, "_hooks", {})


def test_every_step_has_its_hook():
    assert shutdown._hooks == {
        Step.KEEP_ROWS: rows.keep_all_rows,
        Step.CANCEL_JOB: cancel,
        Step.RELEASE_LOCK: lock.release_all,
    }


@pytest.mark.usefixtures("_no_hooks")
def test_the_steps_decide_the_order():
    called = []
    for step in reversed(Step):
        at(step)(lambda step=step: called.append(step))
    shutdown.run()
    assert called == [Step.KEEP_ROWS, Step.CANCEL_JOB, Step.RELEASE_LOCK]


@pytest.mark.usefixtures("_no_hooks")
def test_a_step_that_fails_is_said_and_the_others_have_their_turn(capsys):
    called = []

    @at(Step.KEEP_ROWS)
    def keep():
        raise StoreError(Reason.UNAVAILABLE, "the bucket is gone")

    at(Step.RELEASE_LOCK)(lambda: called.append("released"))
    shutdown.run()
    assert called == ["released"]
    assert capsys.readouterr().err == "warning: the bucket is gone\n"


@pytest.mark.parametrize("number", [1, 2])
def test_a_reader_that_ends_first_changes_nothing(number):
    """As in ``… | head``: the run goes on, and its exit code is its own."""
    code = (
        "import sys; from pipeline import __main__\n"
        "def main():\n"
        "    for n in range(100): print(n * 'x', file=sys.stdout, flush=n % 2 > 0)\n"
        "    __main__.say('a line'); return 3\n"
        "__main__.main = main; __main__.console()"
    )
    read, write = os.pipe()
    os.close(read)
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    streams["stdout" if number == 1 else "stderr"] = write
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, text=True, check=False, **streams)
    os.close(write)
    assert done.returncode == 3
    assert (done.stderr == "a line\n") if number == 1 else len(done.stdout) > 5000


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_results_that_cannot_be_printed_are_told():
    code = (
        "from pipeline import __main__; __main__.main = lambda: print('x') or 0; __main__.console()"
    )
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert done.returncode == 1
    assert done.stderr.startswith(b"error: standard output cannot be written: [Errno 28]")
