"""Reads images in TFRecord files of tf.Examples, as TensorFlow and TFX write them.

A record's ``image/encoded`` is the image's file, ``image/filename`` its name, and
``image/class/text`` its true class. A record without a name is named by its file and position,
``photos.tfrecord#0``.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from apache_beam.io.tfrecordio import _TFRecordUtil
from google.protobuf.message import DecodeError

from pipeline import storage
from pipeline.errors import ImageError, InputError, StoreError
from pipeline.formats.registry import FORMATS
from pipeline.formats.tables import open_unzipped
from pipeline.inputs.kinds import Input, InputKind, file_at
from pipeline.records import ImageRef, Place

_KEYS = FORMATS["tfrecord"].column_names

# As TensorFlow, Beam and TFX name them and their shards.
_TFRECORD = re.compile(r"\.tfrecords?(-\d+-of-\d+)?(\.gz)?$", re.IGNORECASE)

# What reading raises: ValueError for a damaged header or checksum, OSError for what is not gzipped.
_DAMAGED = (StoreError, ImageError, ValueError, DecodeError, OSError, EOFError, zlib.error)


def is_tfrecord(name: str) -> bool:
    """Tell by its name whether a file is a TFRecord file."""
    return _TFRECORD.search(name) is not None


def list_records(ref: ImageRef, with_truth: bool = False) -> Iterator[ImageRef]:
    """List the records of a TFRecord file, without their images; anything else stays as it is.

    So does a file that is not there, as one that a list names: it fails when it is read.

    Args:
      ref: the file.
      with_truth: whether the record's own true class is wanted, which may be None.

    Raises:
      InputError: the file cannot be read.
    """
    is_none = ref.place is not None or ref.problem is not None or not is_tfrecord(ref.uri)
    if is_none or not _is_there(ref.uri):
        yield ref
        return
    for position, record in enumerate(read(ref.uri)):
        yield ref._replace(
            uri=record.name or f"{ref.uri}#{position}",
            truth=(record.truth or None) if with_truth else ref.truth,
            place=Place(ref.uri, position),
        )


def _is_there(uri: str) -> bool:
    if storage.is_http(uri):  # servers are asked for the file itself only
        return True
    return storage.exists(uri if storage.is_remote(uri) else storage.local_path(uri))


def _recognize(given: str) -> str | None:
    return file_at(given) if is_tfrecord(given) else None


def _images(source: Input) -> Iterator[ImageRef]:
    yield ImageRef(source.uri)  # its records are listed like those of a file in a list


TFRECORD = InputKind(recognize=_recognize, images=_images, empty="there are no records in it")


class Record(NamedTuple):
    """What a record says about its image; empty if it says nothing."""

    name: str
    truth: str
    data: bytes


def read(uri: str) -> Iterator[Record]:
    """Read the records of a file.

    Raises:
      InputError: it cannot be read.
    """
    from pipeline.models.tensorflow_import import tf  # TensorFlow takes seconds to import

    try:
        with open_unzipped(uri) as file:
            # What Beam's own ReadFromTFRecord calls, which does not report positions.
            for record in iter(lambda: _TFRecordUtil.read_record(file), None):
                feature = tf.train.Example.FromString(record).features.feature
                name, truth, data = (
                    b"".join(feature[key].bytes_list.value[:1])
                    for key in (_KEYS["image"], _KEYS["label"], "image/encoded")
                )
                yield Record(
                    name.decode("utf-8", "replace"), truth.decode("utf-8", "replace"), data
                )
    except _DAMAGED as error:
        raise InputError(f"the TFRecord file {uri} cannot be read: {error}") from error
