"""Finds images with a class, and decides which of them train, validate and test."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import apache_beam as beam

from pipeline.errors import InputError
from pipeline.inputs import columns, find
from pipeline.inputs.folders import FOLDER
from pipeline.inputs.kinds import Input
from pipeline.inputs.passed_over import PassedOverTally
from pipeline.inputs.single import IMAGE
from pipeline.records import ImageRef, PassedOver, WhyPassedOver
from pipeline.redaction import name_of

# Of a hundred images, on average; the others train.
VALIDATION_PERCENT = 10
TEST_PERCENT = 10

# With fewer images of a class, one of the three parts would hardly ever have one.
MIN_IMAGES_PER_CLASS = 5

TRAIN, VALIDATION, TEST = "train", "validation", "test"


class Survey(NamedTuple):
    """What the inputs hold.

    ``images``: numbers of images by class, classes in alphabetical order. ``key``: a checksum of
    names, classes and versions, independent of their order. ``passed_over``: what is not taken.
    """

    images: dict[str, int]
    key: str
    passed_over: PassedOverTally

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the classes; a class's id is its position."""
        return tuple(self.images)


class FindImagesWithTruth(beam.PTransform):
    """Expects the pipeline's begin, outputs ``ImageRef``s with a truth, each image once.

    Args:
      inputs: what ``identify`` returned.
    """

    def __init__(self, inputs: Sequence[Input]):
        super().__init__()
        self._inputs = inputs

    def expand(self, begin: beam.pvalue.PBegin) -> beam.PCollection[ImageRef]:
        """List every input; the shuffle also spreads the images over the workers."""
        return (
            begin
            | "Inputs" >> beam.Create(self._inputs)
            | "List" >> beam.FlatMap(lambda source: find.only_images(list_with_truth(source)))
            | "ByName" >> beam.Map(_by_name)
            | beam.GroupByKey()
            | "Once" >> beam.FlatMapTuple(_once)
        )


def _by_name(ref: ImageRef) -> tuple[str, ImageRef]:
    return name_of(ref.uri), ref._replace(version="")  # which is in the survey's key


def _once(_: str, refs: Iterable[ImageRef]) -> Iterator[ImageRef]:
    return find.distinct(refs)


def identify(given: str, uri_column: str, truth_column: str) -> Input:
    """Find the kind of an input.

    Args:
      given: what the user wrote.
      uri_column: see ``Input``.
      truth_column: likewise.

    Raises:
      InputError: the input does not exist, or is a single image.
    """
    source = find.identify(given, uri_column, truth_column=truth_column)
    if source.kind == IMAGE:
        raise source.error(
            "is neither a folder of class folders nor a list, table, TFRecord file or query; "
            "quote a glob, so that the shell leaves it alone"
        )
    return source


def list_with_truth(source: Input) -> Iterator[ImageRef | PassedOver]:
    """List the images of an input that have a class, and what it passes over, in no order.

    Duplicates are included. In a folder of class folders, images outside of them do not count.

    Raises:
      InputError: the listing failed, or a row or record has no class.
    """
    number = 0
    for ref in find.list_images(source):
        if isinstance(ref, PassedOver):
            yield ref
            continue
        number += 1
        if ref.truth:
            yield ref
        elif source.kind.has_columns:
            missing = f"row {number} has no {source.truth_column!r}"
            raise source.error(missing, columns.remedy(source))
        elif source.kind == FOLDER:
            yield PassedOver(WhyPassedOver.NO_CLASS_FOLDER, ref.uri)
        else:
            raise source.error(f"{name_of(ref.uri)} has no class")


def survey(inputs: Sequence[Input]) -> Survey:
    """List all inputs, and check that a model can learn from them.

    Raises:
      InputError: an input cannot be listed, there are fewer than two classes, a class is too small,
        or an image has two classes.
    """
    truths: dict[tuple[object, ...], str] = {}
    key = 0
    passed_over = PassedOverTally()
    for source in inputs:
        for ref in list_with_truth(source):
            if isinstance(ref, PassedOver):
                passed_over.add(ref)
                continue
            name, truth = name_of(ref.uri), ref.truth or ""
            image = (name, *(ref.place or ()))
            if image in truths:
                if truths[image] == truth:
                    continue
                raise InputError(
                    f"{name} is in the class {truths[image]!r} and in {truth!r}; remove one of them"
                )
            truths[image] = truth
            parts = (name, truth, ref.version, *map(str, ref.place or ()))
            digest = hashlib.sha256("\0".join(parts).encode()).digest()
            key ^= int.from_bytes(digest, "big")
    counts = Counter(truths.values())
    names = ", ".join(source.given for source in inputs)
    if len(counts) < 2:
        found = f"only the class {next(iter(counts))!r}" if counts else "no images in class folders"
        raise InputError(
            f"{found} found, two or more classes are needed",
            subject="input",
            given=names,
            remedy="give the folder that has one folder with images for each class",
        )
    too_small = min(counts, key=lambda name: (counts[name], name))
    if counts[too_small] < MIN_IMAGES_PER_CLASS:
        raise InputError(
            f"the class {too_small!r} has {counts[too_small]} images, too few to train, validate "
            "and test with",
            subject="input",
            given=names,
            remedy=f"add some, to at least {MIN_IMAGES_PER_CLASS}, or remove the class",
        )
    return Survey(dict(sorted(counts.items())), f"{key:064x}", passed_over)


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
