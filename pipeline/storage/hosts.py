"""Takes turns at hosts: so many requests at a time, and none while a host asks to wait.

A host is a server, or a bucket. All threads of a process share what is known of it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import threading
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

import tenacity

from pipeline.errors import StoreError
from pipeline.records import Reason

# The requests that a server gets at a time, as from three browsers. Object stores take any number.
MAX_IN_FLIGHT = 16

# The longest wait, in seconds, that a host may ask for: at once, and in all until it has answered.
MAX_WAIT = 120.0

# How often one request is sent again because its host has asked to wait.
_MOST_WAITS = 10

# After so many answers in a row that ask for more than that, the host is left alone for the time
# that it has named. One such answer may be about one file.
_REFUSALS = 16

# Whoever waits for a turn looks again after so many seconds, whatever happens.
_LOOK_AGAIN = 1.0

# How often a request is made if its failure may pass, and the seconds before the second attempt.
# Each further wait is twice as long. Up to so many seconds of jitter are added, so that threads
# that failed together do not return together.
_ATTEMPTS = 4
_FIRST_WAIT = 0.5
_JITTER = 0.25

T = TypeVar("T")


@dataclasses.dataclass(slots=True)
class _Host:
    """What is known of a host. Times are those of the clock.

    Attributes:
      changed: tells the waiting threads that there may be a turn.
      users: threads that have a turn or wait for one.
      in_flight: turns that are taken.
      most: turns that may be taken at a time.
      until: no request is sent before this time.
      waited: the seconds that it has asked for since it last answered.
      refusals: how many answers in a row have asked for too long a wait.
      closed_until: the time that the last of these named.
      answers: good answers since ``most`` last changed.
    """

    changed: threading.Condition
    users: int = 0
    in_flight: int = 0
    most: float = math.inf
    until: float = 0.0
    waited: float = 0.0
    refusals: int = 0
    closed_until: float = 0.0
    answers: int = 0


class Hosts:
    """The hosts that a process talks to.

    Args:
      clock: returns seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._lock = threading.Lock()
        self._hosts: dict[str, _Host] = {}

    @contextlib.contextmanager
    def turn(self, name: str, most: float = math.inf, max_wait: float = MAX_WAIT) -> Iterator[None]:
        """Make one request in this context, which begins when the host may be asked.

        After an answer that asks to wait, nobody asks this host for so long, and then half as many
        at a time as before. Each round of good answers allows one more.

        Args:
          name: of the host.
          most: requests at a time.
          max_wait: seconds that a wait may take.

        Raises:
          StoreError: the host asks for a longer wait than ``max_wait``, or, in this context, than
            ``MAX_WAIT``. Its ``wait`` is infinite.
        """
        with self._lock:
            host = self._hosts.get(name)
            if host is None:
                host = self._hosts[name] = _Host(threading.Condition(self._lock), most=most)
            host.users += 1
            try:
                self._take(host, max_wait)
            except StoreError:
                self._leave(name, host)
                raise
        try:
            yield
        except StoreError as error:
            with self._lock:
                if error.wait is None:
                    if not error.reason.is_transient:  # an answer, if not the one that was wanted
                        self._answered(host, most)
                    raise
                if not self._postpone(host, error.wait):
                    raise _too_long(error.wait) from error
            raise
        else:
            with self._lock:
                self._answered(host, most)
        finally:
            with self._lock:
                host.in_flight -= 1
                host.changed.notify()
                self._leave(name, host)

    def _take(self, host: _Host, max_wait: float) -> None:
        while True:
            now = self._clock()
            if host.refusals >= _REFUSALS and now < host.closed_until:
                raise _too_long(host.closed_until - now)
            left = host.until - now
            if left > max_wait:
                raise _too_long(left)
            if left <= 0 and host.in_flight < host.most:
                host.in_flight += 1
                return
            host.changed.wait(left if left > 0 else _LOOK_AGAIN)

    def _leave(self, name: str, host: _Host) -> None:
        """Forget a host that nobody uses, since a list may name millions."""
        host.users -= 1
        remembers = host.waited or host.refusals or host.until > self._clock()
        if not host.users and not remembers:
            del self._hosts[name]

    def _answered(self, host: _Host, most: float) -> None:
        host.waited, host.refusals = 0.0, 0
        host.answers += 1
        if host.most < most and host.answers >= host.most:
            host.most, host.answers = host.most + 1, 0
            host.changed.notify()

    def _postpone(self, host: _Host, seconds: float) -> bool:
        """Let nobody ask the host for a time; False if it has asked for too much."""
        until = self._clock() + seconds
        longer = max(until - max(host.until, self._clock()), 0.0)
        if seconds > MAX_WAIT or host.waited + longer > MAX_WAIT:
            host.refusals += 1
            host.closed_until = until
            return False
        if self._clock() >= host.until:  # answers to requests that crossed count as one
            host.most = max(min(host.most, host.in_flight) // 2, 1)
            host.answers = 0
        host.waited += longer
        host.until = max(host.until, until)
        return True


HOSTS = Hosts()


def _too_long(seconds: float) -> StoreError:
    asked = f"{seconds:,.0f} s" if seconds < 1e9 else "forever"
    return StoreError(
        Reason.UNAVAILABLE,
        f"the server is busy, and asks to wait {asked} (Retry-After), which is longer than this "
        f"run waits ({MAX_WAIT:.0f} s)",
        math.inf,
    )


def obeying(request: Callable[[], T]) -> T:
    """Make a request again for as long as its host asks to wait, which ``turn`` does.

    Args:
      request: makes it in ``turn``, and raises ``StoreError``.

    Raises:
      StoreError: it failed for another reason; or the waits are too many or too long, and the
        error's ``wait`` is infinite.
    """
    waited = 0.0
    for _ in range(_MOST_WAITS):
        try:
            return request()
        except StoreError as error:
            waited += error.wait or 0.0
            if error.wait is None or waited == math.inf:
                raise
            if waited > MAX_WAIT:
                raise _too_long(waited) from error
    try:
        return request()
    except StoreError as error:
        if error.wait is not None:
            error.wait = math.inf
        raise


def persistently(request: Callable[[], T], attempts: int | None = None) -> T:
    """Make a request to a store or server, again if its failure may pass, with growing waits.

    Waits that its host asks for are obeyed, and do not count as attempts; see ``obeying``.

    Args:
      request: makes it in ``turn``, and raises ``StoreError``.
      attempts: how often, at most; None for four times.

    Raises:
      StoreError: the last attempt failed, or an earlier one for good.
    """
    retrying = tenacity.Retrying(
        stop=tenacity.stop_after_attempt(attempts or _ATTEMPTS),
        wait=tenacity.wait_exponential_jitter(_FIRST_WAIT, jitter=_JITTER),
        retry=tenacity.retry_if_exception(_may_pass),
        reraise=True,
    )
    return retrying(obeying, request)


def _may_pass(error: BaseException) -> bool:
    if not isinstance(error, StoreError) or error.wait == math.inf:
        return False
    return error.reason.is_transient
