"""Finds the images: makes an ``ImageRef`` for each image that the user points at.

The launcher only checks whether there is any image; the listing itself is a step of the pipeline,
so it is streamed, and runs where the pipeline runs.
"""

from __future__ import annotations

import itertools
import json
import zlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import apache_beam as beam

from pipeline import progress, sample, storage
from pipeline.errors import ImageError, InputError, StoreError
from pipeline.formats.registry import table_suffixes
from pipeline.formats.tables import is_table
from pipeline.inputs import truth
from pipeline.inputs.columns import TABLE
from pipeline.inputs.folders import FOLDER, GLOB
from pipeline.inputs.kinds import Input, InputKind
from pipeline.inputs.lists import LIST
from pipeline.inputs.queries import QUERY
from pipeline.inputs.single import IMAGE
from pipeline.inputs.tfrecords import TFRECORD, list_records
from pipeline.records import ImageRef

# All kinds of inputs, in the order in which they are tried.
KINDS: Sequence[InputKind] = (QUERY, TABLE, LIST, TFRECORD, IMAGE, FOLDER, GLOB)

# Requests for versions at a time.
_ASKING_THREADS = 64


class FindImages(beam.PTransform):
    """Expects the pipeline's begin, outputs an ``ImageRef`` for each image, duplicates included.

    Args:
      inputs: what ``identify`` returned.
      ask_for_versions: whether to ask stores and servers for the versions of images in lists, which
        takes one request per image.
      folder_is_truth: whether the name of an image's folder is its true class.
    """

    def __init__(
        self,
        inputs: Sequence[Input],
        ask_for_versions: bool = False,
        folder_is_truth: bool = False,
    ):
        super().__init__()
        self._inputs = inputs
        self._ask_for_versions = ask_for_versions
        self._folder_is_truth = folder_is_truth

    def expand(self, begin: beam.pvalue.PBegin) -> beam.PCollection[ImageRef]:
        """List every input."""
        refs = (
            begin
            | "Inputs" >> beam.Create(self._inputs)
            | "List" >> beam.FlatMap(list_images, self._ask_for_versions)
            | "Count" >> beam.Map(_count)
        )
        return refs | "Truth" >> beam.Map(_with_parent_as_truth) if self._folder_is_truth else refs


def _with_parent_as_truth(ref: ImageRef) -> ImageRef:
    return ref._replace(truth=truth.parent(ref.uri))


def _count(ref: ImageRef) -> ImageRef:
    progress.add(found=1)
    return ref


def identify(
    given: str,
    uri_column: str = "image",
    carry: tuple[str, ...] = (),
    truth_column: str | None = None,
) -> Input:
    """Find the kind of an input.

    Args:
      given: what the user wrote.
      uri_column: see ``Input``.
      carry: likewise.
      truth_column: likewise.

    Raises:
      InputError: there is no such file or folder, or its store cannot be reached.
    """
    where = str(sample.IMAGES_DIR) if given == "sample" else given
    try:
        storage.check_access(where)
        for kind in KINDS:
            uri = kind.recognize(where)
            if uri is not None:
                return Input(kind, uri, given, uri_column, carry, truth_column)
    except StoreError as error:
        raise InputError(f"cannot be reached: {error}", subject="input", given=given) from error
    raise InputError("there is no such file or folder", subject="input", given=given)


def identify_truth(given: str, uri_column: str, truth_column: str) -> Input:
    """Check that a table or query has the true classes of images, by the images' names.

    Raises:
      InputError: it is neither, lacks a column, or has no rows.
    """
    query = QUERY.recognize(given)
    if query is None and not is_table(given):
        raise InputError(
            f"is neither a {table_suffixes()} file nor {truth.PARENT!r}, for the folders "
            "that the images are in",
            subject="truth",
            given=given,
        )
    kind, uri = (TABLE, storage.absolute(given)) if query is None else (QUERY, query)
    source = Input(kind, uri, given, uri_column, (), truth_column, "truth")
    require_images(source)
    return source


def require_images(source: Input) -> None:
    """Check that an input names at least one image.

    Raises:
      InputError: it names none, cannot be listed, or lacks a column.
    """
    if source.kind.check is not None:
        source.kind.check(source)
    elif next(list_images(source), None) is None:
        raise source.error(source.kind.empty)


def list_images(source: Input, ask_for_versions: bool = False) -> Iterator[ImageRef]:
    """List the images that an input names, in no order, duplicates included.

    TFRecord files, wherever they are named, are listed record by record.

    Args:
      source: the input.
      ask_for_versions: see ``FindImages``.

    Raises:
      InputError: the listing failed.
    """
    nothing = dict.fromkeys(source.carry)  # for inputs without columns, so that all rows are alike
    try:
        refs = source.kind.images(source)
        if not source.kind.lists_versions:
            refs = _with_versions(refs, ask_for_versions)
        for ref in refs:
            named = ref._replace(
                uri=printable(ref.uri),
                truth=ref.truth and printable(ref.truth),
                carried=ref.carried or nothing,
            )
            yield from list_records(named, with_truth=source.truth_column is not None)
    except (StoreError, OSError) as error:  # OSError: a folder on this machine
        raise source.error(f"cannot be listed: {error}") from error
    except (ImageError, EOFError, zlib.error) as error:
        raise source.error(f"cannot be read: {error}") from error


def distinct(refs: Iterable[ImageRef]) -> Iterator[ImageRef]:
    """Yield each image once, from all that was found under one name.

    A file or URI is one image, however often it was found. Records of TFRecord files differ if
    their places differ; all but the first of a name are then named by their places. Columns are
    carried from a row that has some.
    """
    # A known version is greater than an unknown one.
    in_order = sorted(refs, key=lambda ref: (ref.version, ref.uri))
    places = {ref.place: ref for ref in in_order}
    for ref in sorted(in_order, key=lambda ref: (_has_values(ref), json.dumps(ref.carried))):
        places[ref.place] = places[ref.place]._replace(carried=ref.carried)
    for number, place in enumerate(sorted(places, key=lambda place: place or ("", 0))):
        ref = places[place]
        yield ref._replace(uri="{}#{}".format(*place)) if number and place else ref


def _has_values(ref: ImageRef) -> bool:
    return any(value is not None for value in ref.carried.values())


def _with_versions(refs: Iterator[ImageRef], ask_for_versions: bool) -> Iterator[ImageRef]:
    """Add versions: to files on this machine always, to others if wanted, many at a time."""
    if not ask_for_versions:
        for ref in refs:
            is_local = not storage.is_remote(ref.uri)
            yield ref._replace(version=storage.version(ref.uri)) if is_local else ref
        return
    with ThreadPoolExecutor(_ASKING_THREADS) as pool:
        while some := list(itertools.islice(refs, _ASKING_THREADS)):
            versions = pool.map(storage.version, (ref.uri for ref in some))
            for ref, version in zip(some, versions, strict=True):
                yield ref._replace(version=version)


def printable(path: str) -> str:
    """Escape the bytes of a path that are not UTF-8.

    A row cannot name such a file; under its escaped name it fails as not found, visibly.
    """
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
