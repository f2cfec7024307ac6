"""The bound: no engine. The same decode and the same model call, overlapped by threads.

What is left to do for two cores when nothing is spent on distribution and bookkeeping.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

from common import BATCH_SIZE, arguments, decode, load, write

THREADS = 3
AHEAD = 2 * BATCH_SIZE


def answers(paths: list[str], model: str) -> Iterator[tuple[str, int]]:
    """Each path with its class."""
    with ThreadPoolExecutor(THREADS) as threads:
        remaining = iter(paths)
        pending = deque(threads.submit(decode, path) for path in islice(remaining, AHEAD))
        predict = load(model)
        for start in range(0, len(paths), BATCH_SIZE):
            batch = paths[start : start + BATCH_SIZE]
            pixels = [pending.popleft().result() for _ in batch]
            pending.extend(threads.submit(decode, path) for path in islice(remaining, len(batch)))
            yield from zip(batch, predict(pixels), strict=True)


if __name__ == "__main__":
    paths, model, rows = arguments()
    write(rows, answers(paths, model))
