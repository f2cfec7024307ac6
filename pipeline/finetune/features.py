"""Computes what training needs of the images once, in a Beam pipeline, and keeps it.

A store of records is a folder in the cache with shards of tf.Examples, ``failures-*.jsonl`` and,
once it is whole, ``complete.json``. Its name is a checksum of everything on which it depends: the
images, the model and the preprocessing. So a second training finds it and computes nothing.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

import apache_beam as beam
import numpy as np
from apache_beam.io.textio import WriteToText
from apache_beam.io.tfrecordio import WriteToTFRecord
from apache_beam.ml.inference.base import KeyedModelHandler, RunInference

from pipeline import storage
from pipeline.errors import PredictionError
from pipeline.finetune import splits
from pipeline.finetune.dataset import FindImagesWithTruth
from pipeline.finetune.near_duplicates import hash_of_pixels
from pipeline.finetune.survey import Survey
from pipeline.formats.registry import FORMATS
from pipeline.inputs.embedded import LoadEmbedded
from pipeline.limits import Limits
from pipeline.models.decoding import pixel_decoder_for
from pipeline.models.handler import SavedModelHandler
from pipeline.models.loading import load_extractor
from pipeline.models.spec import ExtractorSpec
from pipeline.models.tensorflow_import import tf
from pipeline.outputs import layout
from pipeline.records import Answer, DecodedImage, Failure, ImageInfo, ImageRef, Place
from pipeline.redaction import name_of
from pipeline.tally import CountRecords, Tally, reconcile
from pipeline.transforms import DecodeImages

COMPLETE = "complete.json"

_KEYS = FORMATS["tfrecord"].column_names

# Raise this when the same images, model and options give other records.
_FORMAT = 3

# What is carried with an image between its decoding and its record.
_LOOKS = "looks"


class Record(NamedTuple):
    """One image of a store.

    ``content``: the SHA-256 of its file. ``part``: that of the split it comes with, or empty.
    ``looks``: see ``near_duplicates.hash_of_pixels``. ``place``: see ``ImageRef``. ``values``: see
    the store.
    """

    uri: str
    truth: str
    content: str
    part: str
    looks: int | None
    place: Place | None
    values: np.ndarray


class ComputeFeatures(beam.PTransform):
    """Expects ``DecodedImage``s with a truth, outputs tf.Examples with features as bytes.

    Args:
      spec: of the feature extractor.
      batch_size: images per call of the extractor.
    """

    def __init__(self, spec: ExtractorSpec, batch_size: int):
        super().__init__()
        load = functools.partial(load_extractor, spec)
        self._handler = SavedModelHandler(load, batch_size)

    def expand(self, decoded: beam.PCollection[DecodedImage]) -> beam.PCollection[bytes]:
        """Decode and call the extractor as the label job does, without predictions."""
        return (
            decoded
            | "Key" >> beam.Map(tuple)
            | "RunInference" >> RunInference(KeyedModelHandler(self._handler))
            | "Example" >> beam.MapTuple(feature_example).with_output_types(bytes)
        )


class PackPixels(beam.PTransform):
    """Expects ``DecodedImage``s with a truth, outputs tf.Examples with their pixels as bytes."""

    def expand(self, decoded: beam.PCollection[DecodedImage]) -> beam.PCollection[bytes]:
        """Encode the pixels, in one step."""
        return decoded | "Example" >> beam.MapTuple(pixel_example).with_output_types(bytes)


def feature_example(info: ImageInfo, answer: Answer) -> bytes:
    """Serialize a tf.Example with the features, float32 ``[features]``.

    Raises:
      PredictionError: the extractor fails on this image.
    """
    if isinstance(answer.value, str):
        raise PredictionError(f"{info.uri}: {answer.value}")
    return _example(info, answer.value.astype("<f4").tobytes())


def pixel_example(info: ImageInfo, pixels: np.ndarray) -> bytes:
    """Serialize a tf.Example with the pixels, uint8 ``[height, width, 3]``."""
    return _example(info, pixels.tobytes())


def _example(info: ImageInfo, values: bytes) -> bytes:
    texts = {
        _KEYS["image"]: info.uri.encode(),
        _KEYS["label"]: (info.truth or "").encode(),
        "image/sha256": info.content.encode(),
        "values": values,
    }
    if splits.COLUMN in info.carried:
        texts["split"] = info.carried[splits.COLUMN].encode()
    if info.place is not None:
        place = info.place._replace(file=name_of(info.place.file))
        texts["place"] = json.dumps(place).encode()
    feature = {
        key: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
        for key, value in texts.items()
    }
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()


def store_name(*parts: object) -> str:
    """Make the name of a store that depends on these values."""
    return hashlib.sha256(repr((_FORMAT, parts)).encode()).hexdigest()[:32]


def is_complete(store: str) -> bool:
    """Tell whether a store is complete."""
    return storage.exists(storage.join(store, COMPLETE))


def build(
    pipeline: beam.Pipeline,
    survey: Survey,
    spec: ExtractorSpec,
    compute: ComputeFeatures | PackPixels,
    store: str,
    limits: Limits,
) -> None:
    """Wire the pipeline that fills a store. ``complete.json`` comes last, if the counts add up."""
    decode = pixel_decoder_for(spec, limits)
    refs = pipeline | "Find" >> FindImagesWithTruth(survey.inputs, survey.split)
    decoded, failures = (
        refs
        | "Load" >> LoadEmbedded()  # which spreads them
        | "Decode" >> DecodeImages(decode, run_id="")
    )
    examples = decoded | "Hash" >> beam.Map(_with_looks) | "Compute" >> compute
    shards = examples | "WriteExamples" >> WriteToTFRecord(
        storage.join(store, "examples"), file_name_suffix=".tfrecord"
    )
    failure_shards = (
        failures
        | "FailureRows" >> beam.Map(_failure_row).with_output_types(str)
        | "WriteFailures"
        >> WriteToText(storage.join(store, layout.FAILURES), file_name_suffix=".jsonl")
    )
    count = beam.combiners.Count.Globally()
    _ = (
        pipeline
        | "Store" >> beam.Create([store])
        | "Complete"
        >> beam.Map(
            _complete,
            found=beam.pvalue.AsSingleton(refs | "CountFound" >> count),
            computed=beam.pvalue.AsSingleton(examples | "CountComputed" >> count),
            failed=beam.pvalue.AsSingleton(
                failures | "CountFailed" >> beam.CombineGlobally(CountRecords())
            ),
            written=beam.pvalue.AsIter((shards, failure_shards) | beam.Flatten()),
        )
    )


def _with_looks(image: DecodedImage) -> DecodedImage:
    info, pixels = image
    looks = hash_of_pixels(np.asarray(pixels))
    return DecodedImage(info._replace(carried={**info.carried, _LOOKS: looks}), pixels)


def _failure_row(failure: Failure) -> str:
    return failure._replace(carried={}).to_json()


def _complete(store: str, found: int, computed: int, failed: Tally, written: object) -> None:
    del written
    reconcile(Tally(found), Tally(computed), Tally(failed.images))
    content = {"found": found, "computed": computed, "failure_reasons": dict(failed.reasons)}
    storage.write_file(storage.join(store, COMPLETE), json.dumps(content).encode())


def remove_leftovers(store: str) -> None:
    """Delete what a killed run has left of a store."""
    storage.delete([file.path for file in storage.list_files(f"{store}/")])


def failure_reasons(store: str) -> Counter[str]:
    """Count the failures of a complete store by reason."""
    with storage.open_file(storage.join(store, COMPLETE)) as file:
        return Counter(json.loads(file.read())["failure_reasons"])


def failures(store: str, run_id: str) -> Iterator[Failure]:
    """Yield the failures of a complete store as failures of the run that uses it."""
    for shard in storage.find(store, f"{layout.FAILURES}-*.jsonl"):
        with storage.open_file(shard) as file:
            for line in file.read().splitlines():
                yield Failure(**json.loads(line))._replace(run_id=run_id)


class Records:
    """The records of a complete store, in the order of their URIs, on this machine.

    A store in a bucket is first copied to a temporary folder. Values are read from the shards when
    they are needed, since pixels may not fit in memory; the files are open while in the context.

    Args:
      store: the folder.
      dtype: of the values.
      shape: of the values of one record.
    """

    def __init__(self, store: str, dtype: type, shape: tuple[int, ...]):
        self._dtype = np.dtype(dtype)
        self._shape = shape
        entries = []
        self._files = [path.open("rb") for path in _local_shards(store)]
        for number, file in enumerate(self._files):
            for at, length in _positions(file):
                record, where = self._parse(number, at, length), (number, at, length)
                ref = ImageRef(record.uri, record.truth, place=record.place)
                entries.append((ref, record.content, record.part, record.looks, where))
        entries.sort(key=lambda entry: entry[0].uri)
        self.refs = [entry[0] for entry in entries]
        self.contents = [entry[1] for entry in entries]
        self.parts = [entry[2] for entry in entries]
        self.looks = [entry[3] for entry in entries]
        self._where = [entry[4] for entry in entries]

    def __enter__(self) -> Records:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files:
            file.close()

    def __len__(self) -> int:
        return len(self.refs)

    def values(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Read the values of some records, ``[len(indices), *shape]``; threads may share this."""
        batch = np.empty((len(indices), *self._shape), self._dtype)
        for place, index in enumerate(indices):
            batch[place] = self._parse(*self._where[index]).values
        return batch

    def _parse(self, number: int, at: int, length: int) -> Record:
        data = os.pread(self._files[number].fileno(), length, at)
        feature = tf.train.Example.FromString(data).features.feature
        uri, truth, content, values = (
            feature[key].bytes_list.value[0]
            for key in (_KEYS["image"], _KEYS["label"], "image/sha256", "values")
        )
        place = None
        if "place" in feature:
            place = Place(*json.loads(feature["place"].bytes_list.value[0]))
        part = feature["split"].bytes_list.value[0].decode() if "split" in feature else ""
        looks = int(feature[_LOOKS].bytes_list.value[0]) if _LOOKS in feature else None
        array = np.frombuffer(values, self._dtype).reshape(self._shape)
        return Record(uri.decode(), truth.decode(), content.decode(), part, looks, place, array)


def _positions(file: BinaryIO) -> Iterator[tuple[int, int]]:
    """Find the records of an uncompressed TFRecord file: yield offset and length in bytes.

    The format (tensorflow/core/lib/io/record_writer.h): uint64 length, uint32 checksum, data,
    uint32 checksum.
    """
    number = file.fileno()
    at = 0
    while header := os.pread(number, 12, at):
        length = int.from_bytes(header[:8], "little")
        yield at + 12, length
        at += 12 + length + 4


def _local_shards(store: str) -> list[Path]:
    if not storage.is_remote(store):
        return sorted(Path(store).glob("examples-*.tfrecord"))
    folder = Path(tempfile.mkdtemp(prefix="image-labeling-"))
    for number, path in enumerate(storage.find(store, "examples-*.tfrecord")):
        with storage.open_file(path) as source, (folder / f"{number:05}").open("wb") as copy:
            shutil.copyfileobj(source, copy)
    return sorted(folder.iterdir())
