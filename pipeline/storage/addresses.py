"""Keeps URIs of strangers away from the servers of this network.

A list of URLs may name what only this machine can reach: the metadata server of a cloud, which
gives out credentials, or a server that trusts its neighbors. So the address is checked to which a
connection is made, however its name is spelled or resolved, and after each redirect.
"""

from __future__ import annotations

import ipaddress
import socket
from typing import Any, TypeVar

import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.util.connection import allowed_gai_family

from pipeline.errors import StoreError
from pipeline.records import Reason
from pipeline.storage.client_options import Client, host_of

Connection = TypeVar("Connection", bound=HTTPConnection)

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# Servers that give a cloud's machines their credentials, at addresses that are not link-local:
# Amazon's, Alibaba's, Oracle's and Azure's.
_METADATA = frozenset(
    map(
        ipaddress.ip_address,
        ["fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254", "100.100.100.200", "192.0.0.192",
         "168.63.129.16"],
    )
)  # fmt: skip
_METADATA_NAMES = frozenset(["metadata.google.internal", "metadata.goog"])

# IPv6 addresses that stand for an IPv4 address in their last bits.
_TRANSLATED = (
    ipaddress.IPv6Network("::/96"),
    ipaddress.IPv6Network("64:ff9b::/96"),
    ipaddress.IPv6Network("64:ff9b:1::/48"),
    ipaddress.IPv6Network("::ffff:0:0:0/96"),
)


def check(text: str, client: Client, host: str) -> None:
    """Check that an address may be asked.

    Args:
      text: an IP address.
      client: says whether private addresses may.
      host: the server's name and port, for which it stands.

    Raises:
      StoreError: it may not; the message says what would allow it.
    """
    if host.rpartition(":")[0] in _METADATA_NAMES:
        raise _refused(host, "a cloud's metadata server, which is never asked")
    address = _unwrapped(ipaddress.ip_address(text.partition("%")[0]))
    shown = host if str(address) in host else f"{host} ({address})"
    if address.is_link_local or address in _METADATA or address.is_unspecified:
        raise _refused(
            shown, "a link-local address or a cloud's metadata server, which is never asked"
        )
    if not client.allow_private and host not in client.trusted and _is_private(address):
        raise _refused(
            shown,
            "in a private network or this machine; if the inputs may ask servers there, give "
            "allow_private_addresses",
        )


def _refused(host: str, why: str) -> StoreError:
    return StoreError(Reason.FORBIDDEN, f"{host} is {why}")


def _is_private(address: Address) -> bool:
    is_site_local = isinstance(address, ipaddress.IPv6Address) and address.is_site_local
    return not address.is_global or address.is_multicast or is_site_local


def _unwrapped(address: Address) -> Address:
    """Return the IPv4 address that an IPv6 address stands for, if it does."""
    if isinstance(address, ipaddress.IPv4Address) or address == ipaddress.IPv6Address("::1"):
        return address
    inner = address.ipv4_mapped or address.sixtofour
    if inner is None and address.teredo is not None:
        inner = address.teredo[1]
    if inner is None and any(address in network for network in _TRANSLATED):
        inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    if inner is None and address.is_global and int(address) >> 32 & 0xFDFFFFFF == 0x5EFE:  # ISATAP
        inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address if inner is None or int(address) == 0 else inner


def check_url(url: str, client: Client) -> None:
    """Check a URL whose host is an address, in any spelling; names are checked when they resolve.

    Through a proxy, this is the only check: the proxy resolves names.

    Raises:
      StoreError: it may not be asked.
    """
    host = host_of(url)
    name = host.rpartition(":")[0].strip("[]")
    if name in _METADATA_NAMES:
        check("0.0.0.0", client, host)
    try:
        address = str(ipaddress.ip_address(name.partition("%")[0]))
    except ValueError:
        try:
            address = socket.inet_ntoa(socket.inet_aton(name))  # 2852039166, 0xa9fea9fe and such
        except (OSError, UnicodeEncodeError):
            return
    check(address, client, host)


def _guarded(kind: type[Connection], client: Client) -> type[Connection]:
    """Make a class of connections that check the addresses to which they connect."""

    class Guarded(kind):  # type: ignore[valid-type,misc]
        _dns_host: str

        def _new_conn(self) -> socket.socket:
            name = self._dns_host
            try:
                found = socket.getaddrinfo(
                    name.strip("[]"), self.port, allowed_gai_family(), socket.SOCK_STREAM
                )
            except socket.gaierror as error:
                raise urllib3.exceptions.NameResolutionError(self.host, self, error) from error
            bare = self.host.strip("[]")
            host = f"[{bare}]:{self.port}" if ":" in bare else f"{bare}:{self.port}"
            addresses = list(dict.fromkeys(str(each[4][0]) for each in found))
            for address in addresses:
                check(address, client, host.lower())
            # Connect to what was checked. The name might resolve to something else next time.
            try:
                for number, address in enumerate(addresses, 1):
                    self._dns_host = address
                    try:
                        return super()._new_conn()
                    except urllib3.exceptions.HTTPError:
                        if number == len(addresses):
                            raise
            finally:
                self._dns_host = name
            raise AssertionError("getaddrinfo returns an address, or raises")

    return Guarded


class GuardedAdapter(HTTPAdapter):
    """Sends requests to the addresses that may be asked.

    Args:
      client: says which these are.
      connections: how many are kept open.
    """

    def __init__(self, client: Client, connections: int):
        self._client = client
        super().__init__(pool_connections=connections, pool_maxsize=connections)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Make the pools of connections, but those of proxies, whose addresses the user sets."""
        super().init_poolmanager(*args, **kwargs)
        client = self._client

        class Pool(HTTPConnectionPool):
            ConnectionCls = _guarded(HTTPConnection, client)

        class SecurePool(HTTPSConnectionPool):
            ConnectionCls = _guarded(HTTPSConnection, client)

        self.poolmanager.pool_classes_by_scheme = {"http": Pool, "https": SecurePool}

    def send(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        """Send a request.

        Raises:
          StoreError: its address may not be asked.
        """
        check_url(request.url or "", self._client)
        return super().send(request, *args, **kwargs)
