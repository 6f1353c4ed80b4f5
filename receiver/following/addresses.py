"""Resolves a target's host, and refuses addresses of another kind than the first one.

A URL on the command line may have any address, even a private one, because a person who may start a process can reach
such addresses anyway. But later the owner of the name's DNS chooses the address. So the first kind of address is
stored, and connections to any other kind are refused: to this machine instead of a public address, for example.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Callable, Sequence
from enum import StrEnum

from receiver.daemon_threads import DaemonThreads
from receiver.errors import HookmirrorError

#: Resolves a name into addresses. Raises `OSError`.
Resolve = Callable[[str, int], Sequence[str]]


class AddressKind(StrEnum):
    """The network to which an address belongs."""

    LOOPBACK = "this machine"
    LINK = "this network segment"
    PRIVATE = "a private network"
    PUBLIC = "the public network"


class Misled(HookmirrorError):
    """Raised when a name resolves to another kind of address than before."""


def kind_of(address: str) -> AddressKind:
    """Classify an IP address. Addresses that accept no connection count as link-local."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    mapped = getattr(parsed, "ipv4_mapped", None)
    parsed = mapped if mapped is not None else parsed
    if parsed.is_loopback or parsed.is_unspecified:
        return AddressKind.LOOPBACK
    if parsed.is_link_local or parsed.is_multicast:
        return AddressKind.LINK
    return AddressKind.PUBLIC if parsed.is_global else AddressKind.PRIVATE


def of_kind(host: str, addresses: Sequence[str], reach: str) -> tuple[list[str], AddressKind]:
    """Select the addresses of the kind `reach`; if `reach` is empty, those of the kind of the first address.

    Raises `Misled`.
    """
    kind = AddressKind(reach) if reach else kind_of(addresses[0])
    right = [address for address in addresses if kind_of(address) is kind]
    if not right:
        raise Misled(
            f"{host} resolves to {kind_of(addresses[0])} ({addresses[0]}), but earlier to {kind}: mend its DNS, or "
            "start the follower with --new-address if the change is intended."
        )
    return right, kind


def resolve(host: str, port: int) -> list[str]:
    """Resolve a name into addresses, the preferred one first. Raises `OSError`."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[4][0]) for address in found))


async def resolve_beside(ask: Resolve, host: str, port: int) -> Sequence[str]:
    """Resolve on a daemon thread, because a name server may be slow and a process does not wait for such threads."""
    return await asyncio.wrap_future(DaemonThreads("resolve").submit(ask, host, port))
