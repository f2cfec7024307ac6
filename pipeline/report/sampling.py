"""Keeps a few items of many, in bounded memory, and always the same ones."""

from __future__ import annotations

import heapq
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Least(Generic[T]):
    """The items with the least keys among all that were offered, in whatever order they came.

    With ``tally.hash_of`` of their names as keys they are a random sample. It depends on the items
    alone, not on their order or on the files that they come from.

    Args:
      size: the maximum number of items.
    """

    def __init__(self, size: int):
        self._size = size
        # Python's heaps have the least in front, and here the greatest goes first.
        self._heap: list[tuple[_Reversed, T]] = []

    def wants(self, key: Any) -> bool:
        """Whether an item with this key would be kept now."""
        if len(self._heap) < self._size:
            return True
        return bool(self._heap) and key < self._heap[0][0].key

    def offer(self, key: Any, item: T) -> None:
        """Keep the item if it is among the least so far."""
        if not self.wants(key):
            return
        entry = (_Reversed(key), item)
        if len(self._heap) < self._size:
            heapq.heappush(self._heap, entry)
        else:
            heapq.heapreplace(self._heap, entry)

    def items(self) -> list[T]:
        """Return what is kept, least key first."""
        return [item for _, item in sorted(self._heap, key=lambda entry: entry[0].key)]


class _Reversed:
    """A key that sorts the other way round."""

    __slots__ = ("key",)

    def __init__(self, key: Any):
        self.key = key

    def __lt__(self, other: _Reversed) -> bool:
        return bool(other.key < self.key)

    def __eq__(self, other: object) -> bool:
        # Items are never compared, not even those of equal keys.
        return False
