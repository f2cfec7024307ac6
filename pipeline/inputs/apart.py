"""Names images apart whose URIs differ only in what no name has: credentials.

    https://host/photo.jpg?token=AAA  ──►  https://host/photo.jpg#version=2c26b46b68ff
    https://host/photo.jpg?token=BBB  ──►  https://host/photo.jpg#version=fcde2b2edba5

A hash of the credential would be stable, too, but everybody could find a short credential by
trying all. The version of the file is no secret, and is known in an incremental run; elsewhere, or
if two have the same, there is only a number, ``#number=1``, which may be another image's in
another run.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Sequence

from pipeline.records import ImageRef

_VERSION = "#version="
_DIGITS = 12
_NUMBER = "#number="


def named_apart(refs: Sequence[ImageRef]) -> Iterator[ImageRef]:
    """Give each URI a fragment, which becomes part of the name, and which no server gets to see.

    Args:
      refs: at least two, with one name, of different images.
    """
    versions = Counter(ref.version for ref in refs)
    for number, ref in enumerate(refs, 1):
        fragment = f"{_NUMBER}{number}"
        if ref.version and versions[ref.version] == 1:
            fragment = _VERSION + hashlib.sha256(ref.version.encode()).hexdigest()[:_DIGITS]
        yield ref._replace(uri=ref.uri + fragment)


def has_version(uri: str) -> bool:
    """Tell whether the fragment that ``named_apart`` gave to a URI stands for its version."""
    return without_version(uri) != uri


def is_numbered(name: str) -> bool:
    """Tell whether only a number tells a name apart."""
    return _NUMBER in name and name.rpartition(_NUMBER)[2].isdecimal()


def without_version(name: str) -> str:
    """Return a name without what tells it apart by its version."""
    short, version, digits = name.rpartition(_VERSION)
    return short if version and re.fullmatch(f"[0-9a-f]{{{_DIGITS}}}", digits) else name
