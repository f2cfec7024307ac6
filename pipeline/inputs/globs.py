"""Matches paths with globs, one name at a time, so that a listing can leave out whole folders.

``*`` and ``?`` match within a name, ``[…]`` matches one character, ``[!…]`` and ``[^…]`` any other
one, and ``**`` any number of folders. As in a shell, a wildcard does not match the dot in front of
a hidden name.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

# Characters that make a path a glob.
WILDCARDS = "*?["

# Where a path has arrived in a glob: ways through it, and positions in these.
States = frozenset[tuple[int, int]]

# Folders of systems, which have no photographs, or copies of those beside them: smaller ones, or as
# they were at another time. And files that a glob might take. In any case of letters.
ALWAYS_EXCLUDED = (
    "@eaDir",
    "#recycle",
    "@Recycle",
    "#snapshot",
    "@Recently-Snapshot",
    "~snapshot",
    "@tmp",
    "$RECYCLE.BIN",
    "RECYCLER",
    "System Volume Information",
    "__MACOSX",
    "lost+found",
    ".Trash*",
    "Thumbs.db",
    "ehthumbs.db",
    "desktop.ini",
)


def _is_hidden(name: str) -> bool:
    """Tell whether wildcards leave a name out; ``.`` and ``..`` are in names of objects only."""
    return name.startswith(".") and name not in (".", "..")


class _Name(NamedTuple):
    """What a glob says of one name. ``takes_dot``: whether it names the dot in front itself."""

    pattern: re.Pattern[str]
    in_any_case: re.Pattern[str]
    takes_dot: bool

    def matches(self, name: str, dots: bool) -> bool:
        is_open = dots or self.takes_dot or not _is_hidden(name)
        return is_open and self.pattern.fullmatch(name) is not None


class Glob:
    """A glob for paths below a folder, as ``**/*.jpg``.

    Raises:
      re.error: a range in brackets is empty, as in ``[z-a]``.
    """

    def __init__(self, glob: str):
        # None stands for any number of folders.
        self._ways = [
            [None if part == "**" else _name_of(part) for part in way] for way in _ways_of(glob)
        ]
        self.start = self._close((way, 0) for way in range(len(self._ways)))

    def enter(self, states: States, folder: str, dots: bool = False) -> States:
        """Go on into a folder; the result is empty if nothing in it can match.

        Args:
          states: where the path has arrived.
          folder: the folder's name.
          dots: whether wildcards match hidden names, too.
        """
        return self._close(self._next(states, folder, dots))

    def _next(self, states: States, folder: str, dots: bool) -> Iterator[tuple[int, int]]:
        for way, at in states:
            part = self._ways[way][at]
            if part is None:
                if dots or not _is_hidden(folder):
                    yield way, at
            elif at + 1 < len(self._ways[way]) and part.matches(folder, dots):
                yield way, at + 1

    def matches(self, states: States, file: str, dots: bool = False) -> bool:
        """Tell whether a file in a folder matches; the arguments are as for ``enter``."""
        return any(name.matches(file, dots) for name in self._last(states))

    def matches_in_another_case(self, states: States, file: str) -> bool:
        """Tell whether a file that does not match would if case did not count in its name."""
        return not _is_hidden(file) and any(
            name.in_any_case.fullmatch(file) for name in self._last(states)
        )

    def covers(self, path: str) -> bool:
        """Tell whether a whole path matches, hidden names included."""
        *folders, file = path.split("/")
        states = self.start
        for folder in folders:
            states = self.enter(states, folder, dots=True)
        return self.matches(states, file, dots=True)

    def _last(self, states: States) -> Iterator[_Name]:
        """Yield what the glob says of a file's name."""
        for way, at in states:
            part = self._ways[way][at]
            if part is not None and at + 1 == len(self._ways[way]):
                yield part

    def _close(self, states: Iterable[tuple[int, int]]) -> States:
        """Add the places that are reached if ``**`` spans no further folder."""
        closed = set()
        for way, at in states:
            closed.add((way, at))
            while self._ways[way][at] is None:
                at += 1
                closed.add((way, at))
        return frozenset(closed)


def _ways_of(glob: str) -> list[list[str]]:
    """List the ways to read a glob in which ``**`` stands beside other characters.

    ``a**b`` is ``a*b`` or ``a*/**/*b``.
    """
    ways = [
        [part for parts in choice for part in parts]
        for choice in itertools.product(*map(_readings, glob.split("/")))
    ]
    return [[*way, "*"] if way[-1] == "**" else way for way in ways]


def _readings(part: str) -> list[list[str]]:
    before, stars, after = part.partition("**")
    after = after.lstrip("*")
    if not stars:
        return [[part]]
    if not before:
        return [["**", *reading] for reading in _readings(f"*{after}")] if after else [["**"]]
    rest = _readings(f"*{after}")
    return [[f"{before}{one[0]}", *one[1:]] for one in rest] + [
        [f"{before}*", "**", *one] for one in rest
    ]


def _name_of(glob: str) -> _Name:
    pattern = _regex_of(glob)
    return _Name(
        re.compile(pattern, re.DOTALL),
        re.compile(pattern, re.DOTALL | re.IGNORECASE),
        glob.startswith("."),
    )


def _regex_of(glob: str) -> str:
    """Translate a glob for a single name."""
    return "".join(map(_translate, re.findall(r"\[[!^]?(?:\][^\]]*|[^\]]+)\]|.", glob, re.DOTALL)))


def _translate(token: str) -> str:
    """Translate a wildcard, or any other character, into a regular expression."""
    if token == "*":
        return ".*"
    if token == "?":
        return "."
    if len(token) == 1:
        return re.escape(token)
    negated = token.startswith(("[!", "[^")) and len(token) > 3
    ends = re.findall(r"(.)-(.)|(.)", token[2 if negated else 1 : -1], re.DOTALL)
    ranges = (
        f"{re.escape(low)}-{re.escape(high)}" if low else re.escape(one) for low, high, one in ends
    )
    return f"[{'^' if negated else ''}{''.join(ranges)}]"


class Exclusions:
    """What a listing of a folder leaves out.

    Args:
      root: the folder, an absolute path or URI without a slash at its end.
      globs: one without a slash is compared with the names of files and folders at any depth, one
        with a slash with paths below the root.

    Raises:
      re.error: a range in brackets is empty.
    """

    def __init__(self, root: str, globs: Iterable[str] = ()):
        self._root = root
        ends = [glob.rstrip("/") for glob in globs]
        names = "|".join(_regex_of(glob) for glob in ends if "/" not in glob)
        self._names = re.compile(names, re.DOTALL) if names else None
        paths = [glob.removeprefix(f"{root}/") for glob in ends if "/" in glob]
        self._paths = [Glob(glob.removeprefix("./").lstrip("/")) for glob in paths]

    def cover(self, name: str, path: str) -> bool:
        """Tell whether a file or folder is left out, by its name and its whole path."""
        if _ALWAYS.fullmatch(name) or (self._names is not None and self._names.fullmatch(name)):
            return True
        relative = path[len(self._root) + 1 :]
        return any(glob.covers(relative) for glob in self._paths)


_ALWAYS = re.compile("|".join(map(_regex_of, ALWAYS_EXCLUDED)), re.DOTALL | re.IGNORECASE)
