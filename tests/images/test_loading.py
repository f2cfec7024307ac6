import threading

import pytest

from pipeline.images.loading import READ_THREADS, InFlight, in_threads, meanwhile


def test_results_come_in_the_order_of_their_ends():
    events = {name: threading.Event() for name in "abc"}

    def wait(name):
        assert events[name].wait(60)
        return name.upper()

    calls = InFlight(wait)
    for key, name in enumerate("abc"):
        calls.submit(key, name)
    assert len(calls) == 3
    taken = []
    for name in "cab":
        events[name].set()
        taken.append(calls.take())
    assert taken == [(2, "C"), (0, "A"), (1, "B")]
    assert not calls


def test_an_error_comes_out_where_the_result_is_taken():
    calls = InFlight(int)
    calls.submit("key", "x")
    with pytest.raises(ValueError, match="invalid literal"):
        calls.take()
    assert not calls


def test_results_in_the_order_of_the_values():
    assert in_threads(str, range(3 * READ_THREADS)) == [str(n) for n in range(3 * READ_THREADS)]


def test_calls_have_ended_when_the_context_has():
    seen = []
    go_on = threading.Event()

    def note(value):
        assert go_on.wait(60)
        seen.append(value)

    with meanwhile(note, range(5)):
        assert seen == []
        go_on.set()
    assert sorted(seen) == [0, 1, 2, 3, 4]
