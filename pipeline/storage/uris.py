"""Tells paths and URIs apart, joins them, and makes them absolute."""

from __future__ import annotations

import os
import re
import urllib.parse

from apache_beam.io.filesystems import FileSystems

from pipeline.storage.errors import mapped


def is_http(uri: str) -> bool:
    """Tell whether the file is on an http(s) server, which no Beam filesystem reads."""
    return uri.lower().startswith(("http://", "https://"))


def is_remote(uri: str) -> bool:
    """Tell whether the URI has a scheme other than ``file``."""
    return re.match(r"(?!file:)[a-z][a-z0-9+.-]*://", uri, re.IGNORECASE) is not None


def bucket_of(uri: str) -> str:
    """Return the bucket of an object in a store, with its scheme."""
    scheme, _, key = uri.partition("://")
    return f"{scheme.lower()}://{key.partition('/')[0]}"


def local_path(uri: str) -> str:
    """Turn a path or ``file://`` URI on this machine into an absolute path.

    Only in a URI are escapes such as ``%20`` decoded, which ``Path.as_uri`` writes.
    """
    as_uri = re.match(r"file:(?://(?:localhost)?)?(/.*)", uri, re.IGNORECASE | re.DOTALL)
    if as_uri:
        path = urllib.parse.unquote(as_uri[1], errors="surrogateescape")
    else:
        path = os.path.expanduser(uri)
    # abspath leaves two slashes at the beginning, which would be another name of the same file.
    return f"/{os.path.abspath(path).lstrip('/')}"


def absolute(given: str) -> str:
    """Turn what a user wrote into an absolute path or URI, without a slash at the end."""
    if is_http(given):
        return given
    return given.rstrip("/") if is_remote(given) else local_path(given)


def join(folder: str, *names: str) -> str:
    """Join a folder and names below it.

    Raises:
      StoreError: no installed filesystem serves the URI's scheme.
    """
    with mapped():
        return str(FileSystems.join(folder, *names))


def split(uri: str) -> tuple[str, str]:
    """Split a path or URI into its folder and its last name.

    Raises:
      StoreError: no installed filesystem serves the URI's scheme.
    """
    with mapped():
        folder, name = FileSystems.split(uri)
    return folder, name
