"""Finds the images: folders, globs, files, lists and tables → an ``ImageRef`` for each.

The launcher only looks whether there is anything to find; the listing itself is a step of the
pipeline, so that it is streamed and runs where the pipeline runs.
"""

from __future__ import annotations

import dataclasses
import io
import itertools
import os
import posixpath
import re
import urllib.parse
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from enum import Enum

import apache_beam as beam
from apache_beam.io.filesystem import FileMetadata

from pipeline import progress, sample, storage
from pipeline.errors import ImageError, InputError, StoreError
from pipeline.formats import bigquery, tables
from pipeline.formats.schema import ColumnError
from pipeline.images.registry import SUFFIXES
from pipeline.inputs import tfrecords
from pipeline.records import ImageRef

# The --truth that is no table, but the name of the folder that an image is in.
PARENT = "parent"

_REMEDY = "--uri_column names that of the images' URIs, --carry those to take over"

# How many stores or servers are asked for versions at a time.
_ASKING_THREADS = 64


class InputKind(Enum):
    """How an ``--input`` names images."""

    URI = "one image"
    LIST = "a text file with one URI a line"
    TABLE = "a file with a row for each image"
    QUERY = "a query of BigQuery that yields such rows"
    PATTERN = "a glob"
    FOLDER = "a folder, with all its subfolders"


@dataclasses.dataclass(frozen=True)
class Input:
    """An ``--input``, understood.

    ``uri`` is absolute, or the query; ``given`` is what the user wrote. ``uri_column``: of a table,
    what names the image. ``carry``: its columns that are to go along with the images.
    """

    kind: InputKind
    uri: str
    given: str
    uri_column: str = "image"
    carry: tuple[str, ...] = ()

    @property
    def has_columns(self) -> bool:
        """Whether there are any."""
        return self.kind in (InputKind.TABLE, InputKind.QUERY)


class FindImages(beam.PTransform):
    """Expects the pipeline's begin, outputs an ``ImageRef`` for each image, duplicates included.

    Args:
      inputs: what ``understand`` returned.
      ask_for_versions: whether stores and servers are asked for the versions of what stands in
        lists, which takes a request for each.
      folder_is_truth: whether the folder that an image is in is named like its true class.
    """

    def __init__(
        self,
        inputs: Sequence[Input],
        ask_for_versions: bool = False,
        folder_is_truth: bool = False,
    ):
        super().__init__()
        self._inputs = inputs
        self._ask_for_versions = ask_for_versions
        self._folder_is_truth = folder_is_truth

    def expand(self, begin: beam.pvalue.PBegin) -> beam.PCollection[ImageRef]:
        """List every input; TFRecord files are listed record by record."""
        refs = (
            begin
            | "Inputs" >> beam.Create(self._inputs)
            | "List" >> beam.FlatMap(list_images, self._ask_for_versions)
            | "Records" >> beam.FlatMap(tfrecords.list_records)
            | "Count" >> beam.Map(_count)
        )
        return refs | "Truth" >> beam.Map(_with_folder_as_truth) if self._folder_is_truth else refs


def _with_folder_as_truth(ref: ImageRef) -> ImageRef:
    return ref._replace(truth=posixpath.basename(posixpath.dirname(ref.uri)) or None)


def _count(ref: ImageRef) -> ImageRef:
    progress.add(found=1)
    return ref


def understand(given: str, uri_column: str = "image", carry: tuple[str, ...] = ()) -> Input:
    """Find out what an ``--input`` is, and that there is at least one image behind it.

    Args:
      given: what the user wrote.
      uri_column: see ``Input``.
      carry: likewise.

    Raises:
      InputError: nothing is there, it cannot be listed, or has no such columns.
    """
    if given == "sample":
        return Input(InputKind.FOLDER, str(sample.IMAGES_DIR), given)
    query = bigquery.query_in(given)
    if query is not None:
        try:
            bigquery.check_query(query, (uri_column, *carry))
        except ColumnError as error:
            raise InputError(f"--input {given}: {error}; {_REMEDY}") from error
        except bigquery.ERRORS as error:
            raise InputError(f"--input {given}: {bigquery.first_line(error)}") from error
        return Input(InputKind.QUERY, query, given, uri_column, carry)
    if storage.is_http(given):
        found = Input(_kind_of_file(given), given, given)
    else:
        found = _understand_file(given)
    found = dataclasses.replace(found, uri_column=uri_column, carry=carry)
    if next(list_images(found), None) is None:
        raise InputError(_nothing_found(found))
    return found


def understand_truth(given: str, uri_column: str) -> Input:
    """Find out that a ``--truth`` is a table with the column ``label``, which becomes carried.

    Raises:
      InputError: it is not.
    """
    if not tables.is_table(given):
        raise InputError(
            f"--truth {given}: is neither a .csv, .jsonl or .parquet file nor {PARENT!r}, for the "
            "folders that the images are in"
        )
    uri = given if storage.is_remote(given) else storage.local_path(given)
    truth = Input(InputKind.TABLE, uri, given, uri_column, ("label",))
    try:
        if next(list_images(truth), None) is None:
            raise InputError("there are no rows in it")
    except InputError as error:
        message = str(error).removeprefix(f"--input {given}: ")
        raise InputError(f"--truth {given}: {message}") from error
    return truth


def is_within(folder: str, source: Input) -> bool:
    """Whether files in a folder, an absolute path or URI, would be images of an input."""
    root = source.uri
    if source.kind is InputKind.PATTERN:
        root = posixpath.dirname(root[: min(root.find(c) for c in "*?[" if c in root)])
    elif source.kind is not InputKind.FOLDER:
        return False
    if not storage.is_remote(folder) and not storage.is_remote(root):
        folder, root = os.path.realpath(folder), os.path.realpath(root)
    return f"{folder}/".startswith(f"{root.rstrip('/')}/")


def _kind_of_file(uri: str) -> InputKind:
    """Of a file on this machine, in a bucket or at a server, by its name."""
    if tables.is_table(uri):
        return InputKind.TABLE
    path = uri.partition("?")[0] if storage.is_http(uri) else uri
    return InputKind.LIST if path.lower().endswith(".txt") else InputKind.URI


def _understand_file(given: str) -> Input:
    uri = given if storage.is_remote(given) else storage.local_path(given)
    # A bucket's name alone is no object that one could ask for.
    is_bucket = storage.is_remote(uri) and uri.count("/") == 2
    try:
        storage.check_access(uri)
        if os.path.isdir(uri) or uri.endswith("/") or is_bucket:
            return Input(InputKind.FOLDER, uri.rstrip("/"), given)
        if storage.exists(uri):
            return Input(_kind_of_file(uri), uri, given)
    except StoreError as error:
        raise InputError(f"--input {given}: cannot be reached: {error}") from error
    if any(character in uri for character in "*?["):
        return Input(InputKind.PATTERN, uri, given)
    if storage.is_remote(uri):  # object stores have no folders to ask for, only prefixes
        return Input(InputKind.FOLDER, uri, given)
    raise InputError(f"--input {given}: there is no such file or folder")


def _nothing_found(empty: Input) -> str:
    if empty.kind is InputKind.FOLDER:
        return (
            f"--input {empty.given}: no images found in this folder "
            f"(files named {' '.join(SUFFIXES)}); "
            "give a glob to take files of other names"
        )
    if empty.kind is InputKind.LIST:
        return f"--input {empty.given}: no URIs found in this list (one a line)"
    if empty.kind is InputKind.TABLE:
        return f"--input {empty.given}: there are no rows in it"
    return f"--input {empty.given}: nothing found that matches this pattern"


def list_images(source: Input, ask_for_versions: bool = False) -> Iterator[ImageRef]:
    """The images that an input names, in no order, duplicates included.

    TFRecord files are among them as they are.

    Args:
      source: the input.
      ask_for_versions: see ``FindImages``.

    Raises:
      InputError: the listing failed.
    """
    try:
        if source.kind is InputKind.URI:
            refs = _with_versions(iter([ImageRef(source.uri)]), ask_for_versions)
        elif source.kind is InputKind.LIST:
            refs = _with_versions(map(ImageRef, _read_list(source.uri)), ask_for_versions)
        elif source.has_columns:
            refs = _with_versions(_read_rows(source), ask_for_versions)
        else:
            listing = _match if source.kind is InputKind.PATTERN else list_folder
            refs = (
                ImageRef(file.path, version=storage.version_of(file))
                for file in listing(source.uri)
            )
        nothing = dict.fromkeys(source.carry)  # of what has no columns, so that rows are alike
        for ref in refs:
            yield ref._replace(uri=printable(ref.uri), carried=ref.carried or nothing)
    except re.error as error:
        raise InputError(f"--input {source.given}: is not a valid glob: {error}") from error
    # OSError is one of them, and what a folder on this machine raises.
    except (StoreError, *bigquery.ERRORS) as error:
        said = bigquery.first_line(error) if source.kind is InputKind.QUERY else error
        raise InputError(f"--input {source.given}: cannot be listed: {said}") from error
    except (ImageError, EOFError, zlib.error) as error:
        raise InputError(f"--input {source.given}: cannot be read: {error}") from error


def _read_rows(source: Input) -> Iterator[ImageRef]:
    """The images that the rows of a table or query name, with the columns to carry."""
    columns = (source.uri_column, *source.carry)
    is_table = source.kind is InputKind.TABLE
    rows = tables.read_table(source.uri, columns) if is_table else bigquery.run_query(source.uri)
    try:
        for number, row in enumerate(rows, 1):
            entry = row[source.uri_column]
            if not isinstance(entry, str) or not entry:
                raise ColumnError(f"row {number} has no {source.uri_column!r}")
            uri = absolute(entry, source.uri if is_table else "")
            yield ImageRef(uri, carried={name: row[name] for name in source.carry})
    except ColumnError as error:
        raise InputError(f"--input {source.given}: {error}; {_REMEDY}") from error
    except ValueError as error:
        raise InputError(f"--input {source.given}: {error}") from error


def _with_versions(refs: Iterator[ImageRef], ask_for_versions: bool) -> Iterator[ImageRef]:
    """Of files on this machine always, of others if they are to be asked for, many at a time."""
    if not ask_for_versions:
        for ref in refs:
            is_local = not storage.is_remote(ref.uri)
            yield ref._replace(version=storage.version(ref.uri)) if is_local else ref
        return
    with ThreadPoolExecutor(_ASKING_THREADS) as pool:
        while some := list(itertools.islice(refs, _ASKING_THREADS)):
            versions = pool.map(storage.version, (ref.uri for ref in some))
            for ref, version in zip(some, versions, strict=True):
                yield ref._replace(version=version)


def list_folder(uri: str) -> Iterator[FileMetadata]:
    """The images in a folder and its subfolders; links to other folders are not followed.

    Raises:
      StoreError: the store cannot be listed.
      OSError: the folder cannot be.
    """
    prefix = uri.rstrip("/") + "/"
    for file in _list(prefix):
        name = file.path[len(prefix) :]
        if file.path.startswith(prefix) and (_is_image_name(name) or _is_closed(file.path)):
            yield file


def _is_closed(path: str) -> bool:
    """Whether it is a folder that ``_walk`` could not open; in a store, slashes mean nothing."""
    return path.endswith("/") and not storage.is_remote(path)


def _match(uri: str) -> Iterator[FileMetadata]:
    """The files that match a glob, in Beam's notation: ``**`` spans folders, also none."""
    translated = storage.regex_of(uri)
    # Beam's own /**/ wants at least one folder, which no shell does; and its [[], the way to write
    # a bracket that is in a name, makes Python warn of the expression.
    pattern = re.compile(re.sub(r"(/\.\*)+/", "/(.*/)?", translated).replace("[[", r"[\["))
    # A local filesystem lists folders, an object store any prefix.
    prefix = uri[: min(uri.find(c) for c in "*?[" if c in uri)]
    if storage.has_folders(uri):
        prefix = posixpath.dirname(prefix).rstrip("/") + "/"
    levels = None if "**" in uri else uri.count("/") - prefix.count("/") + 1
    for file in _list(prefix, levels):
        if (pattern.match(file.path) and not file.path.endswith("/")) or _is_closed(file.path):
            yield file


def _list(prefix: str, levels: int | None = None) -> Iterator[FileMetadata]:
    """The files below a prefix, which on this machine is a folder.

    Beam's own listing of a folder leaves out, in silence, folders that it may not open and links
    that lead nowhere.
    """
    return storage.list_files(prefix) if storage.is_remote(prefix) else _walk(prefix, levels)


def _walk(folder: str, levels: int | None, top: bool = True) -> Iterator[FileMetadata]:
    """The files in a local folder and below, down to so many levels.

    Links to folders are followed only where the number of levels keeps them from going in circles.
    A link that leads nowhere is listed, and so is, with a slash at its end, a folder that may not
    be opened: they fail in sight when they are read.
    """
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if not _is_folder(entry, follow_links=levels is not None):
                    yield _metadata(entry)
                elif levels is None:
                    yield from _walk(entry.path, None, top=False)
                elif levels > 1:
                    yield from _walk(entry.path, levels - 1, top=False)
    except FileNotFoundError:
        return  # removed in the meantime; or a glob in a folder that does not exist
    except PermissionError:
        if top:
            raise
        yield FileMetadata(f"{folder}/", 0, 0.0)


def _is_folder(entry: os.DirEntry[str], follow_links: bool) -> bool:
    try:
        return entry.is_dir(follow_symlinks=follow_links)
    except OSError:  # a link in a circle, or to where one may not look
        return False


def _metadata(entry: os.DirEntry[str]) -> FileMetadata:
    try:
        stat = entry.stat()
    except OSError:
        return FileMetadata(entry.path, 0, 0.0)
    return FileMetadata(entry.path, stat.st_size, stat.st_mtime)


def _is_image_name(relative: str) -> bool:
    """Whether a file in a folder is to be labeled, by its path below that folder.

    Hidden files and folders (a dot in front) are not; nor are the empty objects that stand for
    folders in a bucket.
    """
    parts = relative.split("/")
    if any(part.startswith(".") for part in parts):
        return False
    return posixpath.splitext(parts[-1])[1].lower() in SUFFIXES


def _read_list(uri: str) -> Iterator[str]:
    """The URIs of a list: one a line; blank lines and lines that begin with # do not count.

    A relative path is relative to the list's own folder, so that both can be moved together.
    """
    http = storage.is_http(uri)
    with io.BytesIO(storage.read_bytes(uri)) if http else storage.open_file(uri) as raw:
        for number, line in enumerate(raw):
            text = line.decode("utf-8-sig" if number == 0 else "utf-8", "replace").strip()
            if not text or text.startswith("#"):
                continue
            try:
                entry = absolute(text, uri)
            except ValueError as error:  # of urljoin: a host in brackets that are not closed
                raise InputError(f"{uri}: line {number + 1} is not a URL: {error}") from error
            yield entry


def absolute(entry: str, list_uri: str) -> str:
    """The URI or absolute path that an entry of the list at ``list_uri`` means."""
    folder = posixpath.dirname(list_uri)
    if storage.is_remote(entry):
        return entry
    if entry.lower().startswith("file:/"):
        return storage.local_path(entry)
    if storage.is_http(list_uri):
        return urllib.parse.urljoin(list_uri, entry)
    if storage.is_remote(list_uri) and not entry.startswith("/"):
        scheme, _, key = posixpath.join(folder, entry).partition("://")
        return f"{scheme}://{posixpath.normpath(key)}"  # a store knows no ..
    entry = os.path.expanduser(entry) if entry.startswith("~/") else entry
    return storage.local_path(os.path.join(folder, entry))


def printable(path: str) -> str:
    """The path with bytes that are not UTF-8 written as escapes.

    Such a file cannot be named in a row; under its escaped name it fails as not found, in sight.
    """
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
