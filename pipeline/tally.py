"""Counts what went in and what came out, and compares the counts."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import apache_beam as beam
from apache_beam.transforms.window import GlobalWindows
from apache_beam.utils.windowed_value import WindowedValue

from pipeline.errors import ReconciliationError
from pipeline.records import Failure, ImageRef, Labeled, StageSeconds, is_by_person
from pipeline.redaction import name_of


@dataclass
class Tally:
    """Counts at one end of the pipeline, or sums of such counts.

    Attributes:
      images: number of images.
      checksum: sum of the 64-bit hashes of their URIs, modulo 2^64. Unlike the count, it shows if
        one image was lost and another one doubled.
      reasons: failures by reason.
      examples: for each reason the first image by name, and the message of its failure.
      labels: labeled images by label; one with several labels counts for each of them.
      below_threshold: labeled images without a label.
      by_person: labeled images whose label a person gave.
      changed: of these, those for which it is not the model's most probable class.
      seconds: what the labeled images cost, by stage.
      timed: how many of them have told; rows that are read again have not.
    """

    images: int = 0
    checksum: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    examples: dict[str, tuple[str, str]] = field(default_factory=dict)
    labels: Counter[str] = field(default_factory=Counter)
    below_threshold: int = 0
    by_person: int = 0
    changed: int = 0
    seconds: StageSeconds = field(default_factory=StageSeconds)
    timed: int = 0

    def add(self, record: ImageRef | Labeled | Failure, multi_label: bool = False) -> Tally:
        """Count one more record, in place.

        Args:
          record: what to count.
          multi_label: whether all predictions of a row are labels.
        """
        self.images += 1
        self.checksum = (self.checksum + hash_of(_uri(record))) % 2**64
        if isinstance(record, Failure):
            self.reasons[record.reason] += 1
            self._keep(record.reason, (record.image, record.message))
        elif isinstance(record, Labeled):
            if record.label is None:
                self.below_threshold += 1
            elif multi_label:
                self.labels.update({prediction.label for prediction in record.predictions})
            else:
                self.labels[record.label] += 1
            if is_by_person(record.carried):
                self.by_person += 1
                self.changed += record.label != record.predictions[0].label
            self.seconds = _sum(self.seconds, record.seconds)
            self.timed += any(record.seconds)
        return self

    def without(self, other: Tally) -> Tally:
        """Return the number and the checksum of the images that are not in another tally."""
        return Tally(self.images - other.images, (self.checksum - other.checksum) % 2**64)

    def merge(self, other: Tally) -> Tally:
        """Add another tally, in place."""
        self.images += other.images
        self.checksum = (self.checksum + other.checksum) % 2**64
        self.reasons += other.reasons
        for reason, example in other.examples.items():
            self._keep(reason, example)
        self.labels += other.labels
        self.below_threshold += other.below_threshold
        self.by_person += other.by_person
        self.changed += other.changed
        self.seconds = _sum(self.seconds, other.seconds)
        self.timed += other.timed
        return self

    def _keep(self, reason: str, example: tuple[str, str]) -> None:
        self.examples[reason] = min(example, self.examples.get(reason, example))


class CombineTallies(beam.CombineFn):
    """The part of a ``CombineFn`` that is the same for all tallies, which have ``merge``.

    A subclass makes a tally, and adds to it.
    """

    def merge_accumulators(self, tallies: Iterable[Any]) -> Any:  # noqa: D102
        merged = self.create_accumulator()
        for tally in tallies:
            merged.merge(tally)
        return merged

    def extract_output(self, tally: Any) -> Any:  # noqa: D102
        return tally


class CountRecords(CombineTallies):
    """``ImageRef``, ``Labeled`` or ``Failure`` records → one ``Tally``.

    Args:
      multi_label: whether all predictions of a row are labels.
    """

    def __init__(self, multi_label: bool = False):
        super().__init__()
        self._multi_label = multi_label

    def create_accumulator(self) -> Tally:  # noqa: D102
        return Tally()

    def add_input(self, tally: Tally, record: ImageRef | Labeled | Failure) -> Tally:  # noqa: D102
        return tally.add(record, self._multi_label)


class CombineTogether(beam.PTransform):
    """Expects PCollections by name, outputs one dict: name → what its ``CombineFn`` makes of it.

    Each bundle is combined where it is made, and only the accumulators are sent on, together. One
    ``CombineGlobally`` for each would be ten steps each for the runner; and a ``Flatten`` of the
    elements would send them all. At least one of the PCollections must have an element.

    Args:
      combine_fns: by name, the same names.
    """

    def __init__(self, combine_fns: Mapping[str, beam.CombineFn]):
        super().__init__()
        self._combine_fns = dict(combine_fns)

    def expand(
        self, collections: Mapping[str, beam.PCollection[Any]]
    ) -> beam.PCollection[dict[str, Any]]:
        """Combine bundles, then their accumulators."""
        partial = [
            collections[name] | f"Combine_{name}" >> beam.ParDo(_CombineBundle(name, combine_fn))
            for name, combine_fn in self._combine_fns.items()
        ]
        # Default values would be two stages more.
        combine = beam.CombineGlobally(_CombineByName(self._combine_fns)).without_defaults()
        return partial | beam.Flatten() | combine


class _CombineBundle(beam.DoFn):
    def __init__(self, name: str, combine_fn: beam.CombineFn):
        self._name = name
        self._combine_fn = combine_fn

    def start_bundle(self) -> None:
        self._accumulator: Any = None

    def process(self, element: Any) -> None:
        if self._accumulator is None:
            self._accumulator = self._combine_fn.create_accumulator()
        self._accumulator = self._combine_fn.add_input(self._accumulator, element)

    def finish_bundle(self) -> Iterator[WindowedValue]:
        if self._accumulator is not None:
            accumulator = self._combine_fn.compact(self._accumulator)
            yield GlobalWindows.windowed_value((self._name, accumulator))


class _CombineByName(beam.CombineFn):
    """Pairs of a name and an accumulator → name: what its ``CombineFn`` makes of them."""

    def __init__(self, combine_fns: Mapping[str, beam.CombineFn]):
        super().__init__()
        self._combine_fns = dict(combine_fns)

    def create_accumulator(self) -> dict[str, Any]:
        return {}

    def add_input(self, by_name: dict[str, Any], pair: tuple[str, Any]) -> dict[str, Any]:
        name, accumulator = pair
        some = [by_name[name], accumulator] if name in by_name else [accumulator]
        by_name[name] = self._combine_fns[name].merge_accumulators(some)
        return by_name

    def merge_accumulators(self, many: Iterable[dict[str, Any]]) -> dict[str, Any]:
        merged = self.create_accumulator()
        for by_name in many:
            for pair in by_name.items():
                merged = self.add_input(merged, pair)
        return merged

    def compact(self, by_name: dict[str, Any]) -> dict[str, Any]:
        return {name: self._combine_fns[name].compact(one) for name, one in by_name.items()}

    def extract_output(self, by_name: dict[str, Any]) -> dict[str, Any]:
        return {
            name: combine_fn.extract_output(
                by_name[name] if name in by_name else combine_fn.create_accumulator()
            )
            for name, combine_fn in self._combine_fns.items()
        }


def reconcile(found: Tally, labeled: Tally, failed: Tally, skipped: Tally | None = None) -> None:
    """Check that every image found came out once.

    Raises:
      ReconciliationError: images were lost, doubled or mixed up.
    """
    skipped = skipped or Tally()
    counts = f"{found.images} images found, {labeled.images} labeled and {failed.images} failed"
    if skipped.images:
        counts += f", {skipped.images} skipped"
    if found.images == 0:
        raise ReconciliationError("no images were found when the pipeline listed the inputs")
    if found.images != labeled.images + failed.images + skipped.images:
        raise ReconciliationError(
            f"{counts}: the counts do not add up, so the results are not complete"
        )
    if found.checksum != (labeled.checksum + failed.checksum + skipped.checksum) % 2**64:
        raise ReconciliationError(f"{counts}: the counts add up, but they are not the same images")


def _uri(record: ImageRef | Labeled | Failure) -> str:
    return name_of(record.uri, record.naming) if isinstance(record, ImageRef) else record.image


def hash_of(name: str) -> int:
    """Hash a name to 64 bits, the same in every process."""
    # A row that somebody has edited may contain lone surrogates.
    data = name.encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "big")


def _sum(left: StageSeconds, right: StageSeconds) -> StageSeconds:
    return StageSeconds(*(a + b for a, b in zip(left, right, strict=True)))


def headline(summary: Mapping[str, Any]) -> str:
    """Sum up a run in one line: its counts and its rate.

    Args:
      summary: the content of ``summary.json``.
    """
    skipped = f" + {summary['skipped']:,} skipped" if summary["skipped"] else ""
    return (
        f"{summary['found']:,} found = {summary['labeled']:,} labeled + {summary['failed']:,} "
        f"failed{skipped} in {summary['seconds']:.1f} s ({summary['images_per_second']:.1f} "
        "images/s)"
    )
