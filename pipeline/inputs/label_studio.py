"""Names images as tasks of Label Studio do, and reads what it exports as JSON-MIN.

Files of this machine are named as in https://labelstud.io/guide/storage#Local-storage, with ``/``
as the document root. JSON-MIN is described in https://labelstud.io/guide/export#JSON-MIN.
"""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Iterator
from typing import Any

from pipeline import storage
from pipeline.formats.tables import open_unzipped
from pipeline.records import row_name

# Names in the labeling configuration, and so in the tasks and in what is exported.
IMAGE = "image"
CHOICE = "choice"

_LOCAL = "/data/local-files/?d="


def task_image(name: str) -> str:
    """Return what a task has for an image of this name."""
    if storage.is_remote(name):
        return name
    return f"{_LOCAL}{urllib.parse.quote(name.removeprefix('/'))}"


def image_of(entry: str) -> str:
    """Return the name of the image that a task has, or another name as it is."""
    _, found, path = entry.partition(_LOCAL)
    return f"/{urllib.parse.unquote(path)}" if found else entry


def is_json(uri: str) -> bool:
    """Tell by its name whether a file is JSON; JSON lines are a table instead."""
    return uri.lower().endswith((".json", ".json.gz"))


def read_json_min(uri: str) -> Iterator[tuple[str, str, str | None]]:
    """Read the tasks of an export.

    Yields:
      Where a task is, for people; its image; its choice, None if it has none, and a JSON list if it
      has several.

    Raises:
      ValueError: the file is not such an export.
      StoreError or ImageError: it cannot be read.
    """
    with open_unzipped(uri) as file:
        try:
            tasks = json.load(file)
        except RecursionError as error:
            raise ValueError("is nested too deeply") from error
    if not isinstance(tasks, list):
        raise ValueError("is not a list of tasks; export JSON-MIN or CSV")
    for number, task in enumerate(tasks, 1):
        if not isinstance(task, dict) or "annotations" in task or "data" in task:
            raise ValueError(f"its task {number} is not one of JSON-MIN; export that, or CSV")
        image = task.get(IMAGE)
        choice = choice_in(task.get(CHOICE))
        yield row_name(uri, number), image if isinstance(image, str) else "", choice


def choice_in(cell: Any) -> str | None:
    """Return a task's choice as ``read_json_min`` does: of several, there is an object."""
    if isinstance(cell, str) and cell.startswith('{"choices"'):  # as CSV has it
        try:
            cell = json.loads(cell)
        except ValueError:
            return cell
    if isinstance(cell, dict):
        cell = cell.get("choices")
    if isinstance(cell, list):
        return json.dumps(cell) if len(cell) != 1 else str(cell[0])
    return cell.strip() or None if isinstance(cell, str) else None
