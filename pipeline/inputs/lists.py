"""Reads lists: ``.txt`` files with one URI per line."""

from __future__ import annotations

import io
import os
import posixpath
import urllib.parse
from collections.abc import Iterator

from pipeline import storage
from pipeline.inputs import truth
from pipeline.inputs.kinds import Input, InputKind, file_at
from pipeline.records import ImageRef


def _recognize(given: str) -> str | None:
    path = given.partition("?")[0] if storage.is_http(given) else given
    return file_at(given) if path.lower().endswith(".txt") else None


def _images(source: Input) -> Iterator[ImageRef]:
    wanted = source.truth_column is not None
    for uri in _read(source):
        yield ImageRef(uri, truth.parent(uri) if wanted else None)


def _read(source: Input) -> Iterator[str]:
    """Yield the URIs of a list, one per line; blank lines and lines that begin with # do not count.

    A relative path is relative to the list's own folder, so that both can be moved together.
    """
    uri = source.uri
    http = storage.is_http(uri)
    with io.BytesIO(storage.read_bytes(uri)) if http else storage.open_file(uri) as raw:
        for number, line in enumerate(raw):
            text = line.decode("utf-8-sig" if number == 0 else "utf-8", "replace").strip()
            if not text or text.startswith("#"):
                continue
            try:
                entry = entry_uri(text, uri)
            except ValueError as error:  # from urljoin: a host in brackets that are not closed
                raise source.error(f"line {number + 1} is not a URL: {error}") from error
            yield entry


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
        scheme, _, key = posixpath.join(folder, entry).partition("://")
        return f"{scheme}://{posixpath.normpath(key)}"  # a store has no ..
    entry = os.path.expanduser(entry) if entry.startswith("~/") else entry
    return storage.local_path(os.path.join(folder, entry))


LIST = InputKind(
    recognize=_recognize,
    images=_images,
    empty="no URIs found in this list (one per line)",
)
