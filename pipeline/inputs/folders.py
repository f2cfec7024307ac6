"""Lists folders with their subfolders, and globs, on this machine or in a store."""

from __future__ import annotations

import dataclasses
import os
import posixpath
import re
from collections.abc import Callable, Iterator

from pipeline import storage
from pipeline.formats.tables import is_table
from pipeline.images.registry import RAW_SUFFIXES, SUFFIXES
from pipeline.inputs import truth
from pipeline.inputs.globs import WILDCARDS, Exclusions, Glob
from pipeline.inputs.kinds import Input, InputKind, is_folder, only_files
from pipeline.inputs.passed_over import PassedOver, WhyPassedOver
from pipeline.inputs.tfrecords import is_tfrecord
from pipeline.inputs.walk import Judge, Listed, Rules, list_matches, list_part
from pipeline.records import ImageRef

_TAKEN = frozenset(SUFFIXES)

# All files in a folder.
_ALL = Glob("**")


def _recognize_folder(given: str) -> str | None:
    uri = storage.absolute(given)
    if is_folder(given):
        return uri.rstrip("/")
    # Object stores have no folders to ask for, only prefixes.
    return uri if storage.is_remote(uri) and not _is_glob(uri) else None


def _recognize_glob(given: str) -> str | None:
    uri = storage.absolute(given)
    return uri if _is_glob(uri) else None


def _is_glob(uri: str) -> bool:
    return any(character in uri for character in WILDCARDS)


def _before_wildcards(glob: str) -> str:
    return glob[: min(glob.find(c) for c in WILDCARDS if c in glob)]


def files_in_folder(source: Input, judge: Judge, exclude: tuple[str, ...] = ()) -> Iterator[Listed]:
    """List the files in a folder and its subfolders, and what is passed over among them.

    Args:
      source: the folder.
      judge: see ``Rules``.
      exclude: globs of what is left out, besides those of the input.

    Raises:
      StoreError: the store cannot be listed.
      OSError: the folder cannot be listed.
    """
    return list_matches(_rules_of_folder(source, judge, exclude))


def _rules_of_folder(source: Input, judge: Judge, exclude: tuple[str, ...] = ()) -> Rules:
    root = source.uri.rstrip("/")
    exclusions = Exclusions(source.exclude_below or root, (*source.exclude, *exclude))
    return Rules(root, _ALL, exclusions, source.output, source.in_order, False, judge)


def files_of_glob(source: Input, judge: Judge, exclude: tuple[str, ...] = ()) -> Iterator[Listed]:
    """List the files that match a glob, and what is passed over among them.

    Args:
      source: the glob.
      judge: see ``Rules``.
      exclude: globs of what is left out, besides those of the input.

    Raises:
      re.error: it is no glob.
      StoreError: the store cannot be listed.
      OSError: the folder cannot be listed.
    """
    return list_matches(*_rules_of_glob(source, judge, exclude))


def _rules_of_glob(source: Input, judge: Judge, exclude: tuple[str, ...] = ()) -> tuple[Rules, str]:
    """Return what to list, and what all names begin with."""
    prefix = _before_wildcards(source.uri)
    root = prefix.rpartition("/")[0]
    if storage.has_folders(source.uri):
        prefix = f"{root}/"
    glob = Glob(source.uri[len(root) + 1 :])
    exclusions = Exclusions(root, (*source.exclude, *exclude))
    # Another input may be the same glob in another case.
    is_alone = all(
        other == source.given or other.lower() != source.given.lower() for other in source.beside
    )
    return Rules(root, glob, exclusions, source.output, source.in_order, is_alone, judge), prefix


def _images_in_folder(source: Input) -> Iterator[ImageRef | PassedOver | Input]:
    def class_name(path: str) -> str | None:
        return truth.class_folder(path, source.uri)

    return _as_refs(source, _list(source, _rules_of_folder(source, _why_no_image)), class_name)


def _images_of_glob(source: Input) -> Iterator[ImageRef | PassedOver | Input]:
    judge = _why_table if _names_suffix(source.uri) else _why_not_taken
    try:
        listed = _list(source, *_rules_of_glob(source, judge))
        yield from _as_refs(source, listed, truth.parent)
    except re.error as error:
        raise source.error(f"is not a valid glob: {error}") from error


def _list(source: Input, rules: Rules, prefix: str = "") -> Iterator[Listed | storage.Range]:
    if source.part is None:
        return list_matches(rules, prefix)
    return list_part(rules, source.part, source.shares, prefix)


def _as_refs(
    source: Input,
    listed: Iterator[Listed | storage.Range],
    class_name: Callable[[str], str | None],
) -> Iterator[ImageRef | PassedOver | Input]:
    wanted = source.truth_column is not None
    for file in listed:
        if isinstance(file, PassedOver):
            yield file
        elif isinstance(file, storage.Range):
            yield dataclasses.replace(source, part=file, shares=False)
        else:
            truth_ = class_name(file.path) if wanted else None
            yield ImageRef(file.path, truth_, storage.version_of(file))


def is_within(folder: str, source: Input) -> bool:
    """Tell whether files in a folder, an absolute path or URI, would be images of an input."""
    if source.kind == GLOB:
        root = posixpath.dirname(_before_wildcards(source.uri))
    elif source.kind == FOLDER:
        root = source.uri
    else:
        return False
    if not storage.is_remote(folder) and not storage.is_remote(root):
        folder, root = os.path.realpath(folder), os.path.realpath(root)
    return f"{folder}/".startswith(f"{root.rstrip('/')}/")


def list_folder(uri: str) -> Iterator[Listed]:
    """List the images in a folder and its subfolders, and what is passed over there.

    Args:
      uri: the folder's absolute path or URI.

    Raises:
      StoreError: the store cannot be listed.
      OSError: the folder cannot be listed.
    """
    root = uri.rstrip("/")
    return list_matches(Rules(root, _ALL, Exclusions(root), "", False, False, _why_no_image))


def _names_suffix(glob: str) -> bool:
    """Tell whether a glob says itself which suffix its files have, or names them in full."""
    last = posixpath.basename(glob)
    return "." in last.lstrip(".") or not _is_glob(last)


def _why_table(name: str) -> WhyPassedOver | None:
    """Do the same for a glob that says itself which files are images, but for tables."""
    return WhyPassedOver.OTHER_SUFFIX if is_table(name) else None


def _why_not_taken(name: str) -> WhyPassedOver | None:
    """Do the same for a glob that names no suffix: a file without a suffix may be an image."""
    is_open = not posixpath.splitext(name)[1] or is_tfrecord(name)
    return None if is_open else _why_no_image(name)


def _why_no_image(name: str) -> WhyPassedOver | None:
    """Tell by its name why a file in a folder is not taken for an image; None if it is."""
    if _is_taken(name):
        return None
    if posixpath.splitext(name)[1].lower() in RAW_SUFFIXES:
        return WhyPassedOver.UNSUPPORTED_FORMAT
    return WhyPassedOver.OTHER_SUFFIX


def _names_images(glob: Input) -> bool:
    """Tell whether all files that a glob matches have the suffix of an image."""
    return _is_taken(glob.uri)


def _is_taken(name: str) -> bool:
    """Tell whether a name has the suffix of an image."""
    return posixpath.splitext(name)[1].lower() in _TAKEN


FOLDER = InputKind(
    recognize=_recognize_folder,
    images=_images_in_folder,
    empty=(
        "no images found in this folder (files named .jpg, .png, .tif and so on); "
        "give a glob to take files of other names"
    ),
    lists_versions=True,
    has_only_files=only_files,
    has_parts=True,
)

GLOB = InputKind(
    recognize=_recognize_glob,
    images=_images_of_glob,
    empty="nothing found that matches this pattern",
    lists_versions=True,
    has_only_files=_names_images,
    has_parts=True,
)
