"""Defines the names in an output folder; finds, checks and clears what a run leaves there."""

from __future__ import annotations

import contextlib
import itertools
import os
import uuid
from collections.abc import Sequence
from pathlib import Path

from pipeline import storage
from pipeline.errors import OutputError, StoreError
from pipeline.formats.registry import suffix_of

# Prefixes of the shards' names.
LABELS = "labels"
FAILURES = "failures"

SUMMARY = "summary.json"
MISTAKES = "mistakes.csv"
REPORT = "report.html"
THRESHOLDS = "thresholds.json"
CALIBRATION = "calibration.json"
REVIEW = "review.csv"
REVIEW_TASKS = "review.json"
REVIEW_CONFIG = "review.xml"
REVIEWS = (REVIEW, REVIEW_TASKS, REVIEW_CONFIG)
CORRECTIONS = "corrections.csv"

# Files that a run may have beside its rows and its summary.
BESIDE = (REPORT, MISTAKES, THRESHOLDS, CALIBRATION, *REVIEWS, CORRECTIONS)

# Prefix of the names of temporary folders: Beam's, since what cleans up after Beam knows it.
_TEMPORARY = "beam-temp-"

# What compare writes, each beside the others.
COMPARE_PAGE = "compare.html"
COMPARE_SUMMARY = "compare.json"
COMPARE_CHANGES = "compare.csv"

# Prefix of a run folder's name, in an output with one folder per run.
RUN_FOLDER = "run="

# Folder beside those of the runs, with what the next run needs to know of them.
LEDGER = ".ledger"


def new_part(folder: str, name: str, suffix: str = ".jsonl") -> str:
    """Make up a path for some of the rows of this name."""
    return storage.join(folder, f"{name}-{uuid.uuid4().hex}{suffix}")


def new_temporary_folder(folder: str) -> str:
    """Make a folder for files that get their names when all of them are whole.

    Raises:
      StoreError: it cannot be made.
    """
    path = storage.join(folder, f"{_TEMPORARY}{uuid.uuid4().hex}")
    if not storage.is_remote(path):
        storage.make_folder(path)
    return path


def prepare(given: str, keep: bool = True, argument: str = "output") -> str:
    """Make an output folder, try to write there, and return its absolute path or URI.

    Args:
      given: what the user wrote.
      keep: False removes the folders again that were made for it.
      argument: the name of the argument for which the user gave it.

    Raises:
      OutputError: it cannot be written.
    """
    output = storage.absolute(given)
    if any(character in output for character in "*?["):
        # Beam finds the shards to rename by a glob, in which these would be wildcards.
        raise OutputError("must not have any of * ? [ in it", subject=argument, given=given)
    if storage.is_http(output):
        raise OutputError(
            "http(s) cannot be written",
            subject=argument,
            given=given,
            remedy="give a folder or a bucket",
        )
    made = [] if keep or storage.is_remote(output) else _missing(Path(output))
    try:
        storage.check_access(output)
        if not storage.is_remote(output):
            storage.make_folder(output)
        probe = storage.join(output, f".writable-{uuid.uuid4().hex}")
        storage.write_file(probe, b"\n", keep=False)  # Beam cannot write an empty one to S3
    except StoreError as error:
        raise OutputError(f"cannot be written: {error}", subject=argument, given=given) from error
    finally:
        for folder in made:
            with contextlib.suppress(OSError):  # another run has put something there
                folder.rmdir()
    return output


def _missing(folder: Path) -> list[Path]:
    """List those of the folder and its parents that do not exist yet, the folder itself first."""
    return list(
        itertools.takewhile(lambda path: not os.path.lexists(path), (folder, *folder.parents))
    )


def refuse_results(output: str) -> None:
    """Refuse an output folder that has results.

    Raises:
      OutputError: it has.
    """
    try:
        found = storage.find(output, SUMMARY, f"{LABELS}-*", f"{FAILURES}-*")
    except StoreError as error:
        raise OutputError(f"cannot be read: {error}", subject="output", given=output) from error
    if found:
        raise OutputError(
            "already has results of a run",
            subject="output",
            given=output,
            remedy="give another folder, or {if_exists}=overwrite to replace an earlier training",
        )


def find_shards(folder: str, *names: str) -> list[str]:
    """Find the shards that ``WriteRows`` wrote to a folder, and no other files.

    Args:
      folder: the folder.
      *names: ``LABELS``, ``FAILURES`` or both.
    """
    paths = storage.find(folder, *(f"{name}-*-of-*" for name in names))
    return [path for path in paths if suffix_of(path)]


def remove(folder: str, patterns: Sequence[str]) -> None:
    """Delete the files that match globs relative to a folder.

    Raises:
      StoreError: one of them cannot be deleted.
    """
    storage.delete(storage.find(folder, *patterns))


def remove_temporary_files(folder: str) -> None:
    """Delete what is left in the folders of ``new_temporary_folder``."""
    pattern = f"{_TEMPORARY}*"
    # This deletes a folder; in a store, which has no folders, each object.
    remove(folder, [f"{pattern}/*" if storage.is_remote(folder) else pattern])
