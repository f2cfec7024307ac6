"""Finds images with a class, and chooses which of them train, validate and test."""

from __future__ import annotations

import dataclasses
import functools
import posixpath
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

import apache_beam as beam

from pipeline.errors import ImageError, InputError, StoreError
from pipeline.finetune import splits
from pipeline.finetune.splits import TEST, TRAIN, VALIDATION
from pipeline.formats import tables
from pipeline.formats.schema import as_text
from pipeline.inputs import columns, find
from pipeline.inputs.column_names import CLASSES, CORRECTED
from pipeline.inputs.columns import TABLE
from pipeline.inputs.folders import FOLDER
from pipeline.inputs.kinds import Input
from pipeline.inputs.passed_over import PassedOver, WhyPassedOver
from pipeline.inputs.single import IMAGE
from pipeline.records import ImageRef
from pipeline.redaction import Naming, name_of

# Of a hundred images, on average; the others train.
VALIDATION_PERCENT = 10
TEST_PERCENT = 10


class FindImagesWithTruth(beam.PTransform):
    """Expects the pipeline's begin, outputs ``ImageRef``s with a truth, each image once.

    Args:
      inputs: what ``identify`` returned.
      split: the parts that names stand for, if the images come with a split. Then an image carries
        its part, as ``splits.COLUMN``.
    """

    def __init__(self, inputs: Sequence[Input], split: Mapping[str, str] | None = None):
        super().__init__()
        self._inputs = inputs
        self._split = split or {}

    def expand(self, begin: beam.pvalue.PBegin) -> beam.PCollection[ImageRef]:
        """List every input; the shuffle also spreads the images over the workers."""
        return (
            begin
            | "Inputs" >> beam.Create(self._inputs)
            | "List" >> beam.FlatMap(lambda source: find.only_images(list_with_truth(source)))
            | "ByName" >> beam.Map(functools.partial(_by_name, split=self._split))
            | beam.GroupByKey()
            | "Once" >> beam.FlatMapTuple(_once)
        )


def _by_name(ref: ImageRef, split: Mapping[str, str]) -> tuple[str, ImageRef]:
    carried = {splits.COLUMN: split[ref.carried[splits.COLUMN]]} if split else {}
    # The version is in the survey's key.
    return name_of(ref.uri, ref.naming), ref._replace(version="", carried=carried)


def _once(_: str, refs: Iterable[ImageRef]) -> Iterator[ImageRef]:
    return find.distinct(refs)


def identify(
    given: str,
    uri_column: str,
    truth_column: str,
    split: bool = True,
    exclude: tuple[str, ...] = (),
    output: str = "",
    beside: tuple[str, ...] = (),
    naming: Naming | None = None,
) -> Input:
    """Find the kind of an input.

    Args:
      given: what the user wrote.
      uri_column: see ``Input``.
      truth_column: likewise.
      split: whether a table's column of parts is wanted, if there is one.
      exclude: see ``Input``.
      output: what the user wrote.
      beside: see ``Input``.
      naming: see ``Input``.

    Raises:
      InputError: the input does not exist, or is a single image.
    """
    source = find.identify(
        given,
        uri_column,
        truth_column=truth_column,
        exclude=exclude,
        output=output,
        beside=beside,
        naming=naming,
    )
    if source.kind == IMAGE:
        raise source.error(
            "is neither a folder of class folders nor a list, table, TFRecord file or query; "
            "quote a glob, so that the shell leaves it alone"
        )
    if source.kind == TABLE and source.truth_column == CLASSES[0]:
        _refuse_review(source)
    return _with_split_column(source) if split and source.kind.has_columns else source


def _refuse_review(source: Input) -> None:
    """Refuse a table in which people have corrected a model's labels, beside these labels."""
    try:
        names = tables.column_names(source.uri)
    except (ImageError, StoreError, ValueError, EOFError, zlib.error):
        return  # as reading it will say
    if CORRECTED in names:
        raise source.error(
            f"its column {source.truth_column!r} has a model's labels, and {CORRECTED!r} what "
            "people said",
            "give the corrections.csv that label makes of it, or another {truth_column}",
        )


def _with_split_column(source: Input) -> Input:
    """The input with the column of parts, or as it is if it has none."""
    for name in splits.COLUMNS:
        wanted = dataclasses.replace(source, carry=(name,))
        try:
            if name not in (source.uri_column, source.truth_column):
                find.require_images(wanted)
                return wanted
        except InputError:  # any other mistake is found without the column, too
            continue
    return source


def list_with_truth(source: Input) -> Iterator[ImageRef | PassedOver]:
    """List the images of an input that have a class, and what it passes over, in no order.

    Duplicates are included, and rows of tables that name no image. In a folder of class folders,
    images outside of them do not count.
    An image carries, as ``splits.COLUMN``, what may be the name of its part: the cell in that
    column, or else the name of a folder above its class folder, or of its TFRecord file.

    Raises:
      InputError: the listing failed, or a row or record has no class or an unknown part.
    """
    number = 0
    for ref in find.list_images(source):
        if isinstance(ref, PassedOver):
            yield ref
            continue
        number += 1
        if source.only is not None and identity(ref) not in source.only:
            continue
        if ref.problem is not None:
            yield ref
        elif ref.truth:
            part = _name_of_part(source, ref)
            if part and _cell(source, ref) and not splits.plain_parts([part]):
                raise source.error(
                    f"row {number} has the split {part!r}, which is none of train, val and test",
                    "write one of them, or add {split}=checksum to leave the column aside",
                )
            yield ref._replace(carried={splits.COLUMN: part})
        elif source.kind.has_columns:
            missing = f"row {number} has no {source.truth_column!r}"
            raise source.error(missing, columns.remedy(source))
        elif source.kind == FOLDER:
            yield PassedOver(WhyPassedOver.NO_CLASS_FOLDER, ref.uri)
        else:
            raise source.error(f"{name_of(ref.uri, ref.naming)} has no class")


def identity(ref: ImageRef) -> tuple[object, ...]:
    """Return what tells an image from others: its name, and its place inside of another file."""
    return name_of(ref.uri, ref.naming), find.identity(ref)


def _cell(source: Input, ref: ImageRef) -> str:
    """What the column of parts says; empty if there is none."""
    return "".join((as_text(ref.carried[name]) or "").strip() for name in source.carry)


def _name_of_part(source: Input, ref: ImageRef) -> str:
    if cell := _cell(source, ref):
        return cell
    if ref.place is not None:
        return posixpath.basename(ref.place[0])
    if source.kind == FOLDER:
        return splits.part_in(source.uri)
    folder = posixpath.dirname(ref.uri)
    # In a table, the class may be anywhere.
    return splits.part_in(folder if source.kind.has_columns else posixpath.dirname(folder))


def part_of(given: str, content: str, absent: Collection[str] = ()) -> str:
    """Choose the part that an image belongs to.

    Args:
      given: the part that the image comes with; empty if it comes with none.
      content: see ``split_of``.
      absent: the parts that no image comes with; they are taken out of the one that trains.
    """
    by_content = split_of(content)
    return by_content if not given or (given == TRAIN and by_content in absent) else given


def split_of(content: str) -> str:
    """Choose the part that an image belongs to, by its bytes alone.

    So it does not move when other images come or go, and copies of an image are in the same part.

    Args:
      content: the SHA-256 of the file, in hexadecimal.
    """
    percent = int(content[:16], 16) % 100
    if percent < TEST_PERCENT:
        return TEST
    return VALIDATION if percent < TEST_PERCENT + VALIDATION_PERCENT else TRAIN
