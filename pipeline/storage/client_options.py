"""Says how files are asked for: as whom, with which headers, at which addresses.

These are options of Beam, since Beam brings its options to every worker, and gives them to the
filesystems of each process.
"""

from __future__ import annotations

import functools
import re
from argparse import ArgumentParser
from typing import NamedTuple
from urllib.parse import urlsplit

from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions

from pipeline import __version__
from pipeline.errors import StoreError, UsageError
from pipeline.redaction import redact
from pipeline.storage.errors import mapped

# Beam's option with the hosts that may be asked in any case, each with its port.
TRUSTED = "http_trusted"

USER_AGENT = f"image-labeling/{__version__}"

# Headers that a client sets for each request by itself; and the longest file of headers, in bytes.
_RESERVED = frozenset(
    ["accept-encoding", "connection", "content-length", "host", "range", "transfer-encoding"]
)
_MOST_BYTES = 2**16

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_SECTION = re.compile(r"\[\s*([^\s\[\]/@]+|\[[0-9A-Fa-f:.]+\](?::\d+)?)\s*\]")


class ClientOptions(PipelineOptions):
    """The options that Beam brings to the workers."""

    @classmethod
    def _add_argparse_args(cls, parser: ArgumentParser) -> None:
        for name in ("http_user_agent", "http_headers"):
            parser.add_argument(f"--{name}")
        for name in ("allow_private_addresses", "anonymous"):
            parser.add_argument(f"--{name}", action="store_true")
        parser.add_argument(f"--{TRUSTED}", action="append")


class Header(NamedTuple):
    """A header of requests. ``host``: the only one that gets it, with its port, if that matters."""

    name: str
    value: str
    host: str = ""


class Client(NamedTuple):
    """How servers are asked.

    Attributes:
      user_agent: names this program.
      headers_file: path or URI of a file with more headers; "" for none.
      allow_private: whether servers in private networks may be asked.
      trusted: hosts with ports that may be asked in any case.
    """

    user_agent: str = USER_AGENT
    headers_file: str = ""
    allow_private: bool = False
    trusted: frozenset[str] = frozenset()

    def headers_for(self, url: str, is_given: bool) -> dict[str, str]:
        """Choose the headers in the file that a request for a URL has.

        Args:
          url: what is requested.
          is_given: whether the user, or a list of the user's, names it; else it gets only the
            headers that name its server.

        Raises:
          UsageError: the file cannot be read, or holds something else.
        """
        headers = read_headers(self.headers_file) if self.headers_file else ()
        host = host_of(url)
        names = (host, host.rpartition(":")[0])
        return {
            header.name: header.value
            for header in headers
            if (header.host in names if header.host else is_given)
        }


def options() -> PipelineOptions:
    """Return the options that the launcher, or Beam on a worker, gave to Beam's filesystems."""
    return FileSystems._pipeline_options or _NO_OPTIONS


_NO_OPTIONS = PipelineOptions([])


def client() -> Client:
    """Return how this process asks servers."""
    return _client(options())


# Options are compared by identity.
@functools.lru_cache(maxsize=2)
def _client(options: PipelineOptions) -> Client:
    given = options.view_as(ClientOptions)
    return Client(
        given.http_user_agent or USER_AGENT,
        given.http_headers or "",
        bool(given.allow_private_addresses),
        frozenset(given.http_trusted or ()),
    )


def is_anonymous() -> bool:
    """Tell whether stores are asked without credentials."""
    return bool(options().view_as(ClientOptions).anonymous)


# A process reads it once: it may be a pipe.
@functools.lru_cache(maxsize=4)
def read_headers(path: str) -> tuple[Header, ...]:
    """Read a file with one ``Name: value`` per line; blank lines and ``#`` lines do not count.

    The headers below a line ``[host]`` or ``[host:port]`` are for that server alone.

    Args:
      path: path or URI.

    Raises:
      UsageError: it cannot be read, or holds something else. The message has no header's value.
    """
    try:
        with mapped(), FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED) as f:
            data = f.read(_MOST_BYTES + 1)
    except StoreError as error:
        raise _error(path, f"cannot be read: {error}") from error
    if len(data) > _MOST_BYTES:
        raise _error(path, f"has more than {_MOST_BYTES:,} bytes")
    try:
        lines = data.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise _error(path, "is not UTF-8") from error
    headers, host = [], ""
    for number, line in enumerate(map(str.strip, lines), 1):
        if not line or line.startswith("#"):
            continue
        section = _SECTION.fullmatch(line)
        if section:
            host = section[1].lower()
            continue
        name, colon, value = (part.strip() for part in line.partition(":"))
        if not colon or not _NAME.fullmatch(name) or not value or not _VALUE.fullmatch(value):
            raise _error(path, f"line {number} is not 'Name: value' or '[host]'")
        if name.lower() in _RESERVED:
            raise _error(path, f"line {number} has {name}, which each request has of its own")
        headers.append(Header(name, value, host))
    if not headers:
        raise _error(path, "has no header in it")
    return tuple(headers)


def _error(path: str, problem: str) -> UsageError:
    return UsageError(
        problem,
        subject="http_headers",
        given=redact(path),
        remedy="give a file with one 'Name: value' per line, where all workers can read it",
    )


def host_of(url: str) -> str:
    """Return a URL's host with its port, in lowercase; "" if it has none.

    Args:
      url: of a server, as requests has prepared it.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return ""
    host = (parts.hostname or "").rstrip(".")
    if port is None:
        port = 443 if parts.scheme == "https" else 80
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
