"""Defines what an input is: each kind says how it is recognized, and how its images are listed.

To add a kind, write a module with its ``InputKind`` beside this one, and put that into
``find.KINDS``, which has the kinds in the order in which they are tried.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from pipeline import storage
from pipeline.errors import InputError
from pipeline.inputs.passed_over import PassedOver
from pipeline.records import ImageRef
from pipeline.redaction import Naming


def only_files(source: Input) -> bool:
    """Say of an input that all its images are files of their own; for ``has_only_files``."""
    return True


def may_have_others(source: Input) -> bool:
    """Say of an input that some of its images may be inside of other files."""
    return False


class InputKind(NamedTuple):
    """A way to name images.

    ``recognize``: turns what the user wrote into an absolute path, a URI or a query; None if it is
    of another kind. It may raise ``StoreError``.
    ``images``: lists the images that an input names, what it passes over, and what is left to
    others (see ``Input.shares``), in no order, duplicates included. Images have a truth if the
    input's ``truth_column`` is not None. It may raise ``InputError``, ``ImageError``,
    ``StoreError``, ``OSError``, ``EOFError`` or ``zlib.error``.
    ``empty``: the message for an input without images, if there can be one.
    ``has_columns``: whether ``uri_column``, ``carry`` and ``truth_column`` name columns of it.
    ``lists_versions``: whether the listing includes the images' versions.
    ``check``: finds mistakes, if listing the first image would cost too much.
    ``has_only_files``: tells of an input that each of its images is a file of its own, so that none
    is inside of a TFRecord file or a table.
    ``has_parts``: whether it can be listed in parts, if it is in a store.
    """

    recognize: Callable[[str], str | None]
    images: Callable[[Input], Iterator[ImageRef | PassedOver | Input]]
    empty: str = ""
    has_columns: bool = False
    lists_versions: bool = False
    check: Callable[[Input], None] | None = None
    has_only_files: Callable[[Input], bool] = may_have_others
    has_parts: bool = False


@dataclasses.dataclass(frozen=True)
class Input:
    """Something that names images, and its kind.

    Attributes:
      kind: see ``InputKind``.
      uri: the absolute path, URI or query.
      given: what the user wrote.
      uri_column: the column that names the image, if there are columns.
      carry: the columns that are carried with the images.
      truth_column: the column with the true class; None if no truth is wanted, whatever the kind.
        In an input without columns, the truth is found in another way.
      argument: the argument for which it was given.
      in_order: whether folders on this machine are listed in the order of their files' names.
      naming: how names are made of the images' URIs; None for the rules alone.
      only: what tells the images that ``finetune`` takes from the others; None for all.
      exclude: globs of what a folder or glob leaves out, see ``globs.Exclusions``.
      exclude_below: the folder that their paths are relative to; empty for its own.
      beside: what the user wrote for all inputs.
      output: the run's output, an absolute path or URI, whose files are not listed.
      part: which of a store's names to list, in no order; None for all of them, in order.
      shares: whether others may list some of those, if there are very many. Those are then listed
        as inputs.
    """

    kind: InputKind
    uri: str
    given: str
    uri_column: str = "image"
    carry: tuple[str, ...] = ()
    truth_column: str | None = None
    argument: str = "input"
    in_order: bool = False
    naming: Naming | None = None
    only: frozenset[tuple[object, ...]] | None = None
    exclude: tuple[str, ...] = ()
    exclude_below: str = ""
    beside: tuple[str, ...] = ()
    output: str = ""
    part: storage.Range | None = None
    shares: bool = False

    def error(self, problem: str, remedy: str = "") -> InputError:
        """Make the error that blames this input."""
        return InputError(problem, subject=self.argument, given=self.given, remedy=remedy)


def is_folder(given: str) -> bool:
    """Tell whether what the user wrote names a folder, or cannot be the name of an object."""
    uri = storage.absolute(given)
    if not storage.is_remote(uri):
        return os.path.isdir(uri)
    return given.endswith("/") or uri.count("/") == 2  # the latter is only a bucket's name


def file_at(given: str) -> str | None:
    """Find a file's absolute path or URI; None if there is no such file. Servers are not asked.

    Raises:
      StoreError: the store cannot be asked.
    """
    uri = storage.absolute(given)
    if storage.is_http(uri):
        return uri
    return uri if not is_folder(given) and storage.exists(uri) else None


def refuse_pipe(given: str, argument: str) -> None:
    """Refuse what can be read only once, such as what ``<(…)`` makes.

    Args:
      given: what the user wrote.
      argument: the argument for which it was given.

    Raises:
      InputError: it is such.
    """
    uri = storage.absolute(given)
    if storage.is_remote(uri):
        return
    is_stream = uri.startswith(("/dev/fd/", "/proc/self/fd/")) or uri == "/dev/stdin"
    with contextlib.suppress(OSError, ValueError):  # ValueError: a NUL byte
        mode = Path(uri).stat().st_mode
        is_stream = is_stream or not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))
    if is_stream:
        raise InputError(
            "is a pipe or a device, and inputs are read more than once",
            subject=argument,
            given=given,
            remedy="write the names into a .txt file, and give that",
        )
