"""Finds addresses of images that a browser can open from a page."""

from __future__ import annotations

import os
import urllib.parse

from pipeline.redaction import name_of

# A longer address is left out, which bounds the size of a page.
_MOST_CHARACTERS = 1000


def href(image: str, folder: str) -> str | None:
    """Return the address of an image for a page's link; None if a browser has none for it.

    A file's is relative to the page, so that both can be moved together. An object in Google Cloud
    Storage is shown to those who may read it, after they have logged in:
    https://cloud.google.com/storage/docs/request-endpoints#cookieauth

    Args:
      image: its name in a row.
      folder: the page's: an absolute path or URI.
    """
    try:
        address = _address(image, folder)
    except UnicodeEncodeError:  # half of a character, which is in no file's name
        return None
    return address if address is not None and len(address) <= _MOST_CHARACTERS else None


def _address(image: str, folder: str) -> str | None:
    if name_of(image) != image:  # a secret, which rows have no longer
        return None
    scheme, _, rest = image.partition("://")
    if scheme.lower() in ("http", "https"):
        return image
    if scheme.lower() == "gs":
        return "https://storage.cloud.google.com/" + urllib.parse.quote(rest)
    if not image.startswith("/") or not folder.startswith("/"):
        return None
    path = os.path.relpath(image, folder)
    return urllib.parse.quote(os.fsencode(path))  # colons, too, or it might begin like a scheme
