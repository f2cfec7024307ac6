"""Writes the page of a run: after the run, or again for an existing folder."""

from __future__ import annotations

import jinja2

from pipeline import console, storage
from pipeline.config.report_options import ReportConfig
from pipeline.errors import OutputError, StoreError
from pipeline.outputs import layout
from pipeline.report import index
from pipeline.report.mix import class_mix
from pipeline.report.multi_label import in_words as multi_label_in_words
from pipeline.report.page import render_page
from pipeline.report.reading import aggregate_rows, previous_run, read_summary
from pipeline.report.thumbnails import load_thumbnails
from pipeline.report.truth import in_words, quality
from pipeline.tally import headline

# What can go wrong with a page, which is not part of the results: a store fails, somebody has
# edited a row, the disk or memory is full, there are no more threads.
_FAILURES = (
    OutputError,
    StoreError,
    OSError,
    ValueError,
    jinja2.TemplateError,
    LookupError,
    TypeError,
    ArithmeticError,
    RuntimeError,
    MemoryError,
)


def run(config: ReportConfig) -> int:
    """Write the page of a run again, or of an output with a folder for each run, and sum it up.

    Returns:
      0.

    Raises:
      UsageError: the folder holds no whole run, or cannot be read or written.
    """
    from pipeline.runners.options import beam_options

    storage.configure(beam_options(config.all_beam_args))
    try:
        folder = storage.absolute(config.folder)
        if not storage.exists(storage.join(folder, layout.SUMMARY)):
            runs = index.find_runs(folder)
            if runs.nights:
                print(*index.make(folder, runs), sep="\n")
                return 0
        lines = make(folder)
        print(headline(read_summary(folder)), *lines, sep="\n")
    except StoreError as error:
        raise OutputError(f"{config.folder} cannot be read or written: {error}") from error
    return 0


def write(folder: str) -> list[str]:
    """Write the page of a run that has just ended; if that fails, warn, and return no lines.

    Args:
      folder: absolute path or URI.

    Returns:
      What ``make`` returns, or nothing.
    """
    try:
        return make(folder)
    except _FAILURES as error:
        path = storage.join(folder, layout.REPORT)
        console.say(f"warning: {path} cannot be written: {str(error) or type(error).__name__}")
        return []


def make(folder: str) -> list[str]:
    """Read a run's folder, and write its page.

    Args:
      folder: absolute path or URI.

    Returns:
      Lines for the console: how good the labels are, if that is known, and the page's path.

    Raises:
      OutputError: the folder does not hold a complete run.
    """
    summary = read_summary(folder)
    multi_label = bool(summary["model"].get("multi_label"))
    rows = aggregate_rows(folder, summary["labels"], multi_label)
    pictures = [*rows.mistakes, *rows.uncertain, *rows.unlabeled]
    pictures += (one for some in rows.by_label.values() for one in some)
    found = quality(rows.judged)
    previous = previous_run(folder)
    images = summary["labeled"], previous.summary["labeled"] if previous else 0
    mix = class_mix(
        summary["labels"],
        previous.summary["labels"] if previous else None,
        images if multi_label else None,
    )
    page = render_page(folder, summary, rows, found, load_thumbnails(pictures), mix, previous)
    path = storage.join(folder, layout.REPORT)
    storage.write_file(path, page.encode(), mime_type="text/html")
    evaluation = summary.get("evaluation") or (found and found.to_json())
    if not evaluation:
        return [path]
    return [multi_label_in_words(evaluation) if multi_label else in_words(evaluation), path]
