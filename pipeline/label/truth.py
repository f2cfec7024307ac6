"""Joins the images that were found with the rows of a table of true classes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam.pvalue import AsSingleton

from pipeline import console
from pipeline.evaluation import classes_in
from pipeline.inputs import columns
from pipeline.inputs.kinds import Input
from pipeline.inputs.matching import How, key_of, match
from pipeline.inputs.truth_table import TruthRow, read_truth
from pipeline.models.class_lookup import fold, lookup_of
from pipeline.records import ImageRef
from pipeline.redaction import name_of
from pipeline.tally import CombineTallies

# Names that a message quotes of each side.
_EXAMPLES = 3

# The rows that name no image at all, and those that name one but no class.
_UNNAMED = "unnamed"
_UNCLASSED = "unclassed"


@dataclass
class TruthCounts:
    """What has become of the rows of a table of true classes, and of the images.

    Attributes:
      rows: numbers of rows by the value of ``How``; rows without a name or a class count apart.
      images: numbers of images by how the row that counts names them.
      doubled: number of images that have several rows.
      contradicted: number of images whose rows name different classes.
      examples: the first names, in alphabetical order, of rows and of images, by the same values.
    """

    rows: Counter[str] = field(default_factory=Counter)
    images: Counter[str] = field(default_factory=Counter)
    doubled: int = 0
    contradicted: int = 0
    examples: dict[str, list[str]] = field(default_factory=dict)

    def merge(self, other: TruthCounts) -> TruthCounts:
        """Add other counts, in place."""
        self.rows += other.rows
        self.images += other.images
        self.doubled += other.doubled
        self.contradicted += other.contradicted
        for key, names in other.examples.items():
            self._keep(key, *names)
        return self

    def add_row(self, how: str, name: str) -> None:
        """Count a row."""
        self.rows[how] += 1
        self._keep(f"row {how}", name)

    def add_image(self, how: How, name: str) -> None:
        """Count an image."""
        self.images[how.value] += 1
        self._keep(f"image {how.value}", name)

    def add_contradicted(self, name: str) -> None:
        """Count an image whose rows name different classes."""
        self.contradicted += 1
        self._keep("image contradicted", name)

    def _keep(self, key: str, *names: str) -> None:
        kept = self.examples.setdefault(key, [])
        self.examples[key] = sorted({*kept, *names})[:_EXAMPLES]

    @property
    def trusts_names(self) -> bool:
        """Whether a file's name counts although its folders differ.

        It does if that is so of all rows: then the images have been moved. If any row names an
        image by its path, those that name others are of images that are not in this run.
        """
        return not (self.images[How.FULL.value] or self.images[How.END.value])

    @property
    def matched(self) -> int:
        """The number of images with a true class."""
        by_name = self.images[How.ELSEWHERE.value] if self.trusts_names else 0
        return self.images[How.FULL.value] + self.images[How.END.value] + by_name

    def to_json(self) -> dict[str, Any]:
        """Return the figures as ``summary.json`` has them, with some names for each."""
        elsewhere = self.rows[How.ELSEWHERE.value]
        trusted = elsewhere if self.trusts_names else 0
        figures = {
            "images_with_truth": self.matched,
            "images_without_truth": self.images.total() - self.matched,
            "images_with_several_rows": self.doubled,
            "images_with_contradicting_rows": self.contradicted,
            "rows": self.rows.total(),
            "rows_of_no_image": self.rows[How.NONE.value] + elsewhere - trusted,
            "rows_of_several_images": self.rows[How.SEVERAL.value],
            "rows_of_other_folders": trusted,
            "rows_without_name": self.rows[_UNNAMED],
            "rows_without_class": self.rows[_UNCLASSED],
        }
        untrusted = [] if self.trusts_names else [How.ELSEWHERE]
        examples = {
            "images_without_truth": self._examples("image", How.NONE, *untrusted),
            "images_with_contradicting_rows": self.examples.get("image contradicted", []),
            "rows_of_no_image": self._examples("row", How.NONE, *untrusted),
            "rows_of_several_images": self._examples("row", How.SEVERAL),
            "rows_of_other_folders": self._examples("row", How.ELSEWHERE) if trusted else [],
        }
        return {**figures, "examples": {name: some for name, some in examples.items() if some}}

    def _examples(self, of: str, *hows: How) -> list[str]:
        names = (name for how in hows for name in self.examples.get(f"{of} {how.value}", []))
        return sorted(names)[:_EXAMPLES]

    def problem(self) -> str | None:
        """Say why no image has a true class; None if one has."""
        if self.matched:
            return None
        if self.rows.total() == self.rows[_UNNAMED] + self.rows[_UNCLASSED]:
            return "no row has both an image's name and a class"
        several = bool(self.rows[How.SEVERAL.value])
        rows = self._examples("row", How.SEVERAL if several else How.NONE)
        return (
            f"{'each row fits several' if several else 'no row names one'} of the "
            f"{self.images.total():,} images; rows name {', '.join(map(repr, rows))}, and images "
            f"are {', '.join(map(repr, self._examples('image', How.NONE)))}"
        )


def notes(truth: Mapping[str, Any]) -> Iterator[str]:
    """Say what people should know of a table of true classes, one line each.

    Args:
      truth: as ``TruthCounts.to_json`` returned it.
    """

    def like(name: str) -> str:
        names = truth["examples"].get(name)
        return f", such as {names[0]}" if names else ""

    images = truth["images_with_truth"] + truth["images_without_truth"]
    line = f"truth: {truth['images_with_truth']:,} of {images:,} images have a class"
    if truth["images_without_truth"]:
        line += f"; {truth['images_without_truth']:,} have none{like('images_without_truth')}"
    yield line
    for name, words in (
        ("rows_of_no_image", "name no image"),
        ("rows_of_several_images", "fit several images"),
        ("rows_without_name", "have no image's name"),
        ("rows_without_class", "have no class"),
        (
            "rows_of_other_folders",
            "have other folders than the images, whose ends of paths they fit",
        ),
    ):
        if truth[name]:
            yield f"truth: {truth[name]:,} of {truth['rows']:,} rows {words}{like(name)}"
    if truth["images_with_contradicting_rows"]:
        yield (
            f"truth: {truth['images_with_contradicting_rows']:,} images have rows with different "
            f"classes, of which the first counts{like('images_with_contradicting_rows')}"
        )


class WithTruth(NamedTuple):
    """An image with the class that a table has for it, and how the row names it."""

    ref: ImageRef
    how: How


def join(
    refs: Iterable[ImageRef],
    rows: Iterable[TruthRow],
    labels: tuple[str, ...],
    multi_label: bool,
) -> tuple[list[WithTruth], TruthCounts]:
    """Find the true classes of images whose files have the same name.

    Args:
      refs: duplicates included.
      rows: with names and classes.
      labels: the names of the model's classes; two names of one class do not contradict each other.
      multi_label: whether an image may have several classes, in one row or in many.
    """
    counts, lookup = TruthCounts(), lookup_of(labels)
    refs, rows = list(refs), sorted(rows)
    images = dict.fromkeys(name_of(ref.uri, ref.naming) for ref in refs)
    of_image: dict[str, list[TruthRow]] = {}
    hows = dict.fromkeys(images, How.NONE)
    matches = match(images, [(row.entry, row.name) for row in rows])
    for row, found in zip(rows, matches, strict=True):
        counts.add_row(found.how.value, row.entry)
        if found.image is not None:
            of_image.setdefault(found.image, []).append(row)
            hows[found.image] = found.how
    for image, how in hows.items():
        counts.add_image(how, image)
        names = (row.truth or "" for row in of_image.get(image, ()))
        classes = {lookup.find(name) or fold(name) for name in names}
        counts.doubled += len(of_image.get(image, ())) > 1
        if len(classes) > 1 and not multi_label:
            counts.add_contradicted(image)
    truths = {image: _truth(some, multi_label) for image, some in of_image.items()}
    joined = []
    for ref in refs:
        image = name_of(ref.uri, ref.naming)
        joined.append(WithTruth(ref._replace(truth=truths.get(image)), hows[image]))
    return joined, counts


def _truth(rows: list[TruthRow], multi_label: bool) -> str | None:
    if not multi_label:
        return rows[0].truth
    return json.dumps(sorted({one for row in rows for one in classes_in(row.truth or "")}))


def join_all(
    refs: Iterable[ImageRef],
    rows: Iterable[TruthRow],
    labels: tuple[str, ...],
    multi_label: bool,
) -> tuple[list[ImageRef], TruthCounts]:
    """Do the same for images and rows of all names, of which some lack a name or a class."""
    unusable, usable = TruthCounts(), []
    for row in rows:
        if row.entry and row.truth:
            usable.append(row)
        else:
            unusable.add_row(_UNCLASSED if row.entry else _UNNAMED, row.entry)
    joined, counts = join(refs, usable, labels, multi_label)
    counts.merge(unusable)
    return [_trusted(one, counts) for one in joined], counts


def judge(source: Input, counts: TruthCounts) -> list[str]:
    """Return lines for people about a table.

    Raises:
      InputError: it says nothing about the images.
    """
    problem = counts.problem()
    if problem is not None:
        raise source.error(problem, columns.remedy(source))
    return list(notes(counts.to_json()))


class JoinTruth(beam.PTransform):
    """Expects ``ImageRef``s, outputs them with their true classes, and one ``TruthCounts``.

    Args:
      source: the table, as ``identify_truth`` returned it.
      labels: the names of the model's classes.
      multi_label: whether an image may have several classes, in one row of that table or in many.
    """

    def __init__(self, source: Input, labels: tuple[str, ...], multi_label: bool = False):
        super().__init__()
        self._source = source
        self._labels = labels
        self._multi_label = multi_label

    def expand(
        self, refs: beam.PCollection[ImageRef]
    ) -> tuple[beam.PCollection[ImageRef], beam.PCollection[TruthCounts]]:
        """Join by the files' names; nothing else happens before all counts are known."""
        rows, unusable = (
            refs.pipeline
            | beam.Create([self._source])
            | "Read" >> beam.FlatMap(read_truth)
            | "RowByFile" >> beam.FlatMap(_row_by_file).with_outputs("counts", main="rows")
        )
        joined, matched = (
            {"refs": refs | "ByFile" >> beam.Map(_by_file), "rows": rows}
            | beam.CoGroupByKey()
            | "Match"
            >> beam.FlatMap(_join, self._labels, self._multi_label).with_outputs(
                "counts", main="refs"
            )
        )
        checked = (
            (unusable, matched)
            | beam.Flatten()
            | beam.CombineGlobally(MergeTruthCounts()).without_defaults()
            | "Check" >> beam.Map(_check, self._source)
        )
        return joined | "Trust" >> beam.Map(_trusted, AsSingleton(checked)), checked


def _check(counts: TruthCounts, source: Input) -> TruthCounts:
    for line in judge(source, counts):
        console.say(line)
    return counts


def _by_file(ref: ImageRef) -> tuple[str, tuple[Any, ...]]:
    return key_of(name_of(ref.uri, ref.naming)), tuple(ref)


def _row_by_file(row: TruthRow) -> Iterator[Any]:
    if row.entry and row.truth:
        yield key_of(row.entry), tuple(row)
    else:
        counts = TruthCounts()
        counts.add_row(_UNCLASSED if row.entry else _UNNAMED, row.entry)
        yield beam.pvalue.TaggedOutput("counts", counts)


def _join(
    group: tuple[str, dict[str, Iterable[Any]]], labels: tuple[str, ...], multi_label: bool
) -> Iterator[Any]:
    _, values = group
    refs, rows = map(ImageRef._make, values["refs"]), map(TruthRow._make, values["rows"])
    joined, counts = join(refs, rows, labels, multi_label)
    yield beam.pvalue.TaggedOutput("counts", counts)
    yield from joined


class MergeTruthCounts(CombineTallies):
    """Several ``TruthCounts`` → their sum."""

    def create_accumulator(self) -> TruthCounts:  # noqa: D102
        return TruthCounts()

    def add_input(self, counts: TruthCounts, more: TruthCounts) -> TruthCounts:  # noqa: D102
        return counts.merge(more)


def _trusted(joined: WithTruth, counts: TruthCounts) -> ImageRef:
    """Return an image without a class that only its file's name gives it, if that may be wrong."""
    if joined.how is How.ELSEWHERE and not counts.trusts_names:
        return joined.ref._replace(truth=None)
    return joined.ref
