"""Turns at hosts, and what servers that are busy ask for."""

import contextlib
import math
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from helpers.http_server import Answer, HttpServer, redirect

from pipeline import storage
from pipeline.errors import ImageError, StoreError
from pipeline.records import Reason
from pipeline.storage import hosts
from pipeline.storage.errors import wait_in
from pipeline.storage.hosts import Hosts

pytestmark = pytest.mark.usefixtures("servers_here")

NOW = "Wed, 25 Nov 2026 10:00:00 GMT"


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch):
    monkeypatch.setattr(hosts, "_FIRST_WAIT", 0.001)
    monkeypatch.setattr(hosts, "_JITTER", 0)


@pytest.mark.parametrize(
    ("retry_after", "seconds"),
    [
        ("7", 7),
        (" 7 ", 7),
        ("Wed, 25 Nov 2026 10:00:09 GMT", 9),
        ("Wednesday, 25-Nov-26 10:00:09 GMT", 9),
        ("Wed, 25 Nov 2026 11:00:09 +0100", 9),
        ("9" * 9, 999999999),
        ("9" * 5000, math.inf),
        ("0", None),
        ("-7", None),
        ("Wed, 25 Nov 2026 09:00:00 GMT", None),
        ("Wed, 99 Nov 2026 09:00:00 GMT", None),
        ("Wed, 25 Nov 99999999999 09:00:00 GMT", None),
        ("soon", None),
        ("1e3", None),
        ("nan", None),
        ("٣", None),
        ("", None),
        (None, None),
    ],
)
def test_what_a_header_asks_for(retry_after, seconds):
    assert wait_in(retry_after, NOW) == seconds


def test_a_time_without_the_servers_own_is_measured_here():
    assert wait_in("Fri, 01 Jan 2100 00:00:00 GMT", "nonsense") > 1e9


def busy(wait):
    return StoreError(Reason.UNAVAILABLE, "429 Too Many Requests", wait)


def ask(all_hosts, error=None):
    with all_hosts.turn("host", 4):
        if error is not None:
            raise error


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_a_host_is_asked_by_so_many_at_a_time():
    all_hosts = Hosts()
    present, most, lock = 0, 0, threading.Lock()

    def enter(name):
        nonlocal present, most
        with all_hosts.turn(name, 3):
            with lock:
                present += 1
                most = max(most, present)
            time.sleep(0.01)
            with lock:
                present -= 1

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(enter, ["host"] * 48))
        assert most == 3
        list(threads.map(enter, ["host", "other", "third"] * 16))
        assert 3 < most <= 9
    assert not all_hosts._hosts  # a list may name millions


def test_waits_are_bounded_by_what_a_host_asks_for_until_it_answers():
    clock = Clock()
    all_hosts = Hosts(clock)
    for wait in (50, 60):
        with pytest.raises(StoreError) as caught:
            ask(all_hosts, busy(wait))
        assert caught.value.wait == wait
        clock.now += wait
    with pytest.raises(StoreError, match=r"asks to wait 20 s .* longer") as caught:
        ask(all_hosts, busy(20))
    assert caught.value.wait == math.inf
    ask(all_hosts)  # it is not waited for, and answers
    with pytest.raises(StoreError) as caught:
        ask(all_hosts, busy(20))
    assert caught.value.wait == 20


@pytest.mark.parametrize("wait", [121, 1e6, math.inf])
def test_one_wait_that_is_too_long_holds_up_nobody(wait):
    all_hosts = Hosts(Clock())
    with pytest.raises(StoreError, match=r"asks to wait (121 s|1,000,000 s|forever)") as caught:
        ask(all_hosts, busy(wait))
    assert caught.value.wait == math.inf
    ask(all_hosts)


def test_a_host_that_sends_everybody_away_is_left_alone():
    clock = Clock()
    all_hosts = Hosts(clock)
    for _ in range(hosts._REFUSALS):
        with pytest.raises(StoreError, match="asks to wait 3,600 s"):
            ask(all_hosts, busy(3600))
    asked = []
    with pytest.raises(StoreError, match="asks to wait 3,600 s"), all_hosts.turn("host", 4):
        asked.append(1)
    assert not asked
    clock.now += 3601
    ask(all_hosts)
    ask(all_hosts)


def test_nobody_waits_longer_than_wanted():
    all_hosts = Hosts(Clock())
    with pytest.raises(StoreError):
        ask(all_hosts, busy(60))
    with pytest.raises(StoreError, match="asks to wait 60 s"), all_hosts.turn("host", 4, 20):
        pass


def test_half_as_many_at_a_time_after_a_wait_and_one_more_after_a_round():
    clock = Clock()
    all_hosts = Hosts(clock)
    with contextlib.ExitStack() as stack:
        stack.enter_context(pytest.raises(StoreError))
        for _ in range(4):
            stack.enter_context(all_hosts.turn("host", 8))
        raise busy(1)
    host = all_hosts._hosts["host"]
    assert host.most == 2
    clock.now += 1
    with all_hosts.turn("host", 8):
        ask(all_hosts)
        assert host.most == 2
        ask(all_hosts)
        assert host.most == 3


# On a server


@pytest.mark.parametrize("status", [429, 503])
def test_a_wait_is_no_attempt_and_is_for_all_threads(status):
    answer = Answer(status=status, headers={"Retry-After": "1"})
    with HttpServer({f"/{n}": b"%d" % n for n in range(12)}) as server:
        server.busy = lambda number, method: answer if number == 5 else None
        with ThreadPoolExecutor(12) as threads:
            read_ = threads.map(storage.read_bytes, [server.url(f"/{n}") for n in range(12)])
            assert list(read_) == [b"%d" % n for n in range(12)]
        later = storage.read_bytes(server.url("/0"))
    assert later == b"0"
    [refused] = [request for request in server.log if request.status == status]
    after = [request.time - refused.time for request in server.log if request.time > refused.time]
    assert all(seconds < 0.3 or seconds >= 1 for seconds in after)
    [again] = [r for r in server.log if r.path == refused.path and r.time > refused.time]
    assert again.time - refused.time >= 1


def test_more_waits_than_attempts():
    answer = Answer(status=429, headers={"Retry-After": "1"})
    with HttpServer({"/a": [*[answer] * 4, b"1"]}) as server:
        assert storage.read_bytes(server.url("/a")) == b"1"
        assert server.requests["/a"] == 5


@pytest.mark.parametrize(
    ("retry_after", "requests"), [("-1", 4), ("0", 4), ("soon", 4), ("86400", 1), ("9" * 400, 1)]
)
def test_hostile_waits(retry_after, requests):
    started = time.monotonic()
    answer = Answer(status=503, headers={"Retry-After": retry_after})
    with HttpServer({"/a": answer, "/b": b"1"}) as server:
        with pytest.raises(ImageError) as caught:
            storage.read_bytes(server.url("/a"))
        assert caught.value.reason is Reason.UNAVAILABLE
        assert ("asks to wait" in caught.value.message) == (requests == 1)
        assert server.requests["/a"] == requests
        assert storage.read_bytes(server.url("/b")) == b"1"
    assert time.monotonic() - started < 5


def test_the_server_behind_a_redirect_is_obeyed():
    answer = Answer(status=429, headers={"Retry-After": "1"})
    with (
        HttpServer({"/a": [answer, b"1"]}) as images,
        HttpServer({"/a": redirect(images.url("/a"))}) as server,
    ):
        assert storage.read_bytes(server.url("/a")) == b"1"
        first, second = images.log
        assert second.time - first.time >= 1
        assert len(server.log) == 2


def test_a_version_is_waited_for():
    answer = Answer(status=429, headers={"Retry-After": "1"})
    with HttpServer({"/a": [answer, Answer(b"1", headers={"ETag": '"x"'})]}) as server:
        assert storage.version(server.url("/a")) == '"x"'
