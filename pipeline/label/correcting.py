"""Puts corrections into a run: checks them before, and joins them with the images in it."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import apache_beam as beam

from pipeline import storage
from pipeline.errors import ModelError, OutputError, UsageError
from pipeline.inputs.matching import key_of
from pipeline.label import corrections, notes, review
from pipeline.label.corrections import Corrections, Matched
from pipeline.label.runs import Run
from pipeline.label.summary import is_quiet
from pipeline.label.truth_check import first_images
from pipeline.outputs import layout
from pipeline.records import ImageRef
from pipeline.redaction import name_of
from pipeline.tally import CombineTallies

_EXAMPLES = 3


def prepare(run: Run) -> Run:
    """Check the corrections that were given against the model, the images and the earlier runs.

    Args:
      run: as it was planned; nothing has been changed so far.

    Returns:
      The run with its corrections, if some were given.

    Raises:
      UsageError: they do not fit.
    """
    config, labels = run.config, run.spec.labels
    _refuse_to_replace(run)
    if config.corrections is None:
        return run
    if run.spec.is_multi_label:
        raise ModelError(
            "gives an image several labels",
            subject="model",
            given=config.model,
            remedy="leave {corrections} out, which is for models that give one",
        )
    source = corrections.identify(
        config.corrections, config.uri_column, config.truth_column, config.naming
    )
    found = corrections.check(source, labels)
    # The images of one night may all be others than those that people have seen so far.
    images = None if config.incremental else first_images(run)
    if images is not None:
        by_key = corrections.by_key(source, found.fingerprint)
        grouped: dict[str, list[ImageRef]] = {}
        for ref in images:
            grouped.setdefault(key_of(name_of(ref.uri, ref.naming)), []).append(ref)
        matched = Matched()
        for key, refs in grouped.items():
            if key in by_key:
                matched.merge(corrections.join(refs, by_key[key], labels)[1])
        some = (name_of(ref.uri, ref.naming) for ref in itertools.islice(images, _EXAMPLES))
        corrections.refuse_unmatched(found, matched, some)
    again = not run.config.incremental or _last_fingerprint(run) != found.fingerprint
    return dataclasses.replace(run, corrections=found._replace(again=again))


def _refuse_to_replace(run: Run) -> None:
    """Refuse a run that would replace what somebody has filled in, or the corrections themselves.

    Raises:
      UsageError: it would.
    """
    given = run.config.corrections
    replaced = [storage.join(run.folder, name) for name in layout.BESIDE]
    if given is not None and storage.absolute(given) in replaced:
        raise UsageError(
            "is a file of this run, which would replace it",
            subject=corrections.ARGUMENT,
            given=given,
            remedy="copy it to another folder, and give the copy",
        )
    path = storage.join(run.folder, layout.REVIEW)
    if storage.exists(path) and review.is_filled_in(path):
        raise OutputError(
            f"its {layout.REVIEW} has been filled in, and this run would replace it",
            subject="output",
            given=run.folder,
            remedy="move it to another folder, and give it as {corrections}",
        )


def in_lines(run: Run, summary: Mapping[str, Any]) -> list[str]:
    """Say what became of the corrections; nothing without any.

    Args:
      run: as ``prepare`` returned it.
      summary: the content of ``summary.json``.
    """
    if run.corrections is None:
        return []
    unknown = corrections.in_words(run.corrections.unknown, run.spec.labels)
    return list(corrections.notes(summary["corrections"], unknown))


def finish(run: Run, matched: Matched, summary: Mapping[str, Any]) -> dict[str, Any]:
    """Say what became of the corrections, and write the table of those that name an image.

    Args:
      run: with corrections.
      matched: the images that they name.
      summary: of the run, so far.

    Returns:
      What the summary has of them. Without a fingerprint, the next night labels these images
      again, as this one has left out some.

    Raises:
      StoreError: the table cannot be written.
    """
    assert run.corrections is not None
    figures = matched.to_json(run.corrections)
    if not is_quiet(summary):
        corrections.write(run.folder, matched.labels)
    is_whole = not summary.get("left_out")
    return {**figures, "fingerprint": run.corrections.fingerprint if is_whole else None}


def _last_fingerprint(run: Run) -> str | None:
    """The corrections of the last run beside this one, if that one counts for this one."""
    parent, _ = storage.split(run.folder)
    paths = storage.find(parent, f"{layout.RUN_FOLDER}*/{layout.SUMMARY}")
    last = notes.read(max(paths)) if paths else None
    if last is None or notes.changed(last["settings"], run.settings, notes.MAKE_OTHER_ROWS):
        return None
    return (last.get("corrections") or {}).get("fingerprint")


class Correct(beam.PTransform):
    """Expects ``ImageRef``s, outputs them with what ``join`` leaves with them, and ``Matched``s.

    Only images whose files have the name of one in the corrections are shuffled.

    Args:
      found: the corrections.
      labels: the names of the model's classes.
    """

    def __init__(self, found: Corrections, labels: tuple[str, ...]):
        super().__init__()
        self._found = found
        self._labels = labels

    def expand(
        self, refs: beam.PCollection[ImageRef]
    ) -> tuple[beam.PCollection[ImageRef], beam.PCollection[Matched]]:
        """Join by the files' names."""
        others, named = refs | "Named" >> beam.ParDo(_Named(self._found)).with_outputs(
            "named", main="others"
        )
        corrected, matched = (
            named
            | "ByFile" >> beam.GroupByKey()
            | "Match"
            >> beam.ParDo(_Join(self._found, self._labels)).with_outputs("matched", main="refs")
        )
        return (others, corrected) | "Together" >> beam.Flatten(), matched


class _Named(beam.DoFn):
    def __init__(self, found: Corrections):
        self._found = found

    def process(self, ref: ImageRef) -> Iterator[Any]:
        key = key_of(name_of(ref.uri, ref.naming))
        if key in corrections.by_key(self._found.source, self._found.fingerprint):
            yield beam.pvalue.TaggedOutput("named", (key, tuple(ref)))
        else:
            yield ref


class _Join(beam.DoFn):
    def __init__(self, found: Corrections, labels: tuple[str, ...]):
        self._found = found
        self._labels = labels

    def process(self, group: tuple[str, Iterable[tuple[Any, ...]]]) -> Iterator[Any]:
        key, refs = group
        rows = corrections.by_key(self._found.source, self._found.fingerprint)[key]
        corrected, matched = corrections.join(map(ImageRef._make, refs), rows, self._labels)
        yield beam.pvalue.TaggedOutput("matched", matched)
        yield from corrected


class MergeMatched(CombineTallies):
    """Several ``Matched`` → their sum."""

    def create_accumulator(self) -> Matched:  # noqa: D102
        return Matched()

    def add_input(self, matched: Matched, more: Matched) -> Matched:  # noqa: D102
        return matched.merge(more)
