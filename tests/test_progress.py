import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time

import pytest
from helpers import ROOT

from pipeline import console, progress
from pipeline.progress import Counts, in_words

SHOW_CURSOR, HIDE_CURSOR = "\x1b[?25h", "\x1b[?25l"


def wait_for_line(capsys):
    """What is on standard error once there is a whole line."""
    text = ""
    deadline = time.monotonic() + 60
    while "\n" not in text and time.monotonic() < deadline:
        time.sleep(0.01)
        text += capsys.readouterr().err
    return text


# Without a terminal


def test_says_how_far_it_is(capsys):
    with progress.shown(first=0.05, between=0.05):
        progress.add(found=10_000)
        progress.add(to_do=8000, set_aside=2000)
        progress.add(done=1200, failed=3)
        assert wait_for_line(capsys).startswith("0 s: 1,200 of 8,000 done, 3 failed")
        progress.add(done=100)
        wait_for_line(capsys)
        line = wait_for_line(capsys)
    assert re.match(r"0 s: 1,300 of 8,000 done, 3 failed, [\d,.]+ images/s, \d+ s left\n", line)


def test_says_that_it_runs_while_nothing_is_done_yet(capsys):
    with progress.shown(first=0.05, between=0.05):
        assert wait_for_line(capsys).startswith("0 s: running\n")
        progress.add(found=1234)
        wait_for_line(capsys)
        assert wait_for_line(capsys).startswith("0 s: 1,234 found\n")


def test_the_total_is_not_told_before_it_is_known(capsys):
    with progress.shown(first=0.05, between=0.05):
        progress.add(found=5, done=2)
        assert re.match("0 s: 2 done, 0 failed\n", wait_for_line(capsys))


def test_says_what_it_does_when_all_images_are_done(capsys):
    with progress.shown(first=0.05, between=0.05):
        progress.add(found=2, to_do=2, done=2)
        line = wait_for_line(capsys)
    assert line.startswith("0 s: 2 done, 0 failed, writing the results\n")


def test_a_short_run_says_nothing(capsys):
    with progress.shown():
        progress.add(done=1)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("counts", "total"),
    [
        (Counts(found=9), None),
        (Counts(found=9, to_do=2), 9),  # others may yet be set aside
        (Counts(found=9, to_do=2, set_aside=7), 2),
        (Counts(found=9, set_aside=9), 0),
        (Counts(found=9, to_do=9, done=10), 10),  # a bundle was tried again: not past 100 %
    ],
)
def test_the_total(counts, total):
    assert counts.total == total


def test_the_rate_is_that_of_the_last_minute():
    rate = progress._Rate()
    assert rate.at(20, Counts()) == 0
    assert rate.at(30, Counts(done=64)) == 0  # with them the model was loaded
    assert rate.at(31, Counts(done=160, failed=4)) == 100
    for second in range(32, 200):
        rate.at(second, Counts(done=164))
    assert rate.at(200, Counts(done=164)) == 0


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.4, "0 s"),
        (99.4, "99 s"),
        (99.6, "2 min"),
        (22 * 60, "22 min"),
        (11_100, "3 h 5 min"),
        (10_000_000, "2,777 h 47 min"),
    ],
)
def test_times_in_words(seconds, words):
    assert in_words(seconds) == words


# On a terminal


class Terminal:
    """What is written to a pseudo-terminal, as it comes."""

    def __init__(self):
        self.text = ""
        self._master, self.end = pty.openpty()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        try:
            while data := os.read(self._master, 4096):
                self.text += data.decode()
        except OSError:  # its other end was closed
            pass

    def wait_for(self, pattern):
        deadline = time.monotonic() + 60
        while not re.search(pattern, self.text):
            assert time.monotonic() < deadline, self.text
            time.sleep(0.01)


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    terminal = Terminal()
    yield terminal
    os.close(terminal.end)


def test_a_bar_on_a_terminal(terminal, monkeypatch):
    with open(terminal.end, "w", closefd=False) as file:
        monkeypatch.setattr(sys, "stderr", file)
        with progress.shown():
            terminal.wait_for("0 s: running")
            progress.add(found=1234)
            terminal.wait_for("1,234 found")
            progress.add(to_do=1000, set_aside=234)
            terminal.wait_for("0 of 1,000 done, 0 failed")
            progress.add(done=400, failed=3)
            terminal.wait_for("400 of 1,000 done, 3 failed")
            progress.add(done=100)
            terminal.wait_for(r"500 of 1,000 done, 3 failed, [\d,.]+ images/s, \d+ s left .*━")
            console.say("warning: [bold]a line[/bold] " + 40 * "that is longer ")
            terminal.wait_for(r"warning: \[bold\]a line\[/bold\] (that is longer ){40}\r\n")
            print("another's line", file=sys.stderr)
            terminal.wait_for("another's line *\r\n")
            progress.add(done=497)
            terminal.wait_for("997 done, 3 failed, writing the results")
        console.say("after it")
        terminal.wait_for("after it\r\n")
    assert terminal.text.rindex(SHOW_CURSOR) > terminal.text.rindex(HIDE_CURSOR)
    # What was the bar's line is erased.
    assert terminal.text.endswith("\x1b[2Kafter it\r\n")


def test_a_terminal_that_can_do_nothing_gets_lines(terminal, monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    with open(terminal.end, "w", closefd=False) as file:
        monkeypatch.setattr(sys, "stderr", file)
        with progress.shown(first=0.05, between=0.05):
            terminal.wait_for("0 s: running\r\n")
    assert "\x1b" not in terminal.text


def test_ctrl_c_takes_the_bar_off_the_terminal(terminal):
    code = """if True:
        import functools, signal, time
        from pipeline import __main__, progress
        signal.signal(signal.SIGINT, functools.partial(__main__._interrupt, 2))
        with progress.shown():
            progress.add(found=9, to_do=9, done=4)
            time.sleep(60)
    """
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stderr=terminal.end)
    terminal.wait_for("4 of 9 done.*\r")
    os.write(terminal.end, b"^C")  # as the terminal itself does
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    terminal.wait_for("the same command again: .*\r\n")
    assert terminal.text.rindex(SHOW_CURSOR) > terminal.text.rindex(HIDE_CURSOR)
    assert "\r^C" in terminal.text  # where it is erased with the bar
    assert "\x1b[2Kinterrupted: 4 images done, 0 failed; to resume, run" in terminal.text
