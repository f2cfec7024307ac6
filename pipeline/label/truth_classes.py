"""Finds the model's classes that the images' true classes are, before any image is read."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import apache_beam as beam
from apache_beam.pvalue import AsSingleton

from pipeline import console
from pipeline.errors import InputError
from pipeline.evaluation import classes_in
from pipeline.models.class_lookup import ClassLookup, lookup_of
from pipeline.records import ImageRef
from pipeline.tally import CombineTallies

# So many different names are told apart, of those that are no class of the model.
_MOST_NAMES = 1000

# So many of them are said, with the model's nearest ones.
_EXAMPLES = 3


@dataclass
class ClassCounts:
    """How many images have a true class that is one of the model's.

    Attributes:
      images: number of images with a true class; an image that is found twice counts twice.
      known: number of those whose classes are all the model's, by their names.
      numbers: the indices of classes that are named; None if anything else is.
      unknown: numbers of images by a name that is no class of the model.
    """

    images: int = 0
    known: int = 0
    numbers: set[int] | None = field(default_factory=set)
    unknown: Counter[str] = field(default_factory=Counter)

    def add(self, names: Iterable[str], lookup: ClassLookup) -> ClassCounts:
        """Count an image by the names of its true classes, in place."""
        unknown = []
        for name in names:
            if lookup.find(name) is None:
                unknown.append(name)
            number = lookup.index(name)
            if number is None or self.numbers is None:
                self.numbers = None
            else:
                self.numbers.add(number)
        self.images += 1
        self.known += not unknown
        self._keep(Counter(unknown))
        return self

    def add_image(self, ref: ImageRef, labels: tuple[str, ...], multi_label: bool) -> ClassCounts:
        """Count an image, if it has a true class, in place."""
        if ref.truth is None:
            return self
        return self.add(classes_in(ref.truth) if multi_label else [ref.truth], lookup_of(labels))

    def merge(self, other: ClassCounts) -> ClassCounts:
        """Add other counts, in place."""
        self.images += other.images
        self.known += other.known
        if self.numbers is None or other.numbers is None:
            self.numbers = None
        else:
            self.numbers |= other.numbers
        self._keep(other.unknown)
        return self

    def _keep(self, unknown: Counter[str]) -> None:
        for name, count in unknown.items():
            if name in self.unknown or len(self.unknown) < _MOST_NAMES:
                self.unknown[name] += count

    def are_indices(self, lookup: ClassLookup) -> bool:
        """Tell whether the names are indices: all are numbers of classes, and no class is one."""
        return bool(self.numbers) and not lookup.has_numbers

    def problem(self) -> str | None:
        """Say so if no image has a class of the model's, unless by indices."""
        if self.known or not self.images:
            return None
        return f"none of the {self.images:,} images has a class of the model's"

    def examples(self, lookup: ClassLookup) -> str:
        """List the most frequent names that are no class of the model, each with the nearest."""
        some = sorted(self.unknown.items(), key=lambda item: (-item[1], item[0]))[:_EXAMPLES]
        words = []
        for name, images in some:
            nearest = lookup.nearest(name)
            like = "" if nearest is None else f"; perhaps {nearest!r}"
            words.append(f"{name!r} ({images:,}{like})")
        return ", ".join(words) + (", …" if len(self.unknown) > len(some) else "")


class CountClasses(CombineTallies):
    """``ImageRef``s → one ``ClassCounts``.

    Args:
      labels: the names of the model's classes.
      multi_label: whether an image may have several classes.
    """

    def __init__(self, labels: tuple[str, ...], multi_label: bool):
        super().__init__()
        self._labels = labels
        self._multi_label = multi_label

    def create_accumulator(self) -> ClassCounts:  # noqa: D102
        return ClassCounts()

    def add_input(self, counts: ClassCounts, ref: ImageRef) -> ClassCounts:  # noqa: D102
        return counts.add_image(ref, self._labels, self._multi_label)


class NameClasses(beam.PTransform):
    """Expects ``ImageRef``s, outputs them with the model's own names as their true classes.

    What is no class of the model stays as it is, and is said.

    Args:
      given: what the user gave as the truth.
      labels: the names of the model's classes, in the order of its output.
      multi_label: whether an image may have several classes.
    """

    def __init__(self, given: str, labels: tuple[str, ...], multi_label: bool):
        super().__init__()
        self._given = given
        self._labels = labels
        self._multi_label = multi_label

    def expand(self, refs: beam.PCollection[ImageRef]) -> beam.PCollection[ImageRef]:
        """Look at all classes first: whether a number is an index depends on the others."""
        count = beam.CombineGlobally(CountClasses(self._labels, self._multi_label))
        by_index = (
            refs | count.without_defaults() | "Check" >> beam.Map(_check, self._given, self._labels)
        )
        return refs | "Name" >> beam.Map(
            _named, AsSingleton(by_index), self._labels, self._multi_label
        )


def _check(counts: ClassCounts, given: str, labels: tuple[str, ...]) -> bool:
    for line in judge(given, counts, labels):
        console.say(line)
    return counts.are_indices(lookup_of(labels))


def judge(given: str, counts: ClassCounts, labels: tuple[str, ...]) -> list[str]:
    """Return lines for people about the true classes, if there is something odd about them.

    Args:
      given: what the user gave as the truth.
      counts: its classes.
      labels: the names of the model's classes, in the order of its output.

    Raises:
      InputError: no image has a class of the model's.
    """
    lookup = lookup_of(labels)
    by_index = counts.are_indices(lookup)
    problem = None if by_index else counts.problem()
    if problem is not None:
        raise InputError(
            f"{problem}: it has {counts.examples(lookup)}; the model has {_some(labels)}",
            subject="truth",
            given=given,
        )
    return list(_notes(counts, labels, by_index))


def _notes(counts: ClassCounts, labels: tuple[str, ...], by_index: bool) -> Iterator[str]:
    if by_index and counts.numbers:
        first, last = min(counts.numbers), max(counts.numbers)
        yield (
            f"truth: its numbers are taken for indices of classes, {first} for {labels[first]!r} "
            f"to {last} for {labels[last]!r}"
        )
    elif counts.known < counts.images:
        wrong = counts.images - counts.known
        yield (
            f"truth: {wrong:,} of {counts.images:,} images have a class that the model does not "
            f"know, and count as wrong: {counts.examples(lookup_of(labels))}"
        )


def _some(labels: tuple[str, ...]) -> str:
    some = ", ".join(map(repr, labels[:_EXAMPLES]))
    return f"{some}, …" if len(labels) > _EXAMPLES else some


def _named(ref: ImageRef, by_index: bool, labels: tuple[str, ...], multi_label: bool) -> ImageRef:
    if ref.truth is None:
        return ref
    lookup = lookup_of(labels)
    find = lookup.at if by_index else lookup.find
    if not multi_label:
        return ref._replace(truth=find(ref.truth) or ref.truth)
    names = {find(name) or name for name in classes_in(ref.truth)}
    return ref._replace(truth=json.dumps(sorted(names)))
