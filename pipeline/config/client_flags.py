"""The flags that say how files in stores and on servers are asked for."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from pipeline.config import values
from pipeline.config.flags import Group, Rows, flag


@dataclass(frozen=True, kw_only=True)
class ClientConfig:
    """These flags, which Beam brings to the workers.

    ``beam_args`` are the arguments that belong to Apache Beam, untouched.
    """

    http_user_agent: str | None = flag(
        None,
        type=values.header,
        metavar="NAME",
        group=Group.SERVERS,
        rows=Rows.SAME,
        help="what http(s) servers are told about who asks; some want a contact address in it",
        unset="image-labeling and its version",
    )
    http_headers: str | None = flag(
        None,
        type=values.not_empty,
        metavar="FILE",
        group=Group.SERVERS,
        rows=Rows.SAME,
        help="file with headers for requests to http(s) servers, one 'Name: value' per line; those "
        "below a line [host] are for that server alone; each worker reads it",
    )
    allow_private_addresses: bool = flag(
        False,
        group=Group.SERVERS,
        rows=Rows.SAME,
        help="let URLs in inputs lead to servers on this machine and in private networks",
    )
    anonymous: bool = flag(
        False,
        group=Group.SERVERS,
        rows=Rows.SAME,
        help="use buckets without credentials, which is enough to read public ones",
    )
    beam_args: tuple[str, ...] = ()

    @property
    def named(self) -> Iterable[str]:
        """The files that the command line itself names."""
        return ()

    @property
    def all_beam_args(self) -> tuple[str, ...]:
        """Arguments for Beam: the user's, and these flags as options of ``ClientOptions``."""
        arguments = [*self.beam_args]
        if self.http_user_agent is not None:
            arguments.append(f"--http_user_agent={self.http_user_agent}")
        if self.http_headers is not None:
            path = self.http_headers
            if "://" not in path:  # a worker may have another working folder
                path = os.path.abspath(os.path.expanduser(path))
            arguments.append(f"--http_headers={path}")
        for name in ("allow_private_addresses", "anonymous"):
            if getattr(self, name):
                arguments.append(f"--{name}")
        return (*arguments, *(f"--http_trusted={host}" for host in trusted(self.named)))


def trusted(uris: Iterable[str]) -> list[str]:
    """List the hosts with ports that a user has named by an address, in any of some URLs.

    What an address means is up to the user; what a name means, to whoever owns the name. So of
    names, only ``localhost`` is listed.
    """
    hosts = set()
    for uri in uris:
        if not re.match("https?://", uri, re.IGNORECASE):
            continue
        try:
            parts = urlsplit(uri)
            host, port = parts.hostname or "", parts.port
        except ValueError:
            continue  # said where it is used
        port = port or (443 if parts.scheme == "https" else 80)
        if ":" in host:
            hosts.add(f"[{host}]:{port}")
        elif host == "localhost" or _is_ipv4(host):
            hosts.add(f"{host}:{port}")
    return sorted(hosts)


def _is_ipv4(host: str) -> bool:
    try:
        socket.inet_pton(socket.AF_INET, host)
    except (OSError, UnicodeEncodeError):
        return False
    return True
