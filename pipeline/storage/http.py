"""Reads files from http(s) servers, with one session per process."""

from __future__ import annotations

import contextlib
import functools
import io
from collections.abc import Iterator
from typing import Any, BinaryIO

import requests

from pipeline.storage.errors import MappedFile, mapped
from pipeline.storage.object_stores import CONNECT_TIMEOUT, MAX_CONNECTIONS, Body

# Seconds: to connect, and between two packets.
_TIMEOUT = (CONNECT_TIMEOUT, 30)


def read_http(url: str, body: Body) -> None:
    """Read the content of a URL into ``body``, with one request.

    Raises:
      StoreError: the request failed, or there is more than ``body`` takes.
    """
    timeout = (CONNECT_TIMEOUT, body.seconds)
    with mapped(), _session().get(url, timeout=timeout, stream=True) as response:
        response.raise_for_status()
        # Take whatever has arrived. iter_content waits for a whole chunk, however long that
        # takes, and the time must be checked in between.
        while chunk := response.raw.read1(2**18, decode_content=True):
            body.write(chunk)


def http_version(url: str, seconds: float) -> str:
    """Ask the server what changes with the file: its tag, or its length and time; "" if none.

    Raises:
      StoreError: the request failed.
    """
    # With a content encoding, the length is not that of the file.
    headers = {"Accept-Encoding": "identity"}
    timeout = (CONNECT_TIMEOUT, seconds)
    with (
        mapped(),
        _session().head(url, headers=headers, timeout=timeout, allow_redirects=True) as response,
    ):
        response.raise_for_status()
        tag = response.headers.get("ETag", "")
        modified = response.headers.get("Last-Modified", "")
        length = response.headers.get("Content-Length", "")
    return tag or (f"{length} {modified}" if modified and length else "")


@contextlib.contextmanager
def open_http(url: str, query: dict[str, str]) -> Iterator[BinaryIO]:
    """Open the body of a server's answer, as it comes over the wire, for reading in pieces.

    Raises:
      StoreError: the request failed. Reading can raise it as well.
    """
    headers = {"Accept-Encoding": "identity"}
    with mapped():
        response = _session().get(url, params=query, headers=headers, timeout=_TIMEOUT, stream=True)
    with response:
        with mapped():
            response.raise_for_status()
        body: Any = response.raw
        body.auto_close = False  # io's readers treat a file that closes itself as an error
        with io.BufferedReader(MappedFile(body)) as file:
            yield file


@functools.lru_cache(maxsize=1)
def _session() -> requests.Session:
    """Make the session, whose open connections the reading threads share."""
    session = requests.Session()
    session.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=MAX_CONNECTIONS))
    session.mount("https://", requests.adapters.HTTPAdapter(pool_maxsize=MAX_CONNECTIONS))
    return session
