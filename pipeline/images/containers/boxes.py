"""Reads files made of boxes, each with its size and kind in front: HEIF, JPEG 2000, JPEG XL."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from pipeline.errors import ImageError
from pipeline.records import Reason

# No honest file has nearly as many in one box.
_MAX_BOXES = 100_000


class Box(NamedTuple):
    """``start`` and ``end``: of its content; ``end`` may be beyond the file's."""

    kind: bytes
    start: int
    end: int


def boxes(data: bytes, start: int = 0, end: int | None = None) -> Iterator[Box]:
    """Yield the boxes between two positions of a file, in order.

    Raises:
      ImageError: there are absurdly many.
    """
    end = len(data) if end is None else min(end, len(data))
    for _ in range(_MAX_BOXES):
        if start + 8 > end:
            return
        size, kind = struct.unpack_from(">I4s", data, start)
        content = start + 8
        if size == 1 and start + 16 <= end:
            (size,) = struct.unpack_from(">Q", data, content)
            content += 8
        following = start + size if size else end
        if following < content:  # not a box
            return
        yield Box(kind, content, following)
        start = following
    raise ImageError(Reason.CORRUPT, f"it has more than {_MAX_BOXES:,} boxes in one")
