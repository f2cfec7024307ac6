"""Reads labels that people have given, and finds the images that they are for."""

from __future__ import annotations

import csv
import functools
import hashlib
import io
import json
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pipeline import storage
from pipeline.errors import ImageError, InputError, StoreError
from pipeline.inputs import column_names, label_studio
from pipeline.inputs.columns import TABLE
from pipeline.inputs.kinds import Input, file_at
from pipeline.inputs.matching import How, key_of, match
from pipeline.inputs.truth_table import TruthRow, identify_truth, read_truth
from pipeline.models.class_lookup import lookup_of
from pipeline.outputs import layout
from pipeline.records import LABELED_BY, MODEL, PERSON, Failure, ImageRef, Labeled
from pipeline.redaction import Naming, name_of

# The argument that gives them.
ARGUMENT = "corrections"

# Rows that are held in memory; people do not make more.
_MOST = 1_000_000

# Names that a message quotes.
_EXAMPLES = 3


class Corrections(NamedTuple):
    """A file of corrections that has been checked.

    ``source``: the file. ``naming``: see ``Input``. ``fingerprint``: of what it says. ``rows``:
    number of its rows. ``unnamed`` and ``unclassed``: of these, how many name no image, or no
    class, as rows do that nobody has filled in. ``unknown``: numbers of rows by a class that the
    model does not have. ``again``: whether images are labeled again that earlier runs have done.
    """

    source: Input
    fingerprint: str
    rows: int
    unnamed: int
    unclassed: int
    unknown: Mapping[str, int]
    again: bool = True


def identify(given: str, uri_column: str, truth_column: str, naming: Naming | None) -> Input:
    """Check that a file has corrections.

    Args:
      given: what the user wrote: a table, or an export of Label Studio as JSON-MIN.
      uri_column: see ``identify_truth``.
      truth_column: likewise; ``CORRECTED`` and Label Studio's ``choice`` go before it.
      naming: see ``Input``.

    Raises:
      InputError: it is something else, or lacks a column.
    """
    if not label_studio.is_json(given):
        first = (column_names.CORRECTED, label_studio.CHOICE)
        return identify_truth(given, uri_column, truth_column, naming, ARGUMENT, first)
    source = Input(TABLE, storage.absolute(given), given, argument=ARGUMENT, naming=naming)
    try:
        found = file_at(given)
    except StoreError as error:
        raise source.error(f"cannot be read: {error}") from error
    if found is None:
        raise source.error("there is no such file")
    return source


def read(source: Input) -> list[TruthRow]:
    """Read all rows of what ``identify`` returned.

    Raises:
      InputError: it cannot be read, or is too long.
    """
    rows = []
    for row in _json_min(source) if label_studio.is_json(source.uri) else read_truth(source):
        entry = label_studio.image_of(row.entry)
        if entry != row.entry:
            row = row._replace(entry=entry, name=entry)
        rows.append(row._replace(truth=label_studio.choice_in(row.truth)))
        if len(rows) > _MOST:
            raise source.error(f"has more than {_MOST:,} rows")
    return rows


def _json_min(source: Input) -> Iterator[TruthRow]:
    try:
        for number, (_, image, choice) in enumerate(label_studio.read_json_min(source.uri), 1):
            entry = image.strip()
            yield TruthRow(number, entry, name_of(entry, source.naming) if entry else "", choice)
    except (StoreError, ImageError, ValueError, EOFError, zlib.error) as error:
        raise source.error(f"cannot be read: {error}") from error


def check(source: Input, labels: tuple[str, ...]) -> Corrections:
    """Find what is wrong with corrections without looking at the images.

    Args:
      source: what ``identify`` returned.
      labels: the names of the model's classes.

    Raises:
      InputError: it has none, no class of the model's, or two classes for an image.
    """
    rows = read(source)
    usable = [row for row in rows if row.entry and row.truth]
    if not usable:
        raise source.error(
            f"no row has both an image's name and a class; {_columns(source)} are looked at",
            "fill in the classes",
        )
    lookup = lookup_of(labels)
    classes: dict[str, str] = {}
    unknown: Counter[str] = Counter()
    for row in usable:
        said = str(row.truth)
        known = lookup.find(said)
        unknown.update([said] if known is None else [])
        other = classes.setdefault(row.name, known or said)
        if other != (known or said):
            raise source.error(
                f"its rows name two classes for {row.entry!r}: {other!r} and {known or said!r}",
                "leave only the right one",
            )
    if unknown.total() == len(usable):
        raise source.error(
            f"none of its {len(usable):,} rows has a class of the model's: "
            f"{in_words(unknown, labels)}"
        )
    said = json.dumps(sorted((name, class_) for name, class_ in classes.items()))
    return Corrections(
        source,
        f"sha256:{hashlib.sha256(said.encode('utf-8', 'surrogatepass')).hexdigest()}",
        len(rows),
        sum(not row.entry for row in rows),
        sum(bool(row.entry) and not row.truth for row in rows),
        unknown,
    )


def _columns(source: Input) -> str:
    if label_studio.is_json(source.uri):
        return f"{label_studio.IMAGE!r} and {label_studio.CHOICE!r}"
    return f"the columns {source.uri_column!r} and {source.truth_column!r}"


def in_words(unknown: Mapping[str, int], labels: tuple[str, ...]) -> str:
    """List the first classes that the model does not have, each with the nearest one it has."""
    words = []
    for name in sorted(unknown)[:_EXAMPLES]:
        nearest = lookup_of(labels).nearest(name)
        words.append(repr(name) + ("" if nearest is None else f" (perhaps {nearest!r})"))
    return ", ".join(words) + (", …" if len(unknown) > _EXAMPLES else "")


@functools.lru_cache(maxsize=1)
def by_key(source: Input, fingerprint: str) -> dict[str, list[TruthRow]]:
    """Read the usable rows once in each process, by ``key_of`` their images.

    Args:
      source: the file.
      fingerprint: what ``check`` found; a file that has changed is read again.
    """
    del fingerprint
    found: dict[str, list[TruthRow]] = {}
    for row in read(source):
        if row.entry and row.truth:
            found.setdefault(key_of(row.entry), []).append(row)
    return found


@dataclass
class Matched:
    """Which images have been corrected; a tally.

    Attributes:
      labels: the labels that people gave, by image.
      rows: numbers of rows by the value of ``How``.
      contradicted: images whose rows name different classes, which get no label by a person.
      unmatched: names in rows that name no image, or several.
    """

    labels: dict[str, str] = field(default_factory=dict)
    rows: Counter[str] = field(default_factory=Counter)
    contradicted: list[str] = field(default_factory=list)
    unmatched: dict[str, list[str]] = field(default_factory=dict)

    def merge(self, other: Matched) -> Matched:
        """Add what is known of other images, in place."""
        self.labels |= other.labels
        self.rows += other.rows
        self.contradicted += other.contradicted
        for how, names in other.unmatched.items():
            self.unmatched[how] = sorted({*self.unmatched.get(how, ()), *names})[:_EXAMPLES]
        return self

    def to_json(self, corrections: Corrections) -> dict[str, Any]:
        """Return the figures as ``summary.json`` has them, with some names for each."""
        usable = corrections.rows - corrections.unnamed - corrections.unclassed
        several = self.rows[How.SEVERAL.value]
        named = self.rows[How.FULL.value] + self.rows[How.END.value]
        examples = {
            "rows_of_several_images": self.unmatched.get(How.SEVERAL.value, []),
            "images_with_contradicting_rows": sorted(self.contradicted)[:_EXAMPLES],
            "rows_of_unknown_classes": sorted(corrections.unknown)[:_EXAMPLES],
        }
        return {
            "images": len(self.labels),
            "images_with_contradicting_rows": len(self.contradicted),
            "rows": corrections.rows,
            "rows_of_no_image": usable - several - named,
            "rows_of_several_images": several,
            "rows_without_name": corrections.unnamed,
            "rows_without_class": corrections.unclassed,
            "rows_of_unknown_classes": sum(corrections.unknown.values()),
            "examples": {name: some for name, some in examples.items() if some},
        }


def join(
    refs: Iterable[ImageRef], rows: Iterable[TruthRow], labels: tuple[str, ...]
) -> tuple[list[ImageRef], Matched]:
    """Give the images of which people said what they are what they said, as ``LABELED_BY``.

    A row names an image by its whole path or URI, or by an end of it, see ``matching``; not if the
    folders above differ.

    Args:
      refs: images whose files have the same name, duplicates included.
      rows: those of the same name, each with a class.
      labels: the names of the model's classes.
    """
    refs, rows, lookup = list(refs), sorted(rows), lookup_of(labels)
    images = dict.fromkeys(name_of(ref.uri, ref.naming) for ref in refs)
    matched, said = Matched(), dict[str, set[str]]()
    for row, found in zip(
        rows, match(images, [(row.entry, row.name) for row in rows]), strict=True
    ):
        matched.rows[found.how.value] += 1
        if found.image is not None and found.how in (How.FULL, How.END):
            class_ = str(row.truth)
            said.setdefault(found.image, set()).add(lookup.find(class_) or class_)
        else:
            matched.unmatched.setdefault(found.how.value, []).append(row.entry)
    matched.labels = {image: min(some) for image, some in said.items() if len(some) == 1}
    matched.contradicted = [image for image, some in said.items() if len(some) > 1]
    corrected = []
    for ref in refs:
        label = matched.labels.get(name_of(ref.uri, ref.naming))
        carried = ref.carried if label is None else {**ref.carried, LABELED_BY: label}
        corrected.append(ref._replace(carried=carried))
    return corrected, matched


def apply(row: Labeled, labels: tuple[str, ...]) -> Labeled:
    """Give a row the label that ``join`` left with its image, and say who gave it.

    Args:
      row: as ``decide`` returned it.
      labels: the names of the model's classes.
    """
    said = row.carried.get(LABELED_BY)
    carried = {**row.carried, LABELED_BY: MODEL if said is None else PERSON}
    if said is None:
        return row._replace(carried=carried)
    return row._replace(label=said, class_id=_numbers(labels).get(said), carried=carried)


@functools.lru_cache(maxsize=4)
def _numbers(labels: tuple[str, ...]) -> dict[str, int]:
    return {label: number for number, label in reversed(list(enumerate(labels)))}


def forget(failure: Failure) -> Failure:
    """Remove what ``join`` left with an image that has no label in the end."""
    carried = {name: value for name, value in failure.carried.items() if name != LABELED_BY}
    return failure._replace(carried=carried)


def notes(found: Mapping[str, Any], unknown: str) -> Iterator[str]:
    """Say what people should know of their corrections, one line each.

    Args:
      found: as ``Matched.to_json`` returned it.
      unknown: what ``in_words`` returned.
    """
    usable = found["rows"] - found["rows_without_name"] - found["rows_without_class"]
    yield f"corrections: {found['images']:,} images named, by {usable:,} rows with a class"

    def like(name: str) -> str:
        names = found["examples"].get(name)
        return f", such as {names[0]}" if names else ""

    for name, words in (
        ("rows_of_no_image", "name no image of this run"),
        ("rows_of_several_images", "fit several images, and none of them is corrected"),
        ("rows_without_name", "have no image's name"),
    ):
        if found[name]:
            yield f"corrections: {found[name]:,} of {found['rows']:,} rows {words}{like(name)}"
    if found["images_with_contradicting_rows"]:
        yield (
            f"corrections: {found['images_with_contradicting_rows']:,} images have rows with "
            f"different classes, and keep the model's label"
            f"{like('images_with_contradicting_rows')}"
        )
    if found["rows_of_unknown_classes"]:
        yield (
            f"corrections: {found['rows_of_unknown_classes']:,} of {found['rows']:,} rows have a "
            f"class that the model does not know, and which becomes the label as it is: {unknown}"
        )


def write(folder: str, labels: Mapping[str, str]) -> None:
    """Write ``corrections.csv``, a table for ``finetune``.

    Args:
      folder: the run's.
      labels: the labels that people gave, by image.

    Raises:
      StoreError: it cannot be written.
    """
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\r\n")
    writer.writerow(("image", column_names.CLASSES[0]))
    writer.writerows(sorted(labels.items()))
    storage.write_file(storage.join(folder, layout.CORRECTIONS), table.getvalue().encode())


def refuse_unmatched(corrections: Corrections, matched: Matched, images: Iterable[str]) -> None:
    """Refuse corrections of which none names an image.

    Args:
      corrections: what ``check`` returned.
      matched: what all images together have matched.
      images: names of some.

    Raises:
      InputError: none does.
    """
    if matched.labels or matched.contradicted:
        return
    source = corrections.source
    rows = [row.entry for some in by_key(source, corrections.fingerprint).values() for row in some][
        :_EXAMPLES
    ]
    raise InputError(
        f"no row names one of the images; rows name {', '.join(map(repr, rows))}, and images are "
        f"{', '.join(map(repr, images))}",
        subject=ARGUMENT,
        given=source.given,
    )
