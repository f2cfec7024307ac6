"""Reads what a label run says of itself."""

from __future__ import annotations

import json
from typing import Any

from pipeline import storage
from pipeline.errors import OutputError, StoreError
from pipeline.outputs.rows import SUMMARY


def read_summary(folder: str) -> dict[str, Any]:
    """Read the ``summary.json`` of a run's folder.

    Raises:
      OutputError: there is none, or it is not that of a label run.
    """
    path = storage.join(folder, SUMMARY)
    try:
        with storage.open_file(path) as file:
            summary = json.loads(file.read())
    except ValueError as error:
        raise OutputError(f"{path} is not a summary: {error}") from error
    except StoreError as error:
        raise OutputError(f"{folder} is not the folder of a whole run: {error}") from error
    counts = ("found", "labeled", "failed", "skipped")
    is_one = (
        isinstance(summary, dict)
        and all(isinstance(summary.get(name), int) for name in counts)
        and all(isinstance(summary.get(name), dict) for name in ("labels", "failure_reasons"))
        and isinstance(summary.get("model"), dict)
    )
    if not is_one:
        raise OutputError(f"{path} is not the summary of a label run")
    return summary
