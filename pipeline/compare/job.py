"""The compare job: joins the rows of two runs, and tells what has changed."""

from __future__ import annotations

import csv
import json
import tempfile
from pathlib import Path
from typing import NamedTuple

from pipeline import console, storage
from pipeline.compare.counts import Change, Comparison
from pipeline.compare.join import divide, join
from pipeline.compare.page import load_pictures, render_page
from pipeline.compare.results import failed_gates, gates, in_words, summarize
from pipeline.compare.sources import Source, find_source, rows_of
from pipeline.config.compare_options import CompareConfig
from pipeline.errors import OutputError, RunError, StoreError, UsageError
from pipeline.outputs import layout
from pipeline.runners.options import beam_options


class ChangedImage(NamedTuple):
    """The columns of ``compare.csv``.

    ``change``: see ``counts.Change``. ``label_a``, ``label_b``: None below the threshold or after
    a failure; a list in JSON if there may be several. ``score_a``, ``score_b``: of the best
    classes, in [0, 1]; None after a failure.
    """

    image: str
    change: str
    label_a: str | None
    score_a: float | None
    label_b: str | None
    score_b: float | None
    truth: str | None


def run(config: CompareConfig) -> int:
    """Compare two runs.

    Returns:
      0, or 1 if a limit is exceeded.

    Raises:
      UsageError: one of them is not the output of label, they have no image in common, or what has
        a limit cannot be measured.
      RunError: a row is damaged, or rows are missing.
    """
    storage.configure(beam_options(config.all_beam_args))
    a, b = find_source(config.run_a), find_source(config.run_b)
    if a.folder == b.folder:
        raise UsageError(f"{config.run_a} and {config.run_b} are the same folder")
    output = layout.prepare(config.run_b if config.output is None else config.output)
    local = None if storage.is_remote(output) else output  # on the disk that has to have the room
    try:
        with tempfile.TemporaryDirectory(dir=local, prefix=".comparing-") as temporary:
            changes = Path(temporary, layout.COMPARE_CHANGES)
            counts = _compare(a, b, Path(temporary), changes)
            limits = gates(counts, config.max_changed, config.max_drop)
            result = summarize(counts, a, b, limits)
            pages = storage.join(output, layout.COMPARE_PAGE)
            page = render_page(result, counts, load_pictures(counts), output)
            storage.write_file(pages, page.encode(), mime_type="text/html")
            storage.upload(changes, storage.join(output, layout.COMPARE_CHANGES))
            content = json.dumps(result, indent=2).encode() + b"\n"
            storage.write_file(storage.join(output, layout.COMPARE_SUMMARY), content)
    except StoreError as error:
        raise OutputError(f"{output} or a run cannot be read or written: {error}") from error
    except OSError as error:
        raise RunError(f"the comparison failed: {error}") from error
    print(f"{in_words(result)}; {pages}")
    failed = failed_gates(result)
    for line in failed:
        console.say(f"error: --{line}")
    return 1 if failed else 0


def _compare(a: Source, b: Source, folder: Path, changes: Path) -> Comparison:
    """Count what is the same in both runs, and write the images that are not."""
    several = [
        source.multi_label(divide(rows_of(source), side, folder))
        for side, source in enumerate((a, b))
    ]
    if several[0] is not several[1]:
        raise UsageError(
            f"{a.given} and {b.given} cannot be compared: one has several labels per image, the "
            "other has one"
        )
    counts = Comparison(several[0])
    # Surrogates in a name stand for bytes that are not UTF-8, and cannot be written.
    with changes.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(ChangedImage._fields)
        for pair in join(folder):
            change = counts.add(pair)
            if change is not None:
                table.writerow(_changed_image(counts, change))
    if not counts.both:
        raise UsageError(
            f"{a.given} and {b.given} have no image in common ({counts.a.images:,} and "
            f"{counts.b.images:,} images)",
            remedy="give two runs with the same inputs",
        )
    return counts


def _changed_image(counts: Comparison, change: Change) -> ChangedImage:
    labels, scores = [], []
    for row in (change.a, change.b):
        found = counts.labels(row)
        as_list = counts.multi_label and row.reason is None
        labels.append(json.dumps(found) if as_list else next(iter(found), None))
        scores.append(row.score if row.reason is None else None)
    truth = change.b.truth if change.a.truth is None else change.a.truth
    return ChangedImage(
        change.image, change.kind, labels[0], scores[0], labels[1], scores[1], truth
    )
