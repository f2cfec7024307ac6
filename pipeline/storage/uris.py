"""Names of files: paths and URIs, told apart, joined, made absolute."""

from __future__ import annotations

import os
import re
import urllib.parse

from apache_beam.io.filesystems import FileSystems

from pipeline.storage.errors import mapped


def is_http(uri: str) -> bool:
    """Tell whether an http(s) server has the file, which no filesystem of Beam's reads."""
    return uri.lower().startswith(("http://", "https://"))


def is_remote(uri: str) -> bool:
    """Tell whether the URI has a scheme other than ``file``."""
    return re.match(r"(?!file:)[a-z][a-z0-9+.-]*://", uri, re.IGNORECASE) is not None


def local_path(uri: str) -> str:
    """Make an absolute path of a path or ``file://`` URI on this machine.

    In a URI, and only there, bytes may be written as ``%20``, as ``Path.as_uri`` does.
    """
    as_uri = re.match(r"file:(?://(?:localhost)?)?(/.*)", uri, re.IGNORECASE | re.DOTALL)
    if as_uri:
        return os.path.abspath(urllib.parse.unquote(as_uri[1], errors="surrogateescape"))
    return os.path.abspath(os.path.expanduser(uri))


def absolute(given: str) -> str:
    """Make an absolute path or URI of what a user wrote; no folder keeps a slash at its end."""
    if is_http(given):
        return given
    return given.rstrip("/") if is_remote(given) else local_path(given)


def join(folder: str, *names: str) -> str:
    """Put names below a folder.

    Raises:
      StoreError: no installed filesystem serves the URI's scheme.
    """
    with mapped():
        return str(FileSystems.join(folder, *names))


def split(uri: str) -> tuple[str, str]:
    """Divide a path or URI into its folder and its last name.

    Raises:
      StoreError: no installed filesystem serves the URI's scheme.
    """
    with mapped():
        folder, name = FileSystems.split(uri)
    return folder, name
