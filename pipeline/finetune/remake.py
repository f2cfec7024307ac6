"""Writes the report of a run again, whichever of the two jobs it was of."""

from __future__ import annotations

import json
from typing import Any

from pipeline import storage
from pipeline.config.report_options import ReportConfig
from pipeline.errors import OutputError, StoreError
from pipeline.finetune.examples import Example, from_jsonl
from pipeline.finetune.report import EXAMPLES, SUSPECTS, page_of
from pipeline.outputs import layout
from pipeline.report import job as label_report
from pipeline.runners.options import beam_options


def run(config: ReportConfig) -> int:
    """Write the page of an existing folder again, and print what its run said at the end.

    Returns:
      0.

    Raises:
      UsageError: the folder does not hold a complete run, or cannot be read or written.
    """
    storage.configure(beam_options(config.beam_args))
    folder = storage.absolute(config.folder)
    try:
        summary = _of_training(folder)
        if summary is None:
            return label_report.run(config)
        path = storage.join(folder, layout.REPORT)
        examples, suspects = (_examples(folder, name) for name in (EXAMPLES, SUSPECTS))
        page = page_of(summary, examples, folder, suspects)
        storage.write_file(path, page.encode(), mime_type="text/html")
    except StoreError as error:
        raise OutputError(f"{config.folder} cannot be read or written: {error}") from error
    except (KeyError, TypeError) as error:
        raise OutputError(f"{folder} has the results of another version: {error!r}") from error
    test = summary["test"]
    print(f"test accuracy {test['accuracy']:.3f} on {test['images']} images", path, sep="\n")
    return 0


def _of_training(folder: str) -> dict[str, Any] | None:
    """Read the summary of a finetune run; None if there is none, or another one."""
    path = storage.join(folder, layout.SUMMARY)
    if not storage.exists(path):
        return None
    try:
        summary = json.loads(_read(path))
    except ValueError:
        return None
    return summary if isinstance(summary, dict) and "reload_difference" in summary else None


def _examples(folder: str, name: str) -> list[Example]:
    """Read the examples of a run; none if it was by a version that did not write them."""
    path = storage.join(folder, name)
    try:
        return from_jsonl(_read(path).decode()) if storage.exists(path) else []
    except ValueError as error:
        raise OutputError(f"{path} has something that is not an example: {error}") from error


def _read(path: str) -> bytes:
    with storage.open_file(path) as file:
        return bytes(file.read())
