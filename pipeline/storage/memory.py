"""Bounds the memory for files that a process is reading, or has read and not yet done with."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Iterator

# Bytes of files that a process holds at a time, unless a single file has more. At 200 kB each,
# those of all reading threads are a fortieth of it.
_MOST = 512 * 2**20

# What is kept free for a file of unknown size. It counts in full, but larger files are read once
# more, unless there is room for the rest, so it is that of a large photograph.
UNKNOWN = 4 * 2**20


class NeedsMemoryError(Exception):
    """A file turned out to be larger than there is room for; it is read again when there is.

    Attributes:
      size: bytes that it needs at most.
    """

    def __init__(self, size: int):
        super().__init__(f"{size} bytes")
        self.size = size


class Claim:
    """The part of a budget that one file has."""

    def __init__(self, budget: Budget):
        self._budget = budget
        self.size = 0
        self.is_over = False

    def grow(self, size: int, most: int) -> None:
        """Have room for so many bytes in all, without a wait.

        Args:
          size: of what has arrived, or of all if it is known.
          most: the size that the file has at most.

        Raises:
          NeedsMemoryError: there is no room now.
        """
        if not self._budget.grow(self, size):
            raise NeedsMemoryError(most)

    def renew(self, size: int) -> None:
        """Give back the room that there is, and wait for room for so many bytes."""
        self._budget.give_back(self)
        self._budget.take(self, size)


class Budget:
    """Bytes that the threads of a process share.

    Nobody who waits has any, so there is always somebody who goes on. A file that is larger than
    the whole budget waits until it is alone. Whoever comes first is served first, so that large
    files have their turn.

    Args:
      most: the bytes.
    """

    def __init__(self, most: int):
        self._most = most
        self._held = 0
        self._changed = threading.Condition()
        self._queue: deque[Claim] = deque()

    @contextlib.contextmanager
    def claim(self, size: int) -> Iterator[Claim]:
        """In this context, there is room for a file of so many bytes; waits for it."""
        claim = Claim(self)
        self.take(claim, size)
        try:
            yield claim
        finally:
            claim.is_over = True
            self.give_back(claim)

    def take(self, claim: Claim, size: int) -> None:
        """Wait for so many bytes, and give them to a claim that has none."""
        with self._changed:
            self._queue.append(claim)
            self._changed.wait_for(
                lambda: self._queue[0] is claim and (not self._held or self._fits(size))
            )
            self._queue.popleft()
            self._held += size
            claim.size = size
            self._changed.notify_all()

    def grow(self, claim: Claim, size: int) -> bool:
        """Let a claim have so many bytes in all; False if there are too few, or it is over.

        A thread that was given up since it took too long may still be reading.
        """
        with self._changed:
            if claim.is_over:
                return False
            more = max(size - claim.size, 0)
            if more and not self._fits(more):
                return False
            self._held += more
            claim.size += more
            return True

    def give_back(self, claim: Claim) -> None:
        """Take from a claim what it has."""
        with self._changed:
            self._held -= claim.size
            claim.size = 0
            self._changed.notify_all()

    def _fits(self, size: int) -> bool:
        return self._held + size <= self._most


BUDGET = Budget(_MOST)
