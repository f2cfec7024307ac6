"""Finds the images: makes an ``ImageRef`` for each image that the user points at.

The launcher only checks whether there is any image; the listing itself is a step of the pipeline,
so it is streamed, and runs where the pipeline runs.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import zlib
from collections.abc import Generator, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import apache_beam as beam

from pipeline import progress, sample, storage
from pipeline.errors import ImageError, InputError, StoreError
from pipeline.inputs import truth
from pipeline.inputs.apart import named_apart
from pipeline.inputs.columns import TABLE
from pipeline.inputs.folders import FOLDER, GLOB
from pipeline.inputs.kinds import Input, InputKind, refuse_pipe
from pipeline.inputs.lists import LIST
from pipeline.inputs.passed_over import PassedOver, PassedOverTally
from pipeline.inputs.passed_over import in_words as passed_over_in_words
from pipeline.inputs.queries import QUERY
from pipeline.inputs.single import IMAGE
from pipeline.inputs.table_sets import FOLDER_OF_TABLES, GLOB_OF_TABLES
from pipeline.inputs.tfrecords import TFRECORD, list_records
from pipeline.records import LABELED_BY, ImageRef
from pipeline.redaction import Naming, identity_of

# All kinds of inputs, in the order in which they are tried.
KINDS: Sequence[InputKind] = (
    QUERY,
    TABLE,
    LIST,
    TFRECORD,
    IMAGE,
    FOLDER_OF_TABLES,
    FOLDER,
    GLOB_OF_TABLES,
    GLOB,
)

# What may be wrong with an input that names nothing, by what it contains.
_HINTS = {"{": "repeat {input}, since braces are not expanded", "[": "write [[] for a [ in a name"}

# What a listing yields; see ``InputKind.images``.
Found = ImageRef | PassedOver | Input

# Requests for versions at a time.
_ASKING_THREADS = 64


class FoundImages(NamedTuple):
    """What ``FindImages`` outputs.

    ``inputs``: the inputs. ``refs``: each image, duplicates included. ``passed_over``: what is not
    taken for an image.
    """

    inputs: beam.PCollection[tuple[int, Input]]
    refs: beam.PCollection[ImageRef]
    passed_over: beam.PCollection[PassedOver]


class FindImages(beam.PTransform):
    """Expects the pipeline's begin, outputs ``FoundImages``.

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

    def expand(self, begin: beam.pvalue.PBegin) -> FoundImages:
        """List every input, and the parts of those that are too much for one worker."""
        list_ = beam.FlatMap(_list_tagged, self._ask_for_versions)
        tags = ("passed_over", "parts")
        sources = [_in_parts(source) for source in self._inputs]
        inputs = begin | "Inputs" >> beam.Create(list(enumerate(sources)))
        listed = inputs | "List" >> list_.with_outputs(*tags, main="refs")
        refs, passed_over = listed.refs, listed.passed_over
        if any(source.shares for source in sources):
            rest = (
                listed.parts
                | "Share" >> beam.Reshuffle()
                | "ListParts" >> list_.with_outputs(*tags, main="refs")
            )
            refs = (refs, rest.refs) | "All" >> beam.Flatten()
            passed_over = (passed_over, rest.passed_over) | "AllPassedOver" >> beam.Flatten()
        refs |= "Count" >> beam.Map(_count)
        if self._folder_is_truth:
            refs |= "Truth" >> beam.Map(_with_parent_as_truth)
        return FoundImages(inputs, refs, passed_over)


def _in_parts(source: Input) -> Input:
    """Let many workers list what may have very many names."""
    if not source.kind.has_parts or not storage.is_remote(source.uri) or source.in_order:
        return source
    return dataclasses.replace(source, part=storage.Range(), shares=True)


def _list_tagged(numbered: tuple[int, Input], ask_for_versions: bool) -> Iterator[Any]:
    number, source = numbered
    for one in list_parts(source, ask_for_versions):
        if isinstance(one, ImageRef):
            yield one._replace(order=(number, *one.order))
        elif isinstance(one, Input):
            yield beam.pvalue.TaggedOutput("parts", (number, one))
        else:
            yield beam.pvalue.TaggedOutput("passed_over", one)


def _with_parent_as_truth(ref: ImageRef) -> ImageRef:
    if ref.problem is not None:
        return ref
    is_escaped = not storage.is_remote(ref.uri) and not ref.uri.startswith("/")  # see as_utf8
    path = printable(storage.local_path(ref.uri)) if is_escaped else ref.uri
    return ref._replace(truth=truth.parent(path))


def _count(ref: ImageRef) -> ImageRef:
    progress.add(found=1)
    return ref


def identify(
    given: str,
    uri_column: str = "image",
    carry: tuple[str, ...] = (),
    truth_column: str | None = None,
    exclude: tuple[str, ...] = (),
    output: str = "",
    beside: tuple[str, ...] = (),
    naming: Naming | None = None,
) -> Input:
    """Find the kind of an input.

    Args:
      given: what the user wrote.
      uri_column: see ``Input``.
      carry: likewise.
      truth_column: likewise.
      exclude: likewise.
      output: what the user wrote.
      beside: see ``Input``.
      naming: likewise.

    Raises:
      InputError: there is no such file or folder, or its store cannot be reached.
    """
    where = str(sample.IMAGES_DIR) if given == "sample" else given
    refuse_pipe(where, "input")
    try:
        storage.check_access(where)
        for kind in KINDS:
            uri = kind.recognize(where)
            if uri is not None:
                return Input(
                    kind,
                    uri,
                    given,
                    uri_column,
                    carry,
                    truth_column,
                    exclude=(*exclude, *_from_here(exclude)),
                    output=output and storage.absolute(output),
                    beside=beside,
                    naming=naming,
                )
    except StoreError as error:
        raise InputError(f"cannot be reached: {error}", subject="input", given=given) from error
    remedy = _HINTS["{"] if "{" in given else ""
    raise InputError("there is no such file or folder", subject="input", given=given, remedy=remedy)


def _from_here(globs: Sequence[str]) -> Iterator[str]:
    """Make paths absolute, which may be meant as those of the inputs are: from this folder."""
    return (storage.absolute(glob) for glob in globs if "/" in glob.rstrip("/"))


def require_images(source: Input) -> None:
    """Check that an input names at least one image.

    Raises:
      InputError: it names none, cannot be listed, or lacks a column.
    """
    if source.kind.check is not None:
        source.kind.check(source)
        return
    passed_over = PassedOverTally()
    with contextlib.closing(list_images(source)) as found:  # it may have folders open
        for one in found:
            if isinstance(one, ImageRef):
                return
            passed_over.add(one)
    words = passed_over_in_words(passed_over.to_json())
    hints = [hint for mark, hint in _HINTS.items() if source.kind is GLOB and mark in source.uri]
    raise source.error(
        source.kind.empty + (f"; passed over: {words}" if words else ""), " and ".join(hints)
    )


def require_listing(inputs: Iterable[Input], exclude: Sequence[str]) -> None:
    """Check that there is something to exclude from.

    Raises:
      InputError: no input is a folder or glob.
    """
    listed = (FOLDER, GLOB, FOLDER_OF_TABLES, GLOB_OF_TABLES)
    if exclude and not any(source.kind in listed for source in inputs):
        raise InputError(
            "no input is a folder or glob, and only these leave anything out", subject="exclude"
        )


def have_only_files(inputs: Iterable[Input]) -> bool:
    """Tell whether no image can be inside of another file, before anything is listed."""
    return all(source.kind.has_only_files(source) for source in inputs)


def only_images(found: Iterable[ImageRef | PassedOver]) -> Iterator[ImageRef]:
    """Yield the images among what ``list_images`` has found."""
    return (one for one in found if isinstance(one, ImageRef))


def list_images(
    source: Input, ask_for_versions: bool = False
) -> Generator[ImageRef | PassedOver, None, None]:
    """List the images that an input names, and what it passes over, in no order.

    Duplicates are included. TFRecord files, wherever they are named, are listed record by record.

    Args:
      source: the input.
      ask_for_versions: see ``FindImages``.

    Raises:
      InputError: the listing failed.
    """
    with contextlib.closing(list_parts(source, ask_for_versions)) as found:
        for one in found:
            if not isinstance(one, Input):
                yield one


def list_parts(
    source: Input, ask_for_versions: bool = False
) -> Generator[ImageRef | PassedOver | Input, None, None]:
    """Do the same, but leave some of it to others as inputs, if the input allows that."""
    nothing = dict.fromkeys(source.carry)  # for inputs without columns, so that all rows are alike
    try:
        found = source.kind.images(source)
        if not source.kind.lists_versions:
            found = _with_versions(found, ask_for_versions)
        for one in found:
            if isinstance(one, Input):
                yield one
                continue
            if isinstance(one, PassedOver):
                yield one._replace(name=as_utf8(one.name))
                continue
            named = one._replace(
                uri=as_utf8(one.uri),
                truth=one.truth and printable(one.truth),
                carried=one.carried or nothing,
                naming=source.naming,
            )
            yield from list_records(named, with_truth=source.truth_column is not None)
    except (StoreError, OSError) as error:  # OSError: a folder on this machine
        raise source.error(f"cannot be listed: {error}") from error
    except (ImageError, EOFError, zlib.error) as error:
        raise source.error(f"cannot be read: {error}") from error


def distinct(refs: Iterable[ImageRef]) -> Iterator[ImageRef]:
    """Yield each image once, from all that was found under one name.

    A file or URI is one image, however often it was found; so are URIs that differ only in a
    signature of a known kind. Others that differ in what their name lacks are named apart, by their
    versions if those are known and differ, else by numbers, which another run may give to others.
    Images inside of other files differ if
    their places differ, or, where it is known, their content; all but the first of a name are then
    named by their places. Of several rows, the first one that has values in the carried columns
    counts.
    """
    # A known version is greater than an unknown one.
    in_order = sorted(refs, key=lambda ref: (ref.version, ref.uri))
    kept = {identity(ref): ref for ref in in_order}
    last_first = sorted(
        in_order,
        key=lambda ref: (not _has_values(ref), ref.order, ref.place or (), json.dumps(ref.carried)),
        reverse=True,
    )
    for ref in last_first:
        one = identity(ref)
        kept[one] = kept[one]._replace(carried=ref.carried, place=ref.place)
    images = sorted(kept.values(), key=lambda ref: (ref.place or (), ref.uri))
    alone = [ref for ref in images if ref.place is None]
    if len(alone) > 1:
        images[: len(alone)] = named_apart(alone)
    for number, ref in enumerate(images):
        uri = ref.place.name if number and ref.place else ref.uri
        yield ref._replace(uri=uri, order=())


def identity(ref: ImageRef) -> Hashable:
    """Return what tells an image from others of its name."""
    if ref.place is None:
        return identity_of(ref.uri, ref.naming)
    return ref.place.content or ref.place


def _has_values(ref: ImageRef) -> bool:
    carried = (value for name, value in ref.carried.items() if name != LABELED_BY)
    return any(value not in (None, "") for value in carried)  # CSV's null is ""


def _with_versions(found: Iterator[Found], ask_for_versions: bool) -> Iterator[Found]:
    """Add versions: to files on this machine always, to others if wanted, many at a time."""
    if not ask_for_versions:
        yield from map(_with_local_version, found)
        return
    with ThreadPoolExecutor(_ASKING_THREADS) as pool:
        while some := list(itertools.islice(found, _ASKING_THREADS)):
            yield from pool.map(_with_version, some)


def _with_version(one: Found) -> Found:
    if not isinstance(one, ImageRef) or one.version:
        return one
    return one._replace(version=storage.version(one.uri))


def _with_local_version(one: Found) -> Found:
    if isinstance(one, ImageRef) and not storage.is_remote(one.uri):
        return _with_version(one)
    return one


def as_utf8(uri: str) -> str:
    r"""Return a path or URI in a form that a row can have, and that can still be read.

    Args:
      uri: bytes that are not UTF-8 are lone surrogates in it, as in what ``os.listdir`` returns.

    Returns:
      The same, or the file's URI with escapes, ``file:///photos/caf%E9.jpg``, if its path is not
      UTF-8. In the name of an object, which always is, ``\xe9`` stands for such a byte.
    """
    try:
        uri.encode()
    except UnicodeEncodeError:
        return printable(uri) if storage.is_remote(uri) else Path(uri).as_uri()
    return uri


def printable(text: str) -> str:
    """Escape the bytes of a text that are not UTF-8."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
