"""Admission: from the bytes of a request to an arrival, verified and read as far as deciding needs.

Requests that came in during one turn of the event loop are admitted together at its end: the same work, done many times
in a row, takes half as long as in between everything else that a request needs (docs/decisions/0011).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import NamedTuple

import structlog

from receiver.codec import storable
from receiver.errors import Unreadable
from receiver.filing import Accepted
from receiver.intake import Arrival
from receiver.signatures import RawHeaders
from receiver.sources import Source

log = structlog.get_logger(__name__)

#: Request headers that are kept with a delivery: what says how it was sent. No secret travels in any of them.
KEPT_HEADERS = frozenset(
    {
        b"content-type",
        b"content-encoding",
        b"user-agent",
        b"x-request-id",
        b"x-sigma-event",
        b"x-sigma-delivery",
        b"x-sigma-signature",
        b"x-webhook-signature",
    }
)

#: Characters of a kept header's value.
LONGEST_HEADER = 512

Answer = asyncio.Future[Accepted]


class _Request(NamedTuple):
    source: Source
    headers: RawHeaders
    body: bytes
    answer: Answer


class Admission:
    """Admits the requests of one event loop, turn by turn, and hands the arrivals on."""

    def __init__(self, accept: Callable[[Arrival, Answer], None]) -> None:
        """`accept` sees to it that the answer is given, once the arrival is safe."""
        self._accept = accept
        self._requests: list[_Request] = []
        #: Kept, because asking for the running loop costs a system call each time.
        self._loop: asyncio.AbstractEventLoop | None = None

    def admit(self, source: Source, headers: RawHeaders, body: bytes) -> Answer:
        """The answer to this request: `Refused` is raised by it if the body is not authentic, or cannot be kept now."""
        loop = self._loop
        if loop is None:
            loop = self._loop = asyncio.get_running_loop()
        answer: Answer = loop.create_future()
        if not self._requests:
            loop.call_soon(self._admit_all)
        self._requests.append(_Request(source, headers, body, answer))
        return answer

    def _admit_all(self) -> None:
        requests, self._requests = self._requests, []
        now = datetime.now(UTC)
        for source, headers, body, answer in requests:
            if answer.done():
                continue
            try:
                arrival = admitted(source, headers, body, now=now)
            except Exception as error:
                answer.set_exception(error)
            else:
                self._accept(arrival, answer)


def admitted(source: Source, headers: RawHeaders, body: bytes, *, now: datetime) -> Arrival:
    """Verify, and read what decides. From here on the body is authentic, and whatever it says, it is kept.

    Raises `NotVerified`.
    """
    verifier = source.dialect.verifier
    verified = verifier.verify(body, headers, source.credentials)
    plain = verifier.conceal(verified.plain, source.credentials)
    encrypted = verified.plain is not body
    arrival = Arrival(
        source=source.name,
        body=body if encrypted else plain,
        plain=plain if encrypted else None,
        headers=_kept(headers),
        received_at=now,
        secret=verified.secret,
    )
    try:
        arrival.know(source.dialect.read(plain))
    except Unreadable as error:
        arrival.give_up(str(error))
        log.warning("kept a webhook that cannot be read", source=source.name, reason=arrival.reason)
    else:
        if source.dialect.handler_for(arrival.event_type) is None:
            arrival.ignore(f"No handler takes {arrival.event_type}.")
    return arrival


def _kept(headers: RawHeaders) -> dict[str, str]:
    return {
        name.decode("latin-1"): storable(value[:LONGEST_HEADER].decode("latin-1"))
        for name, value in headers
        if name in KEPT_HEADERS
    }
