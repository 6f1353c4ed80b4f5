"""Connections: bounds their number, in all and from each address, and closes waiting ones for a new one.

A connection that waits for its sender can be ended at any time; one whose request is being answered cannot. So if there
is no room for a new connection, those that have waited longest are closed first, and those that have waited for a few
seconds last. A stranger who holds or opens thousands of connections then shuts no sender out (docs/decisions/0017).
"""

from __future__ import annotations

import asyncio
import ipaddress
import resource
from collections.abc import Collection
from enum import IntEnum
from operator import itemgetter
from typing import NamedTuple, Protocol

import structlog

from receiver.errors import Limited
from receiver.ingest.incoming import Incoming, guarded, limited
from receiver.logs.repeats import Repeats
from receiver.metrics import metrics
from receiver.settings.limits import Limits

TOO_MANY = Limited("Too many connections are open. Send this again later.")

log = Repeats(structlog.get_logger(__name__))

#: Open files reserved for the database, its journals, logs, and connections that are being closed.
RESERVED_FILES = 128

#: The share of the connections that is ended at once when there is no room, so that the search is rare.
ENDED_AT_ONCE = 16

#: Seconds for a sender to send its request before its connection is among the first to be ended.
SENDING_GRACE = 3.0

#: The share of the bound above which the log warns that the bound is near.
NEAR = 0.9

#: The longest interval in seconds between two checks of all connections; a quarter of the shortest time limit, if less.
CONNECTION_POLL = 1.0

#: The prefix length of an IPv6 network that one customer has.
IPV6_PREFIX = 64


class Awaited(IntEnum):
    """The reason for which a connection waits, in the order in which connections are ended to make room."""

    #: The sender must complete a head, or read its answers.
    HEAD_OR_READING = 0
    #: The sender may begin the next request.
    REQUEST = 1
    BODY = 2


class Wait(NamedTuple):
    """A connection's wait for its sender: the reason and the beginning."""

    awaited: Awaited
    #: By the loop's clock.
    since: float

    def rank(self, now: float) -> tuple[int, float]:
        """The sort key: the connection with the lowest rank is ended first."""
        is_new = self.awaited is not Awaited.REQUEST and now - self.since < SENDING_GRACE
        return (len(Awaited) if is_new else self.awaited, self.since)


class Connection(Protocol):
    """The state of one open connection."""

    def wait(self) -> Wait | None:
        """The present wait; None while the sender waits for us."""

    def check_limits(self, now: float) -> None:
        """End the connection if a time limit has passed."""

    def cut(self) -> None:
        """End it at once."""


class Connections:
    """The open connections of one process."""

    def __init__(self, limits: Limits, incoming: Incoming) -> None:
        self.limits = limits
        self.incoming = incoming
        self._most = min(limits.max_connections, room_for_connections())
        if self._most < limits.max_connections:
            structlog.get_logger(__name__).info(
                "the limit on open files allows fewer connections than max_connections", connections=self._most
            )
        self._most_of_one = min(limits.max_connections_per_address or max(self._most // 2, 1), self._most)
        self._addresses: dict[Connection, str] = {}
        self._by_address: dict[str, set[Connection]] = {}
        self._pause = min(CONNECTION_POLL, limits.head_timeout / 4, limits.keep_alive_timeout / 4)
        self._timer: asyncio.TimerHandle | None = None

    def enter(self, connection: Connection, host: str, loop: asyncio.AbstractEventLoop) -> str | None:
        """Add a connection. If there is no room, return the name of the exceeded setting; the caller must end it."""
        address = network_of(host)
        full = self._full(self._by_address.get(address, ()), loop.time())
        self._addresses[connection] = address
        self._by_address.setdefault(address, set()).add(connection)
        self._counted()
        if self._timer is None:
            self._timer = loop.call_later(self._pause, self._poll, loop)
        if full is not None:
            limited(full)
        return full

    def leave(self, connection: Connection) -> None:
        address = self._addresses.pop(connection, None)
        if address is not None:
            alike = self._by_address[address]
            alike.discard(connection)
            if not alike:
                del self._by_address[address]
            self._counted()

    def _full(self, alike: Collection[Connection], now: float) -> str | None:
        """The setting whose bound is reached even after waiting connections were ended; None if there is room."""
        if len(alike) >= self._most_of_one and not self._make_room(alike, "max_connections_per_address", now):
            return "max_connections_per_address"
        if len(self._addresses) >= self._most and not self._make_room(self._addresses, "max_connections", now):
            return "max_connections"
        return None

    def _make_room(self, among: Collection[Connection], limit: str, now: float) -> bool:
        waiting = [(wait.rank(now), each) for each in among if (wait := each.wait()) is not None]
        waiting.sort(key=itemgetter(0))
        chosen = waiting[: max(len(among) // ENDED_AT_ONCE, 1)]
        for _, connection in chosen:
            self.leave(connection)
            connection.cut()
        if chosen:
            limited(limit, times=len(chosen))
        return bool(chosen)

    def _counted(self) -> None:
        count = len(self._addresses)
        metrics.CONNECTIONS.set(count)
        if count >= self._most * NEAR:
            log.warning("the number of open connections is near its limit", about={}, open=count, bound=self._most)

    def _poll(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        # After an error of the loop, the next connection begins a timer.
        self._timer = None
        if self._addresses:
            # Before the work: without its timer, no connection would ever be ended again.
            self._timer = loop.call_later(self._pause, self._poll, loop)
        for connection in list(self._addresses):
            guarded(connection.check_limits, now)


def network_of(host: str) -> str:
    """The unit that counts as one address: for IPv6 a network, because one machine may own all addresses of it."""
    if ":" not in host:
        return host
    try:
        address = ipaddress.IPv6Address(host.partition("%")[0])
    except ValueError:
        return host
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((address, IPV6_PREFIX), strict=False))


def allow_open_files(connections: int) -> None:
    """Raise this process's limit on open files for this many connections, as far as the system permits."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + RESERVED_FILES
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def room_for_connections() -> int:
    """The number of connections that this process may hold open without running out of files."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return 1_000_000
    return max(soft - RESERVED_FILES, soft // 2)
