import re
import time

from pipeline import progress


def wait_for_line(capsys):
    """What is on standard error once there is a whole line."""
    text = ""
    deadline = time.monotonic() + 60
    while "\n" not in text and time.monotonic() < deadline:
        time.sleep(0.01)
        text += capsys.readouterr().err
    return text


def test_says_how_far_it_is(capsys):
    with progress.shown(seconds_between_lines=0.05):
        progress.add(done=1200, failed=3)
        line = wait_for_line(capsys)
    assert re.match(r"0 s: 1,200 done, 3 failed, [\d.]+ images/s\n", line)


def test_says_that_it_runs_while_nothing_is_done_yet(capsys):
    with progress.shown(seconds_between_lines=0.05):
        assert wait_for_line(capsys).startswith("0 s: running\n")


def test_a_short_run_says_nothing(capsys):
    with progress.shown():
        progress.add(done=1)
    assert capsys.readouterr().err == ""
