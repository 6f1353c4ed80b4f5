"""The work of the acceptor process: an answer that cannot be sent harms no other one."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from receiver.dialects.replies import SenderReply
from receiver.inbox.arrival import Accepted, Arrival
from receiver.ingest import acceptor
from receiver.ingest.acceptor import Acceptor
from receiver.ingest.frames import SentAnswer, SentRequest, SentRequests, Stored, Unframing, answers_of, framed

#: Seconds that nothing takes unless it is broken.
BOUND = 20.0


def unsayable() -> SenderReply:
    reply = SenderReply(200)
    object.__setattr__(reply, "body", "\ud800")
    return reply


def arrival() -> Arrival:
    moment = datetime(2026, 6, 1, tzinfo=UTC)
    return Arrival(source="shop", body=b"{}", plain=None, headers={}, received_at=moment, secret=0)


class Store:
    def accept(self, batch: Any) -> list[Accepted]:
        return [Accepted("accepted", 7) for _ in batch]


@pytest.fixture
def channel() -> Iterator[socket.socket]:
    """The end of a serving process."""
    ours, theirs = socket.socketpair()
    shop: Any = SimpleNamespace(name="shop")
    serving = Acceptor(theirs, {"shop": shop}, acceptor.Storing(Store()))
    thread = threading.Thread(target=serving.serve)
    with ours, theirs:
        ours.settimeout(BOUND)
        thread.start()
        yield ours
        ours.shutdown(socket.SHUT_WR)
        thread.join(BOUND)
        assert not thread.is_alive()


def answers(channel: socket.socket, frames: int) -> list[list[SentAnswer]]:
    unframing, found = Unframing(), []
    while len(found) < frames:
        found += [answers_of(content).answers for content in unframing.feed(channel.recv(1 << 16))]
    return found


def test_an_answer_that_cannot_be_encoded_becomes_a_503_and_the_others_arrive(channel, monkeypatch):
    monkeypatch.setattr(acceptor, "admit", lambda requests, **_: [arrival(), unsayable(), arrival()][: len(requests)])
    request = SentRequest("shop", [], b"{}", b"")
    channel.sendall(framed(SentRequests(0.0, [request] * 3)) + framed(SentRequests(0.0, [request])))
    _ready, first, second = answers(channel, 3)
    stored = Stored(True, 7, 0)
    assert [first[0], first[2], *second] == [stored] * 3
    assert (first[1].refusal.status, first[1].refusal.code) == (503, "unavailable")
