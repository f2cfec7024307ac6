"""Reads the lines of text files, whichever Unicode encoding they are in."""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator
from typing import Any, BinaryIO, cast

# Byte order marks, and the encodings that take them off.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def lines(file: BinaryIO, newline: str) -> Iterator[str]:
    """Read lines with their ends, in UTF-8, or as the byte order mark says.

    Bytes that the encoding does not have become lone surrogates.

    Args:
      file: the content, unzipped.
      newline: as ``open`` takes it: a line feed, or "" if a carriage return ends a line as well.
    """
    buffered = io.BufferedReader(cast(Any, file))
    start = buffered.peek(3)
    encoding = next((name for mark, name in _MARKS if start.startswith(mark)), "utf-8")
    yield from io.TextIOWrapper(buffered, encoding, "surrogateescape", newline)


def is_unicode(text: str) -> bool:
    """Tell whether all bytes of a text were in its encoding."""
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)
