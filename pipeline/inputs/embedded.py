"""Loads images that are inside of other files: in records of TFRecord files, in cells of tables.

The files are read twice: once for the names, and again for the images to label. So only names are
shuffled, and a worker holds the bytes of a few images at a time.

An input whose images are all files of their own needs none of this, see ``InputKind``.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Iterable, Iterator

import apache_beam as beam

from pipeline.errors import ImageError, InputError, StoreError
from pipeline.formats import parquet
from pipeline.formats.tables import open_unzipped
from pipeline.inputs import tfrecords
from pipeline.inputs.columns import bytes_in
from pipeline.records import ImageRef, Reason
from pipeline.redaction import name_of

# Rows of a table that are loaded in one go. More would be faster for tables whose row groups are
# larger; fewer spread better over workers.
_ROWS = 10_000


class LoadEmbedded(beam.PTransform):
    """Expects ``ImageRef``s, outputs them with ``data`` if they are inside of other files.

    The shuffle also spreads the images over the workers.
    """

    def expand(self, refs: beam.PCollection[ImageRef]) -> beam.PCollection[ImageRef]:
        """Read each file, or part of a table, once.

        All images go one way. If those in files of their own went past the shuffle, a runner would
        run all that follows in two stages, and load the model in both.
        """
        return (
            refs
            | "ByFile" >> beam.Map(_by_file)
            | beam.GroupByKey()
            | "Read" >> beam.FlatMapTuple(lambda _, refs: load_embedded(refs))
        )


def _by_file(ref: ImageRef) -> tuple[tuple[str, int], ImageRef]:
    if ref.place is None:
        return (ref.uri, 0), ref
    return (ref.place.file, ref.place.position // _ROWS if ref.place.column else 0), ref


def load_embedded(refs: Iterable[ImageRef]) -> Iterator[ImageRef]:
    """Add the bytes of images inside of other files as ``data``; other images stay as they are.

    An image that is no longer there has that as its ``problem``.

    Raises:
      InputError: a file cannot be read.
    """
    by_file = itertools.groupby(
        sorted(refs, key=lambda ref: ref.place or ("", 0)), lambda ref: ref.place and ref.place.file
    )
    for file, inside in by_file:
        yield from _load_from(file, list(inside)) if file else inside


def _load_from(file: str, refs: Iterable[ImageRef]) -> Iterator[ImageRef]:
    waiting = {ref.place.position: ref for ref in refs if ref.place}
    for position, data in _read(file, list(waiting.values())):
        yield waiting.pop(position)._replace(data=data)
        if not waiting:
            return
    for ref in waiting.values():
        yield ref._replace(problem=(Reason.UNREADABLE, f"{name_of(file)} has changed meanwhile"))


def _read(file: str, refs: list[ImageRef]) -> Iterator[tuple[int, bytes]]:
    """Yield the positions and the bytes of some images, in the order of their positions."""
    places = [ref.place for ref in refs if ref.place]
    positions = [place.position for place in places]
    column = places[0].column
    if not column:
        wanted = set(positions)
        for position, record in enumerate(tfrecords.read(file)):
            if position in wanted:
                yield position, record.data
        return
    try:
        with open_unzipped(file) as table:
            for row, cell in parquet.read_cells(table, column, positions):
                data = bytes_in(cell)
                if data is not None:
                    yield row, data
    except (StoreError, ImageError, ValueError, OSError, EOFError, zlib.error) as error:
        raise InputError(f"the table {name_of(file)} cannot be read: {error}") from error
