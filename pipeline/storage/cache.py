"""Keeps fetched models and label files between runs."""

from __future__ import annotations

import os
from pathlib import Path

from pipeline.errors import UsageError


def folder(name: str) -> Path:
    """Return a folder below ``$XDG_CACHE_HOME`` or ``~/.cache``; create it if it does not exist.

    Raises:
      UsageError: it cannot be created.
    """
    try:
        root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        path = root / "image-labeling" / name
        path.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError) as error:  # RuntimeError: the user has no home folder
        raise UsageError(
            f"the folder for fetched models and labels cannot be made: {error}; "
            "set the environment variable XDG_CACHE_HOME to a folder that can be written"
        ) from error
    return path
