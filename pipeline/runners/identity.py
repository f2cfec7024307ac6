"""The names of runs, and the versions that they ran with."""

from __future__ import annotations

import platform
import secrets
from datetime import datetime
from importlib.metadata import version

from pipeline import __version__
from pipeline.images.resizing import Resizer
from pipeline.records import TIME_IN_NAMES


def new_run_id(started: datetime) -> str:
    """Make a name for a run; the names of later runs sort after it.

    Args:
      started: UTC.
    """
    return f"{started:{TIME_IN_NAMES}}-{secrets.token_hex(3)}"


def versions() -> dict[str, str]:
    """List the versions of this package, Python, and the libraries that affect the results."""
    packages = ["apache-beam", "tensorflow", "numpy", "pillow"]
    if Resizer is not None:
        packages.append("cykooz-resizer")
    return {
        "image-labeling": __version__,
        "python": platform.python_version(),
        **{package: version(package) for package in packages},
    }
