"""Where a target's host leads to, and whether that is still what the operator meant.

A URL on the command line may name any address, a private one too: a person who may start a process may reach it anyway.
What its name leads to later is decided by others, though. So the kind of address is remembered from the first time, and
no connection goes to another kind from then on: neither to this machine instead of a public address, nor the reverse.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from enum import StrEnum

from receiver.errors import HookmirrorError

#: Asks the system which addresses a name leads to. Raises `OSError`.
Resolve = Callable[[str, int], Sequence[str]]


class AddressKind(StrEnum):
    """How far an address reaches."""

    LOOPBACK = "this machine"
    LINK = "this network segment"
    PRIVATE = "a private network"
    PUBLIC = "the public network"


class Misled(HookmirrorError):
    """A name leads to another kind of address than it did."""


def kind_of(address: str) -> AddressKind:
    """The kind of an IP address. What no connection can lead to counts as the segment's own."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    mapped = getattr(parsed, "ipv4_mapped", None)
    parsed = mapped if mapped is not None else parsed
    if parsed.is_loopback or parsed.is_unspecified:
        return AddressKind.LOOPBACK
    if parsed.is_link_local or parsed.is_multicast:
        return AddressKind.LINK
    return AddressKind.PUBLIC if parsed.is_global else AddressKind.PRIVATE


def of_kind(host: str, addresses: Sequence[str], reach: str) -> tuple[list[str], AddressKind]:
    """Those of the addresses that may be connected to, and their kind: `reach`, or where it is empty the first one's.

    Raises `Misled`.
    """
    kind = AddressKind(reach) if reach else kind_of(addresses[0])
    right = [address for address in addresses if kind_of(address) is kind]
    if not right:
        raise Misled(
            f"{host} leads to {kind_of(addresses[0])} ({addresses[0]}) now, and led to {kind} before: mend its DNS, or "
            "start the follower with --new-address if that is meant."
        )
    return right, kind


def resolve(host: str, port: int) -> list[str]:
    """The addresses that this name leads to, the preferred one first. Raises `OSError`."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[4][0]) for address in found))


async def resolve_beside(ask: Resolve, host: str, port: int) -> Sequence[str]:
    """Ask on a thread of its own, which nobody waits for at the end: a name server may take its time."""
    answer: Future[Sequence[str]] = Future()

    def run() -> None:
        try:
            answer.set_result(ask(host, port))
        except Exception as error:
            answer.set_exception(error)

    threading.Thread(target=run, name="resolve", daemon=True).start()
    return await asyncio.wrap_future(answer)
