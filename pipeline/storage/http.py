"""Reads files from http(s) servers, with one session per process."""

from __future__ import annotations

import contextlib
import functools
import io
import re
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO, NamedTuple, TypeVar
from urllib.parse import urljoin

import requests
from requests.utils import requote_uri

from pipeline.errors import StoreError
from pipeline.records import Reason
from pipeline.storage.addresses import GuardedAdapter
from pipeline.storage.client_options import Client, client, host_of
from pipeline.storage.errors import MappedFile, mapped, status_of
from pipeline.storage.hosts import HOSTS, MAX_IN_FLIGHT, MAX_WAIT, obeying
from pipeline.storage.memory import Claim
from pipeline.storage.object_stores import CONNECT_TIMEOUT, MAX_CONNECTIONS, Body, unpack
from pipeline.storage.threads import within

# Seconds: to connect and to get an answer, and between two packets of a model.
_TIMEOUT = 30.0

_MOST_REDIRECTS = 30

# With a content encoding, the length and the tag are not those of the file. A server that sends an
# encoded body all the same is understood.
_PLAIN = {"Accept-Encoding": "identity"}

# What servers say that answer only GET; the last two are of signed URLs and of careless routers.
_REFUSE_HEAD = (405, 501, 400, 403, 404)

_FROM_START = re.compile(r"bytes 0-(\d+)/(\d+)")

T = TypeVar("T")


class Content(NamedTuple):
    """What a file has, and its version, as far as that came along; see ``ImageRef``."""

    data: bytes
    version: str = ""


def read_http(
    url: str,
    max_bytes: int,
    seconds: float,
    max_wait: float,
    is_given: bool,
    claim: Claim | None = None,
) -> Content:
    """Read the content of a URL, with one request to each server that it leads to.

    Args:
      url: of the file.
      max_bytes: the size limit.
      seconds: the time limit, without waits for a turn.
      max_wait: seconds that such a wait may take.
      is_given: whether the user, or a list of the user's, names the URL; else it gets only those of
        the user's headers that name its server.
      claim: see ``Body``.

    Raises:
      StoreError: a request failed, or there is more than ``max_bytes``.
      NeedsMemoryError: there is no room for the content.
    """

    def take(response: requests.Response) -> Content:
        body = Body(max_bytes, seconds, claim)
        encoding = response.headers.get("Content-Encoding", "").strip().lower()
        is_packed = encoding in ("gzip", "x-gzip")  # urllib3 would not notice an early end
        announced = response.headers.get("Content-Length", "")
        if announced.isdecimal() and int(announced) <= max_bytes:
            body.expect(int(announced))
        # Take whatever has arrived. iter_content waits for a whole chunk, however long that
        # takes, and the time must be checked in between.
        while chunk := response.raw.read1(2**18, decode_content=not is_packed):
            body.write(chunk)
        if is_packed:
            unpack(body, encoding)
        return Content(bytes(body.data), _version(response))

    return _ask("GET", url, _PLAIN, seconds, take, max_wait, is_given=is_given)


def http_version(url: str, seconds: float, max_wait: float) -> str:
    """Ask the server what changes with the file: its tag, or its length and time; "" if none.

    A server that refuses HEAD, or says nothing then, is asked with GET for the first byte.

    Raises:
      StoreError: the request failed.
    """
    try:
        asked = _ask("HEAD", url, _PLAIN, seconds, _version, max_wait)
    except StoreError as error:
        if status_of(error.__cause__) not in _REFUSE_HEAD:
            raise
        asked = ""
    if asked:
        return asked
    return _ask("GET", url, {**_PLAIN, "Range": "bytes=0-0"}, seconds, _version, max_wait)


@contextlib.contextmanager
def open_http(url: str, query: dict[str, str]) -> Iterator[BinaryIO]:
    """Open the body of a server's answer, as it comes over the wire, for reading in pieces.

    Of the headers in the user's file, only those for this server are sent.

    Raises:
      StoreError: the request failed. Reading can raise it as well.
    """
    with mapped():
        url = requests.Request("GET", url, params=query).prepare().url or url
    opened: list[requests.Response] = []

    def take(response: requests.Response) -> None:
        opened.append(response)

    obeying(lambda: _ask("GET", url, _PLAIN, _TIMEOUT, take, is_given=False, close=False))
    with opened[0] as response:
        body: Any = response.raw
        body.auto_close = False  # io's readers treat a file that closes itself as an error
        with io.BufferedReader(MappedFile(body)) as file:
            yield file


def _ask(
    method: str,
    url: str,
    headers: Mapping[str, str],
    seconds: float,
    take: Callable[[requests.Response], T],
    max_wait: float = MAX_WAIT,
    *,
    is_given: bool = True,
    close: bool = True,
) -> T:
    """Make a request, and follow its redirects; each waits for a turn at its host.

    Args:
      method: of HTTP.
      url: where it begins.
      headers: of each request.
      seconds: the time limit for all of them together; if the answer is not closed, only for each
        packet.
      take: is called with the answer that is no redirect.
      max_wait: seconds that a wait for a turn may take.
      is_given: whether the user's headers that name no server are sent, until a redirect leads to
        another one.
      close: whether to close the answer then.

    Raises:
      StoreError: a request failed.
    """
    settings = client()
    session = _session(settings)
    authorization: dict[str, str] = {}
    for _ in range(_MOST_REDIRECTS + 1):
        own = settings.headers_for(url, is_given)
        with mapped():
            asked = requests.Request(method, url, headers={**headers, **authorization, **own})
            request = session.prepare_request(asked)
        with HOSTS.turn(host_of(request.url or ""), MAX_IN_FLIGHT, max_wait):
            started = time.monotonic()
            send = functools.partial(_send, session, request, seconds, take, close)
            result = within(seconds, send) if close else send()
        if not isinstance(result, _Redirect):
            return result
        seconds = max(seconds - (time.monotonic() - started), 0.001)
        with mapped():  # its port may be none
            is_elsewhere = session.should_strip_auth(request.url or "", result.url)
        if is_elsewhere:
            is_given, authorization = False, {}
        elif "Authorization" in request.headers:  # made of a user in the URL
            authorization = {"Authorization": str(request.headers["Authorization"])}
        url = result.url
    raise StoreError(Reason.UNREADABLE, f"there are more than {_MOST_REDIRECTS} redirects")


class _Redirect(NamedTuple):
    url: str


def _send(
    session: _Session,
    request: requests.PreparedRequest,
    seconds: float,
    take: Callable[[requests.Response], T],
    close: bool,
) -> T | _Redirect:
    with contextlib.ExitStack() as stack, mapped():
        settings = session.merge_environment_settings(request.url, {}, True, None, None)
        response = session.send(
            request, timeout=(CONNECT_TIMEOUT, seconds), allow_redirects=False, **settings
        )
        stack.callback(response.close)
        target = session.target_of(response)
        if target is not None:
            return _Redirect(urljoin(request.url or "", requote_uri(target)))
        _check_status(request, response)
        result = take(response)
        if not close:
            stack.pop_all()
        return result


def _check_status(request: requests.PreparedRequest, response: requests.Response) -> None:
    """Check that an answer brings what was asked for, and all of it.

    Raises:
      requests.HTTPError: its status is none of success.
      StoreError: it has a part of the file, and none was asked for.
    """
    response.raise_for_status()
    status = response.status_code
    if not 200 <= status < 300:  # redirects to nowhere, and statuses that no standard has
        raise requests.HTTPError(
            f"{status} {response.reason} for url: {response.url}", response=response
        )
    if status == 206 and request.method == "GET" and "Range" not in request.headers:
        sent = _FROM_START.fullmatch(response.headers.get("Content-Range", ""))
        if sent is None or int(sent[1]) + 1 != int(sent[2]):
            raise StoreError(Reason.UNAVAILABLE, "the server sent only a part of the file (206)")


def _version(response: requests.Response) -> str:
    """Find the version of a file in the answer to any request for it; "" if there is none."""
    tag = response.headers.get("ETag", "")
    modified = response.headers.get("Last-Modified", "")
    length = response.headers.get("Content-Length", "")
    if response.status_code == 206:
        length = response.headers.get("Content-Range", "").rpartition("/")[2].strip("*")
    return tag or (f"{length} {modified}" if modified and length else "")


class _Session(requests.Session):
    """Keeps connections open, which the reading threads share; leaves redirects to its user."""

    def get_redirect_target(self, resp: requests.Response) -> None:
        """Return None: a redirect is a request of its own, with a turn of its own."""

    def target_of(self, response: requests.Response) -> str | None:
        """Return the URL, maybe a relative one, that a redirect leads to; None for others."""
        return super().get_redirect_target(response)


@functools.lru_cache(maxsize=2)
def _session(settings: Client) -> _Session:
    session = _Session()
    session.headers["User-Agent"] = settings.user_agent
    for scheme in ("http://", "https://"):
        session.mount(scheme, GuardedAdapter(settings, MAX_CONNECTIONS))
    return session
