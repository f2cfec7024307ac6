"""Serves a bucket of any number of names, which are made when they are asked for, never kept.

    python benchmarks/synthetic_bucket.py NAMES LAYOUT [MILLISECONDS]

Prints its address, then serves until it is killed: what lists in the JSON API of Google's store,
and S3's ``ListObjectsV2``, for every bucket's name. Each answer comes so many milliseconds after
its request. A page has at most 1,000 names, as the real ones do.
"""

from __future__ import annotations

import asyncio
import bisect
import datetime
import itertools
import json
import sys
from collections.abc import Callable
from urllib.parse import parse_qs, quote, urlsplit
from xml.sax.saxutils import escape

PREFIX = "photos/"

# What every object says of itself.
SIZE = 652
TIME = "2026-01-01T00:00:00.000Z"

_PAGE = 1000
_PER_DAY = 1000

# The folders of "uneven", how many names most of them have, and those that share all the others.
_FOLDERS, _FEW, _HUGE = 1000, 10, (137, 500, 731)

_DIGITS = "0Aéж写😀"  # in the order of their code points, which is that of UTF-8
_LONG = 12


def layout(kind: str, names: int) -> Callable[[int], str]:
    """Return what makes the names: from 0, 1, … to names in order."""
    return {
        "numbered": lambda n: f"{PREFIX}img_{n + 1:09}.jpg",
        "hashed": lambda n: f"{PREFIX}{n * 2**64 // names:016x}.jpg",
        "dated": _dated,
        "uneven": _uneven(names),
        "unicode": lambda n: _unicode(n * len(_DIGITS) ** _LONG // names),
    }[kind]


def _dated(n: int) -> str:
    day = datetime.date(1990, 1, 1) + datetime.timedelta(n // _PER_DAY)
    return f"{PREFIX}{day:%Y/%m/%d}/IMG_{n % _PER_DAY:04}.jpg"


def _uneven(names: int) -> Callable[[int], str]:
    huge = max((names - _FEW * (_FOLDERS - len(_HUGE))) // len(_HUGE), _FEW)
    sizes = (huge if folder in _HUGE else _FEW for folder in range(_FOLDERS))
    starts = [0, *itertools.accumulate(sizes)]

    def name(n: int) -> str:
        folder = min(bisect.bisect_right(starts, n), _FOLDERS) - 1
        return f"{PREFIX}camera-{folder:03}/{n - starts[folder]:08}.jpg"

    return name


def _unicode(n: int) -> str:
    digits = ""
    for _ in range(_LONG):
        n, digit = divmod(n, len(_DIGITS))
        digits = _DIGITS[digit] + digits
    return f"{PREFIX}{digits}.jpg"


class Bucket:
    """The names of a bucket.

    Args:
      names: how many there are.
      kind: their layout.
    """

    def __init__(self, names: int, kind: str):
        self._all = range(names)
        self._name = layout(kind, names)

    def page(
        self, prefix: str, start: str, end: str | None, token: str, most: int
    ) -> tuple[list[str], str]:
        """Return the names from ``start`` to before ``end``, and what continues them, if anything.

        Args:
          prefix: what they begin with.
          start: the first one.
          end: the one behind the last one; None for none.
          token: what continues an earlier answer, or "".
          most: how many at most.
        """
        first = int(token) if token else self.index(max(prefix, start))
        behind = self.index(f"{prefix}\U0010ffff")
        if end is not None:
            behind = min(behind, self.index(end))
        last = min(first + min(most, _PAGE), behind)
        names = [self._name(n) for n in range(first, last)]
        return names, str(last) if last < behind else ""

    def index(self, name: str) -> int:
        """Count the names that go before another one."""
        return bisect.bisect_left(self._all, name, key=self._name)


def google(bucket: Bucket, query: dict[str, str]) -> bytes:
    """Answer ``GET /storage/v1/b/BUCKET/o``."""
    names, token = bucket.page(
        query.get("prefix", ""),
        query.get("startOffset", ""),
        query.get("endOffset"),
        query.get("pageToken", ""),
        int(query.get("maxResults", _PAGE)),
    )
    items = [{"name": name, "size": str(SIZE), "updated": TIME} for name in names]
    return json.dumps({"items": items, **({"nextPageToken": token} if token else {})}).encode()


def amazon(bucket: Bucket, query: dict[str, str]) -> bytes:
    """Answer ``GET /BUCKET?list-type=2``."""
    after = query.get("start-after", "")
    names, token = bucket.page(
        query.get("prefix", ""),
        f"{after}\0" if after else "",
        None,
        query.get("continuation-token", ""),
        int(query.get("max-keys", _PAGE)),
    )
    return "".join(
        [
            "<ListBucketResult><EncodingType>url</EncodingType>",
            f"<KeyCount>{len(names)}</KeyCount><IsTruncated>{str(bool(token)).lower()}</IsTruncated>",
            f"<NextContinuationToken>{token}</NextContinuationToken>" if token else "",
            *(
                f"<Contents><Key>{escape(quote(name))}</Key><Size>{SIZE}</Size>"
                f'<ETag>"e"</ETag><LastModified>{TIME}</LastModified></Contents>'
                for name in names
            ),
            "</ListBucketResult>",
        ]
    ).encode()


async def serve(bucket: Bucket, seconds: float) -> None:
    """Answer requests for ever, many at a time, over connections that stay open."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while request := await reader.readline():
            while (await reader.readline()).strip():
                pass
            await asyncio.sleep(seconds)
            url = urlsplit(request.split()[1].decode())
            query = {name: values[0] for name, values in parse_qs(url.query).items()}
            kind = "application/json" if url.path.startswith("/storage/") else "application/xml"
            if url.path.startswith("/storage/") and not url.path.endswith("/o"):
                body = json.dumps({"size": str(SIZE), "updated": TIME}).encode()  # of one object
            else:
                body = (google if kind.endswith("json") else amazon)(bucket, query)
            head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
            writer.write(head.encode() + body)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    milliseconds = float(sys.argv[3]) if len(sys.argv) > 3 else 0
    asyncio.run(serve(Bucket(int(sys.argv[1]), sys.argv[2]), milliseconds / 1000))
