"""Lists tables that come in many files: globs of tables, and folders with tables and no images.

As those who write such folders mean it, ``_SUCCESS`` and other names with ``_`` or a dot in front
are no tables, and a folder ``country=de`` says so of all rows of the tables in it.
"""

from __future__ import annotations

import codecs
import functools
import posixpath
import re
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from apache_beam.io.filesystem import FileMetadata

from pipeline import storage
from pipeline.errors import ImageError, StoreError
from pipeline.formats.tables import is_table, open_unzipped
from pipeline.images.registry import SUFFIXES
from pipeline.inputs.columns import images_in_table
from pipeline.inputs.folders import FOLDER, GLOB, files_in_folder, files_of_glob
from pipeline.inputs.kinds import Input, InputKind
from pipeline.inputs.passed_over import PassedOver, WhyPassedOver
from pipeline.inputs.tfrecords import is_tfrecord
from pipeline.inputs.walk import Judge, Listed
from pipeline.records import ImageRef

# Lists the files of an input, but for those that are excluded; see ``files_in_folder``.
_List = Callable[[Input, Judge, tuple[str, ...]], Iterator[Listed]]

# Bytes of a file that may have nothing in it, such as a gzipped file of no bytes with its name; and
# of what that is: byte order marks and blank lines.
_MOST_OF_NOTHING = 512
_BLANK = codecs.BOM_UTF8 + codecs.BOM_UTF16 + b" \t\r\n"

# What else is left out.
_EXCLUDED = ("_*",)


def _recognize_folder(given: str) -> str | None:
    uri = FOLDER.recognize(given)
    return uri if uri and _has_only_tables(Input(FOLDER, uri, given), files_in_folder) else None


def _recognize_glob(given: str) -> str | None:
    uri = GLOB.recognize(given)
    if uri is None or is_table(uri):
        return uri
    return uri if _has_only_tables(Input(GLOB, uri, given), files_of_glob) else None


def _has_only_tables(source: Input, list_: _List) -> bool:
    """Tell whether there are tables, and nothing that may be an image."""
    found = False
    try:
        for file in list_(source, _why_neither, _EXCLUDED):
            if isinstance(file, PassedOver):
                continue
            if not is_table(file.path):
                return False
            found = True
    except (re.error, OSError):  # whoever lists images says so
        return False
    return found


def tables_in(source: Input) -> list[str]:
    """List the tables of an input of this or of the other kind, in order, but for empty ones.

    Raises:
      re.error: it is not a valid glob.
    """
    list_ = {FOLDER_OF_TABLES: files_in_folder, GLOB_OF_TABLES: files_of_glob}.get(source.kind)
    if list_ is None:
        return [source.uri]
    found = list_(source, _why_no_table, _EXCLUDED)
    return sorted(x.path for x in found if not isinstance(x, PassedOver) and not _is_empty(x))


def _is_empty(table: FileMetadata) -> bool:
    """Tell whether there is nothing in a table; one that is not there or damaged is not empty."""
    if not (storage.is_remote(table.path) or Path(table.path).exists()):
        return False
    if not table.size_in_bytes or table.size_in_bytes > _MOST_OF_NOTHING:
        return not table.size_in_bytes
    try:
        with open_unzipped(table.path) as file:
            start = file.read(_MOST_OF_NOTHING)
    except (StoreError, ImageError, OSError, EOFError, zlib.error):
        return False
    return len(start) < _MOST_OF_NOTHING and not start.strip(_BLANK)


def _why_neither(name: str) -> WhyPassedOver | None:
    """Tell by its name why a file is neither a table nor an image; None if it may be one."""
    suffix = posixpath.splitext(name)[1].lower()
    may_be = suffix in SUFFIXES or is_table(name) or is_tfrecord(name)
    return None if may_be else WhyPassedOver.OTHER_SUFFIX


def _why_no_table(name: str) -> WhyPassedOver | None:
    return None if is_table(name) else WhyPassedOver.OTHER_SUFFIX


def _images(source: Input, list_: _List) -> Iterator[ImageRef | PassedOver]:
    tables = []
    try:
        for file in list_(source, _why_no_table, _EXCLUDED):
            if isinstance(file, PassedOver):
                yield file
            elif _is_empty(file):
                yield PassedOver(WhyPassedOver.EMPTY_TABLE, file.path)
            else:
                tables.append(file.path)
    except re.error as error:
        raise source.error(f"is not a valid glob: {error}") from error
    for number, table in enumerate(sorted(tables)):
        for ref in images_in_table(source, table):
            yield ref._replace(order=(number, *ref.order))


FOLDER_OF_TABLES = InputKind(
    recognize=_recognize_folder,
    images=functools.partial(_images, list_=files_in_folder),
    empty="there are no rows in the tables in this folder",
    has_columns=True,
)

GLOB_OF_TABLES = InputKind(
    recognize=_recognize_glob,
    images=functools.partial(_images, list_=files_of_glob),
    empty="there are no rows in tables that match this pattern",
    has_columns=True,
)
