"""Reads lists: ``.txt`` files with one URI per line."""

from __future__ import annotations

import codecs
import hashlib
import io
import json
import os
import posixpath
import re
import urllib.parse
from collections.abc import Iterator
from typing import Any

from pipeline import storage
from pipeline.inputs import truth
from pipeline.inputs.kinds import Input, InputKind, file_at
from pipeline.records import ImageRef, Reason, row_name
from pipeline.redaction import name_of, redact

# Byte order marks; UTF-32's begins with UTF-16's.
_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}

# So many bytes tell whether a list without one is UTF-16.
_HEAD = 4096

# A URL that lacks something, or has something before it: blob:https://h/a, https:/h/a, //h.org/a.
_LIKE_URL = re.compile(r"([a-z][a-z0-9+.-]*:)?https?:[/\\]|//[^/\s]+\.[a-z]+/", re.IGNORECASE)

# An image as text in place of its URI; base64 begins with the signature of a usual format.
_DATA_URI = re.compile(r"data:[\w/+.-]*[;,]", re.IGNORECASE)
_BASE64 = re.compile(
    r"([/_]9j[/_]|iVBORw0KGgo|R0lGOD|UklGR|Qk|SUkqA|TU0AK|AAAA)[\w+/\s-]{100,}={0,2}"
)


def _recognize(given: str) -> str | None:
    path = given.partition("?")[0] if storage.is_http(given) else given
    return file_at(given) if path.lower().endswith(".txt") else None


def _images(source: Input) -> Iterator[ImageRef]:
    wanted = source.truth_column is not None
    for number, text in _read(source):
        try:
            uri = existing(text, source.uri)
        except ValueError as error:
            name = row_name(name_of(source.uri, source.naming), number)
            yield with_problem(ImageRef(name), f"line {number} is not a URL: {error}", text)
        else:
            yield ImageRef(uri, truth.parent(uri) if wanted else None)


def _read(source: Input) -> Iterator[tuple[int, str]]:
    """Yield the lines of a list, with their numbers.

    Blank lines and lines that begin with # do not count.
    """
    uri = source.uri
    with _open(uri) as raw:
        encoding = _encoding_of(source, raw.peek(_HEAD))
        # Bytes that are not UTF-8 may be what a file on this machine is called.
        errors = "surrogateescape" if encoding == "utf-8-sig" else "replace"
        for number, line in enumerate(io.TextIOWrapper(raw, encoding, errors), 1):
            text = line.strip()
            if text and not text.startswith("#"):
                yield number, text


def _open(uri: str) -> io.BufferedReader:
    if storage.is_http(uri):
        return io.BufferedReader(io.BytesIO(storage.read_bytes(uri)))
    file = storage.open_file(uri)
    assert isinstance(file, io.BufferedReader)
    return file


def _encoding_of(source: Input, head: bytes) -> str:
    """Find the encoding of a list by its first bytes.

    Raises:
      InputError: it is not known, or the list is not one of lines.
    """
    for mark, encoding in _MARKS.items():
        if head.startswith(mark):
            return encoding
    if head.count(0) > len(head) * 0.3 or b"\n\0" in head or b"\0\n" in head:
        raise source.error("is UTF-16 without a byte order mark", "save it as UTF-8")
    if b"\0" in head and b"\n" not in head:
        raise source.error(
            "has NUL bytes between its names", "write one per line, as find does without -print0"
        )
    return "utf-8-sig"


def existing(text: str, list_uri: str) -> str:
    """Return what an entry means; one that is not UTF-8 may be the name of a file in Latin-1.

    Raises:
      ValueError: it is a URL without a host, or with a host or port that cannot be; or it is only
        like one; or it is an image as text.
    """
    if _DATA_URI.match(text) or _BASE64.fullmatch(text):
        raise ValueError("it is an image as text (base64); give bytes in a Parquet file")
    if storage.is_http(text):
        parts = urllib.parse.urlsplit(text)
        if not parts.hostname:
            raise ValueError("it has no host")
        _ = parts.port  # raises an error itself
        if re.search(r"\s", parts.netloc):
            raise ValueError("its host has spaces")
    entry = entry_uri(text, list_uri)
    if _LIKE_URL.match(text) and not storage.is_remote(entry) and not os.path.lexists(entry):
        raise ValueError("it does not begin with http:// or https://")
    try:
        text.encode()
    except UnicodeEncodeError:
        if not storage.is_remote(entry) and not os.path.lexists(entry):
            data = text.encode("utf-8", "surrogateescape")
            other = entry_uri(data.decode("cp1252", "replace"), list_uri)
            return other if os.path.lexists(other) else entry
    return entry


def with_problem(ref: ImageRef, problem: str, found: Any) -> ImageRef:
    """Mark a row that names no image.

    Args:
      ref: the row, by its own name.
      problem: what is wrong, in one line.
      found: what the row has in place of a URI; the version changes with it.
    """
    # Nobody may find a credential by trying all.
    content = redact(json.dumps([problem, found], default=str))
    digest = hashlib.sha256(content.encode()).hexdigest()[:32]
    return ref._replace(version=f"sha256:{digest}", problem=(Reason.NO_URI, problem))


def entry_uri(entry: str, list_uri: str) -> str:
    """Return the URI or absolute path that an entry of the list or table at ``list_uri`` means."""
    folder = posixpath.dirname(list_uri)
    if storage.is_remote(entry):
        return entry
    if entry.lower().startswith("file:/"):
        return storage.local_path(entry)
    if storage.is_http(list_uri):
        return urllib.parse.urljoin(list_uri, entry)
    if storage.is_remote(list_uri) and not entry.startswith("/"):
        return _beside(list_uri.rpartition("/")[0], entry)
    entry = os.path.expanduser(entry) if entry.startswith("~/") else entry
    return storage.local_path(os.path.join(folder, entry))


def _beside(folder: str, entry: str) -> str:
    """Join a folder of a store and an entry of a list in it.

    A store has no ``..``, so those that an entry begins with are resolved. Anything further on is
    part of an object's name.
    """
    scheme, _, path = folder.partition("://")
    bucket, *parents = path.split("/")
    while entry.startswith(("./", "../")):
        first, _, entry = entry.partition("/")
        if first == "..":
            parents = parents[:-1]
    return f"{scheme}://{'/'.join([bucket, *parents, entry])}"


LIST = InputKind(
    recognize=_recognize,
    images=_images,
    empty="no URIs found in this list; write one path or URI per line, without # in front",
)
