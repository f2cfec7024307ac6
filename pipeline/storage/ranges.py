"""Lists the names of a bucket: page after page in order, or many ranges of names at a time.

Nobody knows beforehand how the names are distributed. So the ranges come from the names that
arrive: whatever is left of a range after a page is cut in two somewhere in the middle, as long as
there are fewer ranges than there could be. A part without names costs one request. What is found
never depends on where the cuts are, since each name is in exactly one of the ranges.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import NamedTuple

from apache_beam.io.filesystem import FileMetadata

from pipeline.errors import StoreError
from pipeline.records import Reason

# Pages that a process asks for at a time.
THREADS = 16

# As many pages as are listed one by one, since a small bucket is not worth the trouble.
_PAGES_IN_ORDER = 3

# After so many pages, a long listing is cut into more ranges, up to so many, while so many more
# pages arrive. Then what is left of the ranges goes to other workers: at 10⁸ names, each has some
# hundred pages. Fewer names are not worth the trouble.
_PAGES_ALONE = 200
_MOST_RANGES = 512
_PAGES_TO_CUT = 1000

# The lowest and the highest characters that cuts are made with at first, which are those of names
# in ASCII; the space behind the last character of all; and the characters that UTF-8 does not have.
_FIRST, _LAST, _END = 0x20, 0x7F, 0x110000
_SURROGATES = range(0xD800, 0xE000)

# No cut is longer, in bytes of UTF-8, since no name in Google's or Amazon's stores has over 1,024.
_LONGEST = 1000


class Range(NamedTuple):
    """Names of a bucket in the order of their code points, which is also that of UTF-8.

    They come after ``after``, and up to ``upto`` itself, if that is not None.
    """

    after: str = ""
    upto: str | None = None


class Page(NamedTuple):
    """A part of a listing.

    ``files``: in order, if the store has an order. ``after``: of the range that they are the first
    of; None if they go on where the page before ended.
    """

    files: Iterable[FileMetadata]
    after: str | None = None


class Answer(NamedTuple):
    """What a store says at a time.

    ``names`` and ``files``: as many as fit, in its order. ``token``: what continues them, else "".
    """

    names: Sequence[str]
    files: Sequence[FileMetadata]
    token: str


# Asks a store for names in a range: those it has, but possibly also some others.
Ask = Callable[[Range, str], Answer]


def in_order(ask: Ask) -> Iterator[Page]:
    """List all names, page after page.

    Raises:
      StoreError: the store cannot be listed.
    """
    token = ""
    while True:
        answer = ask(Range(), token)
        yield Page(answer.files)
        token = answer.token
        if not token:
            return


def in_ranges(ask: Ask, whole: Range, shares: bool) -> Iterator[Page | Range]:
    """List the names of a range in no order, many pages at a time.

    A store that does not list in order is listed as by ``in_order``.

    Args:
      ask: asks the store; called in threads.
      whole: the range.
      shares: whether, if there are very many names, the last that is yielded is what has not been
        listed: ranges for other workers.

    Raises:
      StoreError: the store cannot be listed.
    """
    first = ask(whole, "")
    if whole == Range() and not _is_sorted(first.names):
        yield Page(first.files)
        token = first.token
        while token:
            answer = ask(whole, token)
            yield Page(answer.files)
            token = answer.token
        return
    page, rest = _page(ask, whole, first)
    yield page
    for _ in range(_PAGES_IN_ORDER - 1):
        if rest is not None:
            page, rest = _page(ask, rest)
            yield page
    if rest is None:
        return
    pages, seen = _PAGES_IN_ORDER, sorted(set(rest.after).union(*first.names))
    pairs = itertools.takewhile(
        lambda pair: pair[0] == pair[1], zip(rest.after, next(iter(first.names), ""), strict=False)
    )
    same = "".join(pair[0] for pair in pairs)
    waiting, running = deque(_cut_after(rest, same)), set[Future[tuple[Page, Range | None]]]()
    pool = ThreadPoolExecutor(THREADS, thread_name_prefix="list")
    try:
        while waiting or running:
            alone = not shares or pages < _PAGES_ALONE
            most = THREADS if alone else _MOST_RANGES
            if shares and pages > _PAGES_ALONE + _PAGES_TO_CUT:
                most = 0  # no more is asked for
            if not most and not running:
                yield from waiting
                return
            while most and waiting and len(running) < THREADS:
                running.add(pool.submit(_page, ask, waiting.popleft()))
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                running.remove(future)
                page, rest = future.result()
                pages += 1
                if page.files:
                    yield page
                if rest is not None:
                    is_room = len(waiting) + len(running) < most
                    waiting.extend(_cut(rest, seen) if is_room else [rest])
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _page(ask: Ask, range_: Range, answer: Answer | None = None) -> tuple[Page, Range | None]:
    """Return the next names of a range, and what is left of it.

    Stores may answer with no names at all, and still have some, so the token is followed until
    there is one. A store that ignores where a range begins repeats what went before, which is
    dropped.
    """
    answer = answer or ask(range_, "")
    while True:
        if not _is_sorted(answer.names):
            raise StoreError(Reason.UNREADABLE, "the store does not list names in order")
        after, upto = range_
        files = [
            file
            for name, file in zip(answer.names, answer.files, strict=True)
            if name > after and (upto is None or name <= upto)
        ]
        last = answer.names[-1] if answer.names else after
        is_done = not answer.token or (upto is not None and last >= upto)
        if files or is_done:
            break
        answer = ask(range_, answer.token)
    return Page(files, after), None if is_done else Range(last, upto)


def _is_sorted(names: Sequence[str]) -> bool:
    return all(one < other for one, other in itertools.pairwise(names))


def _cut(range_: Range, seen: Sequence[str]) -> list[Range]:
    """Cut a range in two, if it has room for names in between; see ``between``."""
    middle = between(*range_, seen)
    if middle is None or len(middle.encode()) > _LONGEST:
        return [range_]
    return [Range(range_.after, middle), Range(middle, range_.upto)]


def _cut_after(range_: Range, same: str) -> list[Range]:
    """Cut a range without an end behind all names that begin as the first ones do, and so on.

    It cannot be known where the names end; to find out in halves would take many requests in a row.

    Args:
      range_: what is left after the first pages.
      same: what all names on these begin with.
    """
    after, upto = range_
    if upto is not None:
        return [range_]
    ends = [same[:length] + chr(_LAST) for length in range(len(same), -1, -1)]
    cuts = [after, *(end for end in ends if end > after)]
    return [Range(low, high) for low, high in zip(cuts, [*cuts[1:], None], strict=True)]


def between(low: str, high: str | None, seen: Sequence[str] = ()) -> str | None:
    """Return a text that comes after one and before another one; None if there is none.

    It is in the middle where they first differ: the digits 0 and 8 have 4 between them.

    Args:
      low: the first text.
      high: the second text; None for the end of all.
      seen: characters that are likely in texts, in order; the middle is of these, if possible.
    """
    same = 0
    while high is not None and low[same : same + 1] == high[same : same + 1]:
        same += 1
    for place in itertools.count(same):
        first = ord(low[place]) if place < len(low) else _FIRST - 1
        if high is not None and place == same:
            last = ord(high[place])
        else:
            last = _LAST if first < _LAST - 1 else _END
        likely = [character for character in seen if first < ord(character) < last]
        if likely:
            return low[:place] + likely[len(likely) // 2]
        middle = (max(first, _FIRST - 1) + last) // 2
        if middle in _SURROGATES:
            middle = _SURROGATES.start - 1 if first < _SURROGATES.start - 1 else _SURROGATES.stop
        if first < middle < last:
            return low[:place] + chr(middle)
        if place >= len(low):
            return None
    raise AssertionError
