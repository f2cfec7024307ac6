"""Joins the images that were found with those that have been done before.

Earlier attempts of the same run have rows that are taken over; images that earlier runs have done
are skipped.
"""

from __future__ import annotations

import functools
import gzip
import operator
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam.io.fileio import MatchAll

from pipeline import progress
from pipeline.errors import RunError
from pipeline.formats.registry import suffix_of
from pipeline.formats.shards import read_rows
from pipeline.inputs.apart import has_version, is_numbered, without_version
from pipeline.inputs.find import distinct
from pipeline.label.entries import File, Seen, bucket_of, opened, seen_of
from pipeline.models import trained_on
from pipeline.records import (
    LABELED_BY,
    Failure,
    ImageRef,
    Labeled,
    from_json,
    from_row,
)
from pipeline.redaction import name_of
from pipeline.tally import CombineTogether

# What reading a damaged file of rows raises.
DAMAGED = (ValueError, KeyError, TypeError, EOFError, zlib.error, gzip.BadGzipFile)


class SortedImages(NamedTuple):
    """What ``SetAsideDone`` outputs; each image in ``found`` is in exactly one of the next four.

    ``found``: every image, once. ``new``: the images to label. ``skipped``: images that have not
    changed since earlier runs. ``labeled`` and ``failed``: the rows of earlier attempts.
    Of the others, the numbers add up. ``merged``: how often images were found once more. ``gone``:
    how many images have rows of earlier attempts, and are no longer found. ``told_apart``: how many
    images have URIs that only credentials tell apart.
    """

    found: beam.PCollection[ImageRef]
    new: beam.PCollection[ImageRef]
    skipped: beam.PCollection[ImageRef]
    labeled: beam.PCollection[Labeled]
    failed: beam.PCollection[Failure]
    merged: beam.PCollection[int]
    gone: beam.PCollection[int]
    told_apart: beam.PCollection[int]


class SetAsideDone(beam.PTransform):
    """Expects ``ImageRef``s, duplicates included, outputs ``SortedImages``.

    An image counts as done if its row has the image's present version and is either a label or a
    failure that the file itself causes. A format that other versions of this package or its
    libraries did not support is tried again.

    Args:
      attempts: globs of files with the rows of this run's earlier attempts, in which an image may
        have several.
      earlier_runs: globs of files with the rows of runs whose images need not be labeled again.
      same_versions: the ids of those of the runs that had the same versions.
      ledger: files with what is known of other runs whose images need not be labeled again.
      again: whether images that people have corrected are labeled again, whatever is known of them.

    Attributes:
      seen: after ``expand``, the names of the images in ``earlier_runs``, with ``Seen``; None if
        there are no such files.
    """

    def __init__(
        self,
        attempts: Sequence[str],
        earlier_runs: Sequence[str],
        same_versions: Collection[str] = (),
        ledger: Sequence[File] = (),
        again: bool = False,
    ):
        super().__init__()
        self._attempts = attempts
        self._earlier_runs = earlier_runs
        self._same_versions = frozenset(same_versions)
        self._ledger = tuple(ledger)
        self._again = again
        self.seen: beam.PCollection[tuple[str, Seen]] | None = None

    def expand(self, refs: beam.PCollection[ImageRef]) -> SortedImages:
        """Join by the images' names; the shuffle also spreads the images over the workers.

        With a ledger, join by buckets of names. Each of them is looked up where the ledger is, so
        that nothing of it is shuffled.
        """
        sources = {"found": refs | "ByName" >> beam.Map(_by_name)}
        if self._attempts:
            read = _ReadRows(self._attempts, self._same_versions, whole=True)
            sources["attempts"] = refs.pipeline | "Attempts" >> read
        if self._earlier_runs:
            read = _ReadRows(self._earlier_runs, self._same_versions, whole=False)
            sources["earlier"] = self.seen = refs.pipeline | "EarlierRuns" >> read
        if self._ledger:
            sources = {
                name: rows | f"Bucket_{name}" >> beam.Map(_in_bucket)
                for name, rows in sources.items()
            }
            sort: beam.DoFn = _SortBucket(self._ledger, self._same_versions, self._again)
        else:
            sort = _SortName(self._same_versions, self._again)
        outputs = (
            sources
            | "Join" >> beam.CoGroupByKey()
            | "Sort"
            >> beam.ParDo(sort).with_outputs(
                *("new", "skipped", "labeled", "failed", "merged", "gone", "told_apart"),
                main="found",
            )
        )
        sorted_ = SortedImages(*(outputs[tag] for tag in SortedImages._fields))
        if self._ledger:  # a bucket has many images, which other workers may label as well
            return sorted_._replace(new=sorted_.new | "Spread" >> beam.Reshuffle())
        return sorted_


class TakeFirst(beam.PTransform):
    """Expects the new ``ImageRef``s of a run, outputs the first of them by name.

    Args:
      limit: how many images the run takes.
      before: the rows of those that its earlier attempts have done.
    """

    def __init__(self, limit: int, before: Sequence[beam.PCollection[Labeled | Failure]]):
        super().__init__()
        self._limit = limit
        self._before = before

    def expand(self, new: beam.PCollection[ImageRef]) -> beam.PCollection[ImageRef]:
        """Choose in one place, and spread what is chosen over the workers again."""
        count = beam.combiners.CountCombineFn()
        by_name = operator.attrgetter("uri")
        known = {"new": new, **{f"before_{n}": rows for n, rows in enumerate(self._before)}}
        combine_fns = dict.fromkeys(known, count)
        first = beam.combiners.TopCombineFn(self._limit, by_name, reverse=True)
        return (
            {**known, "first": new}
            | CombineTogether({**combine_fns, "first": first})
            | "Take" >> beam.FlatMap(_take, self._limit)
            | beam.Reshuffle()
        )


def _take(known: Mapping[str, Any], limit: int) -> Sequence[ImageRef]:
    before = sum(count for name, count in known.items() if name.startswith("before_"))
    new, first = known["new"], known["first"]
    taken: Sequence[ImageRef] = first[: max(limit - before, 0)]
    progress.add(to_do=len(taken) - new, set_aside=new - len(taken))
    return taken


def _by_name(ref: ImageRef) -> tuple[str, tuple[Any, ...]]:
    """Key an image by its name; a URI that equals the name is not shuffled twice."""
    name = name_of(ref.uri, ref.naming)
    uri = "" if ref.uri == name else ref.uri
    return name, (uri, *ref[1:])


class _ReadRows(beam.PTransform):
    """Expects a pipeline, outputs what matters of each row, keyed by its image."""

    def __init__(self, globs: Sequence[str], same_versions: frozenset[str], whole: bool):
        super().__init__()
        self._globs = globs
        self._read = functools.partial(rows_in, same_versions=same_versions, whole=whole)

    def expand(self, pipeline: Any) -> beam.PCollection[tuple[str, Any]]:
        """Spread the files over the workers, and read them."""
        return (
            pipeline
            | beam.Create(self._globs)
            | MatchAll()
            | "Paths" >> beam.Map(lambda file: file.path)
            | "Whole" >> beam.Filter(suffix_of)  # another attempt may have died writing one
            | beam.Reshuffle()
            | "Read" >> beam.FlatMap(self._read)
        )


def rows_in(
    path: str, same_versions: frozenset[str], whole: bool
) -> Iterator[tuple[str, str | Seen]]:
    """Yield the image of each row of a file, with the row or with what matters of it.

    Failures that other versions of this package might not have had do not count.

    Raises:
      RunError: the file holds something else.
    """
    try:
        for row in map(from_row, read_rows(path)):
            if is_numbered(row.image):
                continue  # nobody knows which image that was
            key = without_version(row.image)
            seen = seen_of(row)
            if not whole:
                yield key, seen
            elif seen.holds(same_versions):
                yield key, row.to_json()
    except DAMAGED as error:
        raise RunError(
            f"{path} is damaged: it contains something that is not a row ({error}); delete the "
            "file, and its images are labeled again"
        ) from error


class _SortName(beam.DoFn):
    def __init__(self, same_versions: frozenset[str], again: bool):
        self._same_versions = same_versions
        self._again = again

    def process(self, group: tuple[str, dict[str, Iterable[Any]]]) -> Iterator[Any]:
        return _tag_sorted(*group, self._same_versions, self._again)


def _in_bucket(named: tuple[str, Any]) -> tuple[int, tuple[str, Any]]:
    return bucket_of(named[0]), named


class _SortBucket(beam.DoFn):
    def __init__(self, files: tuple[File, ...], same_versions: frozenset[str], again: bool):
        self._files = files
        self._same_versions = same_versions
        self._again = again

    def process(self, group: tuple[int, dict[str, Iterable[Any]]]) -> Iterator[Any]:
        bucket, sources = group
        by_name: dict[str, dict[str, list[Any]]] = {}
        for source, pairs in sources.items():
            for name, value in pairs:
                values = by_name.setdefault(name, {"found": [], "attempts": [], "earlier": []})
                values[source].append(value)
        versions = {
            name: {version for _, _, version, *_ in values["found"]}
            for name, values in by_name.items()
            if values["found"]
        }
        for name, seen in opened(self._files).look_up(bucket, versions):
            by_name[name]["earlier"] += seen
        for name, values in by_name.items():
            yield from _tag_sorted(name, values, self._same_versions, self._again)


def _tag_sorted(
    name: str, values: Mapping[str, Iterable[Any]], same_versions: frozenset[str], again: bool
) -> Iterator[Any]:
    if not values["found"]:
        if values.get("attempts"):
            yield beam.pvalue.TaggedOutput("gone", 1)
        return
    refs = [ImageRef(uri or name, *others) for uri, *others in values["found"]]
    earlier = [
        (seen.run_id, seen.version, seen.holds(same_versions)) for seen in values.get("earlier", ())
    ]
    sorted_ = list(sort_images(refs, values.get("attempts", ()), earlier, again))
    new = sum(tag == "new" for tag, _ in sorted_)
    progress.add(to_do=new, set_aside=len(refs) - new)
    merged = len(refs) - sum(tag == "found" for tag, _ in sorted_)
    if merged:
        yield beam.pvalue.TaggedOutput("merged", merged)
    alone = sum(
        isinstance(one, ImageRef) and one.place is None for tag, one in sorted_ if tag == "found"
    )
    if alone > 1:
        yield beam.pvalue.TaggedOutput("told_apart", alone)
    for tag, record in sorted_:
        yield record if tag == "found" else beam.pvalue.TaggedOutput(tag, record)


def sort_images(
    found: Iterable[ImageRef],
    attempts: Iterable[str],
    earlier: Iterable[tuple[str, str, bool]],
    again: bool = False,
) -> Iterator[tuple[str, ImageRef | Labeled | Failure]]:
    """Decide about the images of one name: yield fields of ``SortedImages``, and records.

    Args:
      found: see ``distinct``.
      attempts: rows, as JSON.
      earlier: for each row its run id, its version, and whether it holds for good for that version.
      again: whether an image that people have corrected is labeled again.
    """
    attempts, earlier = list(attempts), list(earlier)
    images = list(distinct(found))
    are_apart = sum(ref.place is None for ref in images) > 1
    for number, ref in enumerate(images):
        yield "found", ref
        seen = earlier
        if are_apart and ref.place is None and has_version(ref.uri):
            # Whatever the credentials were, it is the image that had this version.
            seen = [one for one in earlier if one[1] == ref.version]
        elif are_apart or number:  # the rows are those of the first, or of nobody knows which
            yield "new", ref
            continue
        row = taken_over(map(from_json, attempts), ref)
        if row is not None:
            yield "labeled" if isinstance(row, Labeled) else "failed", row
        elif _is_done(seen, ref.version) and not (again and LABELED_BY in ref.carried):
            yield "skipped", ref
        else:
            yield "new", ref


def taken_over(rows: Iterable[Labeled | Failure], ref: ImageRef) -> Labeled | Failure | None:
    """Return the row to take over for an image, if there is one; a label goes before a failure.

    If the version was not asked for, the row may have one: servers say it with the image.

    Args:
      rows: those of images of this name.
      ref: the image.
    """
    rows = [row for row in rows if not ref.version or row.version == ref.version]
    name = name_of(ref.uri, ref.naming)
    for row in rows:
        if isinstance(row, Labeled):
            carried = {**ref.carried, **trained_on.kept_of(row.carried)}
            return row._replace(image=name, truth=ref.truth, carried=carried)
    for row in rows:
        if isinstance(row, Failure) and row.is_for_good:
            return row._replace(image=name, carried=ref.carried)
    return None


def _is_done(earlier: Iterable[tuple[str, str, bool]], version: str) -> bool:
    """Tell whether the last run that saw the image saw this version, and finished with it."""
    _, seen, for_good = max(earlier, default=("", None, False))
    return seen == version and for_good
