"""Joins the rows of two runs by their images, in bounded memory.

The rows lie in shards in any order. They are divided by a hash of their images into files on this
machine's disk, each of which fits in memory: a hash join in partitions, as in DeWitt et al. 1984,
doi:10.1145/602259.602261.
"""

from __future__ import annotations

import contextlib
import json
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.compare.rows import Row, SeveralLabels, row_of
from pipeline.errors import RunError

# Files that are open at a time. With two runs of 10⁷ rows, each has 100,000 rows, which are in
# memory together; with more rows, memory grows.
_FILES = 200


class Pair(NamedTuple):
    """An image, and its rows in both runs; None where it has none."""

    image: str
    a: Row | None
    b: Row | None


def divide(rows: Iterable[dict[str, Any]], side: int, folder: Path) -> bool:
    """Divide the rows of a run into files, by their images.

    Args:
      rows: the older ones first.
      side: 0 for the first of the two runs, 1 for the second.
      folder: for the files; it is on this machine.

    Returns:
      Whether the rows show that an image may have several labels.

    Raises:
      RunError: there is something that is not a row.
    """
    several = SeveralLabels()
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(path.open("a", encoding="ascii")) for path in _paths(folder)]
        for row in rows:
            try:
                image, kept = row["image"], row_of(row)
                several.see(row)
                place = zlib.crc32(image.encode("utf-8", "surrogatepass")) % _FILES
            except (KeyError, TypeError, AttributeError) as error:
                raise RunError(f"there is a row that label has not written: {error!r}") from error
            files[place].write(f"{json.dumps((side, image, kept))}\n")
    return several.found


def join(folder: Path) -> Iterator[Pair]:
    """Yield each image of two divided runs once, with the latest row of each run.

    Args:
      folder: with the files of both; they are deleted.
    """
    for path in _paths(folder):
        sides: tuple[dict[str, Row], dict[str, Row]] = ({}, {})
        with path.open(encoding="ascii") as file:
            for line in file:
                side, image, fields = json.loads(line)
                sides[side][image] = Row(*fields)
        path.unlink()
        first, second = sides
        for image, row in first.items():
            yield Pair(image, row, second.pop(image, None))
        for image, row in second.items():
            yield Pair(image, None, row)


def _paths(folder: Path) -> Sequence[Path]:
    return [folder / f"part-{number}" for number in range(_FILES)]
