"""Keeps a few of many items, in bounded memory, and always the same ones."""

from __future__ import annotations

import heapq
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Least(Generic[T]):
    """The items with the smallest keys of all that were offered, in any order.

    With ``tally.hash_of`` of their names as keys, they are a random sample. It depends only on the
    items, not on their order or their files.

    Args:
      size: the maximum number of items.
    """

    def __init__(self, size: int):
        self._size = size
        # Python's heaps have the smallest in front, but here the greatest must go first.
        self._heap: list[tuple[_Reversed, T]] = []

    def wants(self, key: Any) -> bool:
        """Tell whether an item with this key would be kept now."""
        if len(self._heap) < self._size:
            return True
        return bool(self._heap) and key < self._heap[0][0].key

    def offer(self, key: Any, item: T) -> None:
        """Keep the item if its key is among the smallest so far."""
        if not self.wants(key):
            return
        entry = (_Reversed(key), item)
        if len(self._heap) < self._size:
            heapq.heappush(self._heap, entry)
        else:
            heapq.heapreplace(self._heap, entry)

    def items(self) -> list[T]:
        """Return the kept items, smallest key first."""
        return [item for _, item in sorted(self._heap, key=lambda entry: entry[0].key)]


class _Reversed:
    """A key that sorts in reverse."""

    __slots__ = ("key",)

    def __init__(self, key: Any):
        self.key = key

    def __lt__(self, other: _Reversed) -> bool:
        return bool(other.key < self.key)

    def __eq__(self, other: object) -> bool:
        # Items are never compared, not even with equal keys.
        return False
