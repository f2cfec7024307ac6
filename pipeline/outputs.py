"""Writes the rows, and looks beforehand whether that will work."""

from __future__ import annotations

import contextlib
import uuid
from pathlib import Path

import apache_beam as beam
from apache_beam.io.filesystems import FileSystems
from apache_beam.io.textio import WriteToText

from pipeline import storage
from pipeline.errors import OutputError

LABELS = "labels"
FAILURES = "failures"
SUMMARY = "summary.json"


class WriteRows(beam.PTransform):
    """Expects rows as JSON lines, outputs the paths of the shards, ``NAME-SSSSS-of-NNNNN.jsonl``.

    The shards are written under temporary names and renamed when all are whole. There is at least
    one, empty if there are no rows; but none then on S3, where Beam cannot write an empty file.

    Args:
      output: the folder.
      name: what the shards' names begin with.
    """

    def __init__(self, output: str, name: str):
        super().__init__()
        self._prefix = FileSystems.join(output, name)

    def expand(self, lines: beam.PCollection[str]) -> beam.PCollection[str]:
        """Beam's own text sink."""
        on_s3 = self._prefix.lower().startswith("s3://")
        return lines | WriteToText(self._prefix, file_name_suffix=".jsonl", skip_if_empty=on_s3)


def prepare(given: str) -> str:
    """Make the output folder, try to write there, and return its absolute path or URI.

    Raises:
      OutputError: it cannot be written, or has results in it.
    """
    output = given.rstrip("/") if storage.is_remote(given) else storage.local_path(given)
    if any(character in output for character in "*?["):
        # Beam finds the shards that it is to rename by a glob, in which these would be wildcards.
        raise OutputError(f"--output {given}: must not have any of * ? [ in it")
    if storage.is_http(output):
        raise OutputError(f"--output {given}: http(s) cannot be written; give a folder or a bucket")
    try:
        if _has_results(output):
            raise OutputError(
                f"--output {given}: already has results of a run; "
                "give another folder, or delete them first"
            )
        if not storage.is_remote(output) and not FileSystems.exists(output):
            FileSystems.mkdirs(output)
        probe = FileSystems.join(output, f".writable-{uuid.uuid4().hex}")
        write_file(probe, b"\n", keep=False)  # not empty, which Beam cannot write to S3
    except ValueError as error:  # a scheme that no installed filesystem serves
        raise OutputError(f"--output {given}: {error}") from error
    except storage.STORE_ERRORS as error:
        raise OutputError(f"--output {given}: cannot be written: {error}") from error
    return output


def _has_results(output: str) -> bool:
    if not storage.is_remote(output):
        # Beam would list all that is below the folder, which may be where the photographs are.
        folder = Path(output)
        return any(
            next(folder.glob(name), None) for name in (f"{LABELS}-*", f"{FAILURES}-*", SUMMARY)
        )
    patterns = [
        FileSystems.join(output, name) for name in (f"{LABELS}-*", f"{FAILURES}-*", SUMMARY)
    ]
    return any(match.metadata_list for match in FileSystems.match(patterns, limits=[1, 1, 1]))


def write_file(path: str, data: bytes, keep: bool = True) -> None:
    """Write a file that is visible under its name whole or not at all.

    Args:
      path: on any filesystem that Beam knows.
      data: its content.
      keep: False removes it again before it gets its name, to try whether it could be written.
    """
    temporary = f"{path}.{uuid.uuid4().hex}.tmp"
    try:
        with FileSystems.create(temporary, "application/octet-stream") as file:
            file.write(data)
        if keep:
            FileSystems.rename([temporary], [path])
    except storage.STORE_ERRORS:
        with contextlib.suppress(*storage.STORE_ERRORS):
            FileSystems.delete([temporary])
        raise
    if not keep:
        FileSystems.delete([temporary])
