"""Lists folders with their subfolders, and globs, on this machine or in a store."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterator

from apache_beam.io.filesystem import FileMetadata

from pipeline import storage
from pipeline.images.registry import SUFFIXES
from pipeline.inputs import truth
from pipeline.inputs.kinds import Input, InputKind, is_folder
from pipeline.records import ImageRef, PassedOver, WhyPassedOver

# Characters that make a path a glob.
_WILDCARDS = "*?["


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
    return any(character in uri for character in _WILDCARDS)


def _before_wildcards(glob: str) -> str:
    return glob[: min(glob.find(c) for c in _WILDCARDS if c in glob)]


def _images_in_folder(source: Input) -> Iterator[ImageRef | PassedOver]:
    wanted = source.truth_column is not None
    for file in list_folder(source.uri, source.in_order):
        if isinstance(file, PassedOver):
            yield file
            continue
        class_name = truth.class_folder(file.path, source.uri) if wanted else None
        yield ImageRef(file.path, class_name, storage.version_of(file))


def _images_of_glob(source: Input) -> Iterator[ImageRef]:
    wanted = source.truth_column is not None
    try:
        for file in _match(source.uri, source.in_order):
            class_name = truth.parent(file.path) if wanted else None
            yield ImageRef(file.path, class_name, storage.version_of(file))
    except re.error as error:
        raise source.error(f"is not a valid glob: {error}") from error


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


def list_folder(uri: str, in_order: bool = False) -> Iterator[FileMetadata | PassedOver]:
    """List the images in a folder and its subfolders, and what is passed over there.

    Links to other folders are not followed. ``in_order``: see ``Input``.

    Raises:
      StoreError: the store cannot be listed.
      OSError: the folder cannot be listed.
    """
    prefix = uri.rstrip("/") + "/"
    for file in _list(prefix, in_order=in_order):
        if not file.path.startswith(prefix):
            continue
        why = None if _is_closed(file.path) else _why_no_image(file.path[len(prefix) :])
        if why is None:
            yield file
        elif not file.path.endswith("/"):
            yield PassedOver(why, file.path)


def _is_closed(path: str) -> bool:
    """Tell whether a path is a folder that ``_walk`` could not open; stores have none."""
    return path.endswith("/") and not storage.is_remote(path)


def _match(uri: str, in_order: bool) -> Iterator[FileMetadata]:
    """List the files that match a glob in Beam's notation; ``**`` spans any number of folders."""
    translated = storage.regex_of(uri)
    # Beam's own /**/ needs at least one folder, unlike any shell's; and its [[], the way to write a
    # bracket in a name, makes Python warn about the expression.
    pattern = re.compile(re.sub(r"(/\.\*)+/", "/(.*/)?", translated).replace("[[", r"[\["))
    # A local file system lists folders, an object store any prefix.
    prefix = _before_wildcards(uri)
    if storage.has_folders(uri):
        prefix = posixpath.dirname(prefix).rstrip("/") + "/"
    levels = None if "**" in uri else uri.count("/") - prefix.count("/") + 1
    for file in _list(prefix, levels, in_order):
        if (pattern.match(file.path) and not file.path.endswith("/")) or _is_closed(file.path):
            yield file


def _list(prefix: str, levels: int | None = None, in_order: bool = False) -> Iterator[FileMetadata]:
    """List the files below a prefix, which on this machine is a folder.

    Beam's own listing of a folder silently leaves out folders that it may not open, and links that
    lead nowhere.
    """
    return (
        storage.list_files(prefix) if storage.is_remote(prefix) else _walk(prefix, levels, in_order)
    )


def _walk(
    folder: str, levels: int | None, in_order: bool, top: bool = True
) -> Iterator[FileMetadata]:
    """List the files in a local folder and below, down to so many levels.

    Links to folders are followed only if the number of levels keeps them from going in circles. A
    link that leads nowhere is listed, and so is a folder that may not be opened, with a slash at
    its end: they fail visibly when they are read.
    """
    try:
        with os.scandir(folder) as entries:
            # In order, all names of a folder are in memory; in disorder, none is.
            by_name = sorted(entries, key=lambda entry: entry.name) if in_order else entries
            for entry in by_name:
                if not _is_folder(entry, follow_links=levels is not None):
                    yield _metadata(entry)
                elif levels is None:
                    yield from _walk(entry.path, None, in_order, top=False)
                elif levels > 1:
                    yield from _walk(entry.path, levels - 1, in_order, top=False)
    except FileNotFoundError:
        return  # removed in the meantime, or a glob in a folder that does not exist
    except PermissionError:
        if top:
            raise
        yield FileMetadata(f"{folder}/", 0, 0.0)


def _is_folder(entry: os.DirEntry[str], follow_links: bool) -> bool:
    try:
        return entry.is_dir(follow_symlinks=follow_links)
    except OSError:  # a link in a circle, or into a folder that may not be opened
        return False


def _metadata(entry: os.DirEntry[str]) -> FileMetadata:
    try:
        stat = entry.stat()
    except OSError:
        return FileMetadata(entry.path, 0, 0.0)
    return FileMetadata(entry.path, stat.st_size, stat.st_mtime)


def _why_no_image(relative: str) -> WhyPassedOver | None:
    """Tell by its path below a folder why a file is not taken for an image; None if it is.

    Hidden files are those with a dot in front of their names, and those in folders with such names.
    The empty objects that stand for folders in a bucket have no suffix.
    """
    if relative.startswith(".") or "/." in relative:
        return WhyPassedOver.HIDDEN
    suffix = posixpath.splitext(relative)[1].lower()
    return None if suffix in SUFFIXES else WhyPassedOver.OTHER_SUFFIX


FOLDER = InputKind(
    recognize=_recognize_folder,
    images=_images_in_folder,
    empty=(
        f"no images found in this folder (files named {' '.join(SUFFIXES)}); "
        "give a glob to take files of other names"
    ),
    lists_versions=True,
)

GLOB = InputKind(
    recognize=_recognize_glob,
    images=_images_of_glob,
    empty="nothing found that matches this pattern",
    lists_versions=True,
)
