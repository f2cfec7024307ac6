"""What a decoder does in the sandbox costs one image, whatever it is."""

import concurrent.futures
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from helpers import ROOT
from helpers.corpus import encoded, photo
from helpers.decoders import PRELUDE, file_with
from PIL import Image

from pipeline.errors import ImageError, RunError
from pipeline.images.decode import decode
from pipeline.images.pixels import Target, decode_here
from pipeline.images.sandbox import Sandbox
from pipeline.records import Reason

GOOD = file_with(b"nothing special")
TARGET = Target(24, 32, "bicubic", 10**8)
PIXELS = decode_here(GOOD, TARGET).pixels


@pytest.fixture
def sandbox():
    sandbox = Sandbox(seconds=2, prelude=PRELUDE)
    yield sandbox
    sandbox.close()


def children():
    """The sandboxes of this process."""
    commands = [(p, " ".join(p.cmdline())) for p in psutil.Process().children()]
    return [process for process, command in commands if "images.sandbox import serve" in command]


def is_good(sandbox):
    decoded = sandbox.decode(GOOD, TARGET)
    assert (decoded.width, decoded.height) == (48, 36)
    assert decoded.sandbox_seconds > 0
    return (decoded.pixels == PIXELS).all()


@pytest.mark.parametrize(
    ("word", "message"),
    [
        (b"SEGV", r"its decoder crashed \(SIGSEGV\)"),
        (b"ABRT", r"its decoder crashed \(SIGABRT\)"),
        (b"KILL", r"its decoder crashed \(SIGKILL\)"),
        (b"EXIT", r"its decoder crashed \(exit code 0\)"),
        (b"QUIT", r"its decoder crashed \(exit code 0\)"),
        (b"ODDS", r"its decoder crashed \(exit code 1\)"),
        (b"LOOP", "decoding it took longer than 2 seconds"),
        (b"WAIT", "decoding it took longer than 2 seconds"),
        pytest.param(
            b"ALLO",
            r"decoding it took more than \d+ MB",
            marks=pytest.mark.skipif(sys.platform != "linux", reason="only Linux has the limit"),
        ),
    ],
)
def test_what_a_decoder_does_costs_one_image(sandbox, word, message):
    assert is_good(sandbox)
    before = children()
    with pytest.raises(ImageError, match=message) as caught:
        sandbox.decode(file_with(word), TARGET)
    assert caught.value.reason is Reason.CORRUPT
    assert is_good(sandbox)
    assert len(children()) == len(before)
    assert not [p for p in children() if p.status() == psutil.STATUS_ZOMBIE]


def test_a_decoder_may_print_what_it_likes(sandbox, capfd):
    for _ in range(3):
        assert (sandbox.decode(file_with(b"TALK"), TARGET).pixels == PIXELS).all()
    assert capfd.readouterr() == ("", "")


def test_a_process_is_used_again_and_replaced_where_it_has_ended(sandbox):
    assert is_good(sandbox)
    [process] = sandbox._idle
    assert is_good(sandbox)
    assert sandbox._idle == [process]
    os.kill(process._process.pid, signal.SIGKILL)
    process._process.wait()
    assert is_good(sandbox)
    assert sandbox._idle != [process]


def test_what_cannot_be_decoded_costs_no_process(sandbox):
    assert is_good(sandbox)
    [process] = sandbox._idle
    with pytest.raises(ImageError) as caught:
        sandbox.decode(GOOD[:300], TARGET)
    assert caught.value.reason is Reason.TRUNCATED
    assert sandbox._idle == [process]


def test_many_threads_share_it(sandbox):
    bad = {7, 30, 31, 32, 99}

    def outcome(number):
        try:
            data = file_with(b"SEGV") if number in bad else GOOD
            decoded = sandbox.decode(data, TARGET)
            return bool((decoded.pixels == PIXELS).all())
        except ImageError as error:
            return error.message

    with concurrent.futures.ThreadPoolExecutor(64) as threads:
        outcomes = list(threads.map(outcome, range(120)))
    assert {n for n, result in enumerate(outcomes) if result is not True} == bad
    assert len(sandbox._idle) <= os.cpu_count()


def test_large_images_are_decoded_one_at_a_time(sandbox):
    data = encoded(Image.new("L", (4500, 3600), 77), "JPEG2000", irreversible=True)
    slow = Sandbox()
    with concurrent.futures.ThreadPoolExecutor(2) as threads:
        for decoded in threads.map(slow.decode, [data] * 2, [TARGET] * 2):
            assert abs(decoded.pixels.astype(int) - 77).max() <= 1
    slow.close()


def test_it_starts_soon(sandbox):
    is_good(sandbox)  # whatever has to be read from the disk is in memory now
    taken = []
    for _ in range(3):
        sandbox.close()
        start = time.perf_counter()
        is_good(sandbox)
        taken.append(time.perf_counter() - start)
    print(f"\n{min(taken):.2f} s to start and decode")
    assert min(taken) < 3  # 0.2 where nothing else is going on


def test_it_knows_no_tensorflow_no_beam_and_no_secrets(sandbox, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    assert is_good(sandbox)
    process = psutil.Process(sandbox._idle[0]._process.pid)
    assert "AWS_SECRET_ACCESS_KEY" not in process.environ()
    mapped = " ".join(mapping.path for mapping in process.memory_maps())
    assert "PIL" in mapped
    assert "tensorflow" not in mapped
    assert "apache_beam" not in mapped
    assert os.getsid(process.pid) != os.getsid(0)  # the terminal's Ctrl-C does not reach it


def test_one_that_does_not_start_fails_the_run():
    broken = Sandbox(prelude="import no_such_module")
    with pytest.raises(RunError, match=r"does not start: ModuleNotFoundError: .*no_such_module"):
        broken.decode(GOOD, TARGET)


FORKS = """
import os, sys
sys.path[:0] = ["tests", "."]
from pipeline.images.pixels import Target
from pipeline.images.sandbox import Sandbox
sandbox = Sandbox()
data = open(sys.argv[1], "rb").read()
target = Target(24, 32, "bicubic", 10**8)
sandbox.decode(data, target)
[process] = sandbox._idle
child = os.fork()
if not child:
    alone = sandbox._idle == []
    sandbox.decode(data, target)
    os._exit(0 if alone and sandbox._idle != [process] else 1)
assert os.waitpid(child, 0)[1] == 0
sandbox.decode(data, target)
assert sandbox._idle == [process]
"""


def test_a_forked_process_gets_its_own(tmp_path):
    (tmp_path / "image").write_bytes(GOOD)
    argv = [sys.executable, "-W", "ignore", "-c", FORKS, str(tmp_path / "image")]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


DIES = """
import os, signal, sys, threading, time
sys.path[:0] = ["tests", "."]
from helpers.decoders import PRELUDE
from pipeline.images.pixels import Target
from pipeline.images.sandbox import Sandbox
sandbox = Sandbox(seconds=1, prelude=PRELUDE)
data, bad = (open(path, "rb").read() for path in sys.argv[1].split(":"))
target = Target(24, 32, "bicubic", 10**8)
sandbox.decode(data, target)
print(sandbox._idle[0]._process.pid, flush=True)
if sys.argv[2] == "busy":
    threading.Thread(target=sandbox.decode, args=(bad, target), daemon=True).start()
    time.sleep(0.3)
if sys.argv[2] == "exits":
    sys.exit()
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("how", ["idle", "busy", "exits"])
def test_it_ends_with_the_process_that_started_it(tmp_path, how):
    (tmp_path / "good").write_bytes(GOOD)
    (tmp_path / "bad").write_bytes(file_with(b"LOOP"))
    argv = [sys.executable, "-c", DIES, f"{tmp_path}/good:{tmp_path}/bad", how]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    deadline = time.monotonic() + 30
    while psutil.pid_exists(int(done.stdout)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not psutil.pid_exists(int(done.stdout))


def test_everyday_files_are_decoded_in_this_process():
    for name, options in [("JPEG", {}), ("PNG", {}), ("GIF", {}), ("WEBP", {}), ("BMP", {})]:
        assert decode(encoded(photo(), name, **options), 24, 32).sandbox_seconds == 0
    assert decode(encoded(photo(), "AVIF"), 24, 32).sandbox_seconds > 0


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="only Linux tells it")
def test_memory_is_given_back(sandbox):
    data = encoded(Image.fromarray(np.zeros((3000, 3000, 3), np.uint8)), "JPEG2000")
    patient = Sandbox()
    patient.decode(data, TARGET)
    process = psutil.Process(patient._idle[0]._process.pid)
    once = process.memory_info().rss
    for _ in range(3):
        patient.decode(data, TARGET)
    assert process.memory_info().rss < once + 50_000_000  # of 200 MB that it takes
    patient.close()
