"""Gives calls of stores and servers a time limit."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from pipeline.errors import StoreError
from pipeline.records import Reason

# A thread that waits for a store cannot be stopped. One that takes too long is left alone until its
# socket gives up, and another thread goes on; so there may be many more threads than readers. Idle
# threads are reused, and none is started before it is needed.
_THREADS = ThreadPoolExecutor(1024, thread_name_prefix="store")

T = TypeVar("T")


def within(seconds: float, function: Callable[..., T], *args: Any) -> T:
    """Return the result of a call to a store or server.

    Raises:
      StoreError: there is no result in time. The call goes on, and its result is dropped.
    """
    future = _THREADS.submit(function, *args)
    concurrent.futures.wait([future], seconds)
    if not future.done():
        future.cancel()  # in case it still waits for a thread
        raise StoreError(Reason.TIMEOUT, f"no complete answer within {seconds:g} s")
    return future.result()
