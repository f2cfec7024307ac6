"""What there is to learn from: images with a class, and who of them trains, validates and tests."""

from __future__ import annotations

import dataclasses
import hashlib
import posixpath
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import apache_beam as beam

from pipeline import sample, storage
from pipeline.errors import ImageError, InputError, StoreError
from pipeline.formats import tables
from pipeline.formats.schema import ColumnError
from pipeline.inputs import find as inputs
from pipeline.records import ImageRef

# Of a hundred images, on average; the rest trains.
VALIDATION_PERCENT = 10
TEST_PERCENT = 10

# With fewer, one of the three parts would hardly ever have an image of the class.
MIN_IMAGES_PER_CLASS = 5

TRAIN, VALIDATION, TEST = "train", "validation", "test"


@dataclasses.dataclass(frozen=True)
class Source:
    """An ``--input`` of finetune: a folder of class folders, or a list with a label column.

    Attributes:
      uri: absolute.
      given: what the user wrote.
      image_column: of a list.
      label_column: of a list.
    """

    uri: str
    given: str
    image_column: str
    label_column: str

    @property
    def is_list(self) -> bool:
        """Whether it is a ``.csv``, ``.jsonl`` or ``.parquet`` file."""
        return tables.is_table(self.uri)


class Found(NamedTuple):
    """One image of a source, with its class.

    ``version`` changes when the file does, as far as a listing tells.
    """

    uri: str
    label: str
    version: str


class Survey(NamedTuple):
    """What the sources hold.

    ``images``: their number by class, classes in alphabetical order. ``key``: a checksum of names,
    classes and versions, whatever their order.
    """

    images: dict[str, int]
    key: str

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the classes; a class's id is its place here."""
        return tuple(self.images)


class FindLabeledImages(beam.PTransform):
    """Expects the pipeline's begin, outputs ``ImageRef``s with labels, each URI once.

    Args:
      sources: what ``understand`` returned.
    """

    def __init__(self, sources: list[Source]):
        super().__init__()
        self._sources = sources

    def expand(self, begin: beam.pvalue.PBegin) -> beam.PCollection[ImageRef]:
        """List every source; the shuffle also spreads the images over workers."""
        return (
            begin
            | "Sources" >> beam.Create(self._sources)
            | "List" >> beam.FlatMap(list_images)
            | "Pair" >> beam.Map(lambda found: found[:2]).with_output_types(tuple[str, str])
            | "Once" >> beam.Distinct()
            | "Refer" >> beam.MapTuple(ImageRef)
        )


def understand(given: str, image_column: str, label_column: str) -> Source:
    """Make an ``--input`` absolute, and see that it is there.

    Raises:
      InputError: it is not.
    """
    if given == "sample":
        return Source(str(sample.IMAGES_DIR), given, image_column, label_column)
    uri = given if storage.is_remote(given) else storage.local_path(given)
    source = Source(uri.rstrip("/"), given, image_column, label_column)
    try:
        storage.check_access(uri)
    except StoreError as error:
        raise InputError(f"--input {given}: {error}") from error
    if not storage.is_remote(uri) and not Path(uri).exists():
        raise InputError(f"--input {given}: there is no such file or folder")
    if not source.is_list and (storage.is_http(uri) or Path(uri).is_file()):
        raise InputError(
            f"--input {given}: is neither a folder of class folders nor a .csv, .jsonl or "
            ".parquet list"
        )
    return source


def survey(sources: list[Source]) -> Survey:
    """List all sources and see whether they can be learned from.

    Raises:
      InputError: a source cannot be listed, there are fewer than two classes, a class is too small,
        or an image has two classes.
    """
    label_of: dict[str, str] = {}
    key = 0
    for source in sources:
        for uri, label, version in list_images(source):
            if uri in label_of:
                if label_of[uri] == label:
                    continue
                raise InputError(
                    f"{uri} is in the class {label_of[uri]!r} and in {label!r}; remove one of them"
                )
            label_of[uri] = label
            digest = hashlib.sha256("\0".join((uri, label, version)).encode()).digest()
            key ^= int.from_bytes(digest, "big")
    counts = Counter(label_of.values())
    names = ", ".join(source.given for source in sources)
    if len(counts) < 2:
        found = f"only the class {next(iter(counts))!r}" if counts else "no images in class folders"
        raise InputError(
            f"--input {names}: {found} found, two or more classes are needed; give the folder that "
            "has one folder with images for each class"
        )
    too_small = min(counts, key=lambda label: (counts[label], label))
    if counts[too_small] < MIN_IMAGES_PER_CLASS:
        raise InputError(
            f"--input {names}: the class {too_small!r} has {counts[too_small]} images, too few to "
            f"train, validate and test with; add some, to at least {MIN_IMAGES_PER_CLASS}, or "
            "remove the class"
        )
    return Survey(dict(sorted(counts.items())), f"{key:064x}")


def split_of(content: str) -> str:
    """The part that an image belongs to: a function of its bytes alone.

    It does not move when other images come or go, and copies of an image are in the same part.

    Args:
      content: the SHA-256 of the file, in hexadecimal.
    """
    percent = int(content[:16], 16) % 100
    if percent < TEST_PERCENT:
        return TEST
    return VALIDATION if percent < TEST_PERCENT + VALIDATION_PERCENT else TRAIN


def list_images(source: Source) -> Iterator[Found]:
    """The images of a source, in no order.

    Raises:
      InputError: it cannot be listed or understood.
    """
    try:
        yield from _read_list(source) if source.is_list else _list_class_folders(source)
    except ColumnError as error:
        raise InputError(
            f"--input {source.given}: {error}; name the right columns with --image_column and "
            "--label_column"
        ) from error
    except (StoreError, ImageError, OSError, ValueError, EOFError, zlib.error) as error:
        raise InputError(f"--input {source.given}: cannot be read: {error}") from error


def _list_class_folders(source: Source) -> Iterator[Found]:
    """``class/…/image.jpg``; images that are in no class folder do not count."""
    for file in inputs.list_folder(source.uri):
        label, _, rest = file.path[len(source.uri) + 1 :].partition("/")
        if rest:
            version = f"{file.size_in_bytes} {file.last_updated_in_seconds}"
            yield Found(inputs.printable(file.path), inputs.printable(label), version)


def _read_list(source: Source) -> Iterator[Found]:
    """Rows with an image and its class; relative paths are relative to the list's folder."""
    columns = (source.image_column, source.label_column)
    for number, row in enumerate(tables.read_table(source.uri, columns), 1):
        image, label = (row[column] for column in columns)
        if not isinstance(image, str) or not image or label in (None, ""):
            missing = source.label_column if image else source.image_column
            raise ColumnError(f"row {number} has no {missing!r}")
        uri = inputs.absolute(image, source.uri)
        yield Found(uri, str(label), _version(uri))


def _version(uri: str) -> str:
    """Of an image on this machine; to ask a store for each of a list's would take too long."""
    if storage.is_remote(uri) or not posixpath.isabs(uri):
        return ""
    return storage.version(uri)  # if it is not there, it fails in sight when it is read
