"""Images in TFRecord files of tf.Examples, as TensorFlow and TFX write them.

A record's ``image/encoded`` is the image's file, and ``image/filename`` its name; one without a
name is named by its file and position, ``photos.tfrecord#0``.

The files are read twice: once for the names, and again for the images that are to be labeled, so
that names are all that is shuffled.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Iterator

import apache_beam as beam
from apache_beam.io.tfrecordio import _TFRecordUtil
from google.protobuf.message import DecodeError

from pipeline import storage
from pipeline.errors import InputError, StoreError
from pipeline.records import ImageRef

# As TensorFlow, Beam and TFX name them and their shards.
_TFRECORD = re.compile(r"\.tfrecords?(-\d+-of-\d+)?(\.gz)?$", re.IGNORECASE)


def list_records(ref: ImageRef) -> Iterator[ImageRef]:
    """One for each record of a TFRecord file, without its image; any other file as it is.

    Raises:
      InputError: the file cannot be read.
    """
    if not _TFRECORD.search(ref.uri):
        yield ref
        return
    for position, (name, _) in enumerate(_read(ref.uri)):
        yield ref._replace(
            uri=name.decode("utf-8", "replace") or f"{ref.uri}#{position}",
            place=(ref.uri, position),
        )


class LoadRecords(beam.PTransform):
    """Expects ``ImageRef``s, outputs them with ``data`` if they are in TFRecord files.

    What is shuffled is names and positions; the bytes are read after that.
    """

    def expand(self, refs: beam.PCollection[ImageRef]) -> beam.PCollection[ImageRef]:
        """One pass over each file."""
        files, records = refs | "InRecords" >> beam.Partition(_is_record, 2)  # type: ignore[arg-type]
        loaded = (
            records
            | "ByFile" >> beam.Map(lambda ref: (ref.place[0], ref))
            | beam.GroupByKey()
            | "Read" >> beam.FlatMapTuple(load_records)
        )
        return (files, loaded) | beam.Flatten()


def _is_record(ref: ImageRef, partitions: int) -> int:
    return int(ref.place is not None)


def load_records(file: str, refs: Iterable[ImageRef]) -> Iterator[ImageRef]:
    """The images of some records of a file, with their bytes as ``data``.

    Raises:
      InputError: the file cannot be read.
    """
    at = {ref.place[1]: ref for ref in refs if ref.place}
    for position, (_, data) in enumerate(_read(file)):
        if position in at:
            yield at[position]._replace(data=data)


def _read(uri: str) -> Iterator[tuple[bytes, bytes]]:
    """``image/filename`` and ``image/encoded`` of each record, empty if it has none."""
    from pipeline.models.tensorflow_import import tf  # TensorFlow takes seconds to import

    try:
        with storage.open_file(uri, unpack=True) as file:
            # What Beam's own ReadFromTFRecord calls, which does not tell the position.
            records = iter(lambda: _TFRecordUtil.read_record(file), None)
            for record in records:
                feature = tf.train.Example.FromString(record).features.feature
                name, data = (
                    b"".join(feature[key].bytes_list.value[:1])
                    for key in ("image/filename", "image/encoded")
                )
                yield name, data
    # ValueError: a record's header or checksum is damaged.
    except (StoreError, ValueError, DecodeError, EOFError, zlib.error) as error:
        raise InputError(f"the TFRecord file {uri} cannot be read: {error}") from error
