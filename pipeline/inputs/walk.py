"""Lists what a glob matches below a folder, on this machine or in a store."""

from __future__ import annotations

import functools
import heapq
import os
from collections.abc import Callable, Iterator
from typing import NamedTuple

from apache_beam.io.filesystem import FileMetadata

from pipeline import storage
from pipeline.inputs.globs import Exclusions, Glob, States
from pipeline.inputs.passed_over import PassedOver, WhyPassedOver

Listed = FileMetadata | PassedOver

# Tells by a file's name why it is passed over; None if it is not.
Judge = Callable[[str], WhyPassedOver | None]

# Folders that are passed over, whose first names are remembered.
_FOLDERS_KNOWN = 1000


class Rules(NamedTuple):
    """What to list.

    Attributes:
      root: the folder, an absolute path or URI without a slash at its end.
      glob: of paths below it.
      exclusions: what is left out.
      output: the run's own output, an absolute path or URI; empty if there is none.
      in_order: whether folders on this machine are listed in the order of their files' names.
      counts_other_case: whether a file that would match in another case counts as passed over.
      judge: tells by a file's name why it is passed over; None if it is not.
    """

    root: str
    glob: Glob
    exclusions: Exclusions
    output: str
    in_order: bool
    counts_other_case: bool
    judge: Judge


class _Place(NamedTuple):
    """A folder in a listing. ``why``: why everything in it is passed over."""

    states: States
    why: WhyPassedOver | None = None


def list_matches(rules: Rules, prefix: str = "") -> Iterator[Listed]:
    """List the files that match, and what is passed over among them.

    Links to folders are followed; each folder is listed once, under its own name where it has one
    below the root. A link that leads nowhere is listed, and so is a folder on this machine that may
    not be opened, with a slash at its end: they fail visibly when they are read.

    Args:
      rules: what to list.
      prefix: what all names begin with, in a store.

    Raises:
      StoreError: the store cannot be listed.
      OSError: the folder cannot be listed.
    """
    if storage.is_remote(rules.root):
        pages = storage.list_pages(prefix or f"{rules.root}/")
        return (one for one in _list_store(rules, pages) if not isinstance(one, storage.Range))
    return _LocalListing(rules).list()


def list_part(
    rules: Rules, part: storage.Range, shares: bool, prefix: str = ""
) -> Iterator[Listed | storage.Range]:
    """Do the same for a part of a store's names, in no order.

    Args:
      rules: what to list.
      part: the names.
      shares: whether some of them may be left to others, as ranges.
      prefix: what all names begin with.

    Raises:
      StoreError: the store cannot be listed.
    """
    return _list_store(rules, storage.list_pages(prefix or f"{rules.root}/", part, shares))


def _list_store(
    rules: Rules, pages: Iterator[storage.Page | storage.Range]
) -> Iterator[Listed | storage.Range]:
    start = len(rules.root) + 1
    counted = functools.lru_cache(_FOLDERS_KNOWN)(_first_name)
    seen: str | None = None
    place: _Place | PassedOver | None = None
    for page in pages:
        if isinstance(page, storage.Range):
            yield page
            continue
        if page.after is not None:
            seen, place = None, None
        for file in page.files:
            folder, _, name = file.path.rpartition("/")
            # Empty objects stand for folders in a bucket.
            if not name or not file.path.startswith(f"{rules.root}/"):
                continue
            if folder != seen:  # names arrive in order
                before, seen = place, folder
                below = folder[start:]
                place = _place_of(rules, below.split("/") if below else [])
                if isinstance(place, PassedOver) and place != before:
                    # The folder's first name may be on another page, which counts it.
                    top = f"{place.name}/"
                    after = _uri(rules.root, page.after)
                    if not after.startswith(top) or counted(top) > after:
                        yield place
            if isinstance(place, _Place):
                yield from _sort(rules, place, name, file.path, file)


def _uri(root: str, name: str | None) -> str:
    """Return the URI of an object in the bucket of a root; "" for none."""
    scheme, _, rest = root.partition("://")
    return f"{scheme}://{rest.partition('/')[0]}/{name}" if name else ""


def _first_name(folder: str) -> str:
    """Return the first object in a folder of a store that does not stand for a folder itself."""
    return next((x.path for x in storage.list_files(folder) if not x.path.endswith("/")), folder)


def _place_of(rules: Rules, folders: list[str]) -> _Place | PassedOver | None:
    """Go on from the root through folders."""
    path, place = rules.root, _Place(rules.glob.start)
    for name in folders:
        path = f"{path}/{name}"
        inside = _enter(rules, place, name, path)
        if not isinstance(inside, _Place):
            return inside
        place = inside
        if place.why is None and path == rules.output:
            place = place._replace(why=WhyPassedOver.OUTPUT)
    return place


def _enter(rules: Rules, place: _Place, name: str, path: str) -> _Place | PassedOver | None:
    """Go on into a folder.

    Returns:
      Where that leads; if nothing in the folder matches, why it is passed over although its own
      name matches, or None.
    """
    states, why = place
    if why is None:
        inside = rules.glob.enter(states, name)
        if inside and not rules.exclusions.cover(name, path):
            return _Place(inside)
        why = WhyPassedOver.EXCLUDED if inside else WhyPassedOver.HIDDEN
    inside = rules.glob.enter(states, name, dots=True)
    if inside:
        return _Place(inside, why)
    if place.why is not None or path == rules.output or not rules.glob.matches(states, name):
        return None
    excluded = rules.exclusions.cover(name, path)
    return PassedOver(WhyPassedOver.EXCLUDED if excluded else WhyPassedOver.FOLDER, path)


def _sort(
    rules: Rules, place: _Place, name: str, path: str, file: FileMetadata | os.DirEntry[str]
) -> Iterator[Listed]:
    """Yield what a file is in the listing; nothing if it does not match."""
    states, why = place
    if why is not None:
        if rules.glob.matches(states, name, dots=True):
            yield PassedOver(why, path)
        return
    if rules.glob.matches(states, name):
        excluded = rules.exclusions.cover(name, path)
        why = WhyPassedOver.EXCLUDED if excluded else rules.judge(name)
        if why is None:
            yield _metadata(file) if isinstance(file, os.DirEntry) else file
            return
    elif rules.glob.matches(states, name, dots=True):
        why = WhyPassedOver.HIDDEN
    elif rules.counts_other_case and rules.glob.matches_in_another_case(states, name):
        why = WhyPassedOver.OTHER_CASE
    if why is not None:
        yield PassedOver(why, path)


class _Folder(NamedTuple):
    """A folder to list. ``real``: its path without links."""

    path: str
    real: str
    place: _Place


class _Entry(NamedTuple):
    """What a folder holds. ``before``: as what the folder has been listed before."""

    folder: _Folder
    entry: os.DirEntry[str]
    before: States


class _LocalListing:
    """A listing on this machine."""

    def __init__(self, rules: Rules):
        self._rules = rules
        self._root = rules.root or "/"
        self._output = os.path.realpath(rules.output) if rules.output else None
        # By real paths: numbers of files are not unique on every network's drive.
        self._listed: dict[str, States] = {}
        top = _Folder(self._root, os.path.realpath(self._root), _Place(rules.glob.start))
        # What comes next is last.
        self._waiting: list[_Folder | _Entry] = [top]
        self._links: list[_Folder] = []

    def list(self) -> Iterator[Listed]:
        """List everything."""
        while self._waiting or self._links:
            # Links come last, so that a folder is listed under its own name if it has one.
            one = self._waiting.pop() if self._waiting else heapq.heappop(self._links)
            yield from self._open(one) if isinstance(one, _Folder) else self._take(one)

    def _open(self, folder: _Folder) -> Iterator[Listed]:
        path, real, place = folder
        before: States = frozenset()
        if place.why is None:
            if real == self._output and path != self._root:
                place = place._replace(why=WhyPassedOver.OUTPUT)
                folder = folder._replace(place=place)
            else:
                before = self._listed.get(real, before)
                if place.states <= before:
                    yield PassedOver(WhyPassedOver.ALREADY_LISTED, path)
                    return
                self._listed[real] = before | place.states
        try:
            with os.scandir(path) as entries:
                # In order, all names of a folder are in memory; in disorder, none is.
                if self._rules.in_order:
                    by_name = sorted(entries, key=lambda entry: entry.name, reverse=True)
                    self._waiting += [_Entry(folder, entry, before) for entry in by_name]
                    return
                for entry in entries:
                    yield from self._take(_Entry(folder, entry, before))
        except (FileNotFoundError, NotADirectoryError):
            pass  # removed in the meantime, or a glob below what is no folder
        except PermissionError:
            if path == self._root:
                raise
            closed = f"{path}/"
            why = place.why
            yield FileMetadata(closed, 0, 0.0) if why is None else PassedOver(why, closed)

    def _take(self, one: _Entry) -> Iterator[Listed]:
        folder, entry, before = one
        place = folder.place
        is_folder, is_link = _kind(entry)
        if is_folder and not (is_link and place.why is not None):
            inside = _enter(self._rules, place, entry.name, entry.path)
            if not isinstance(inside, _Place):
                yield from [inside] if inside else []
            elif not is_link:
                real = os.path.join(folder.real, entry.name)
                self._waiting.append(_Folder(entry.path, real, inside))
            elif inside.why is None:
                real = os.path.realpath(entry.path)
                heapq.heappush(self._links, _Folder(entry.path, real, inside))
            else:
                yield PassedOver(inside.why, entry.path)
        elif before and self._rules.glob.matches(before, entry.name):
            yield PassedOver(WhyPassedOver.ALREADY_LISTED, entry.path)
        else:
            yield from _sort(self._rules, place, entry.name, entry.path, entry)


def _kind(entry: os.DirEntry[str]) -> tuple[bool, bool]:
    """Tell whether an entry is a folder or leads to one, and whether it is a link."""
    is_link = entry.is_symlink()
    try:
        return entry.is_dir(), is_link
    except OSError:  # a link in a circle, or into a folder that may not be opened
        return False, is_link


def _metadata(entry: os.DirEntry[str]) -> FileMetadata:
    try:
        status = entry.stat()
    except OSError:
        return FileMetadata(entry.path, 0, 0.0)
    return FileMetadata(entry.path, status.st_size, status.st_mtime)
