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
from receiver.errors import NotVerified
from receiver.inbox.arrival import Accepted, Arrival
from receiver.ingest import acceptor
from receiver.ingest.acceptor import Acceptor
from receiver.ingest.frames import SentAnswers, SentRequest, SentRequests, Stored, Unframing, answers_of, framed
from receiver.metrics import metrics

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
    fails = False

    def accept(self, batch: Any) -> list[Accepted]:
        if self.fails:
            raise OSError("the disk is gone")
        return [Accepted("accepted", 7) for _ in batch]


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def channel(store: Store) -> Iterator[socket.socket]:
    """The end of a serving process."""
    ours, theirs = socket.socketpair()
    shop: Any = SimpleNamespace(name="shop")
    serving = Acceptor(theirs, {"shop": shop}, acceptor.Storing(store))
    thread = threading.Thread(target=serving.serve)
    with ours, theirs:
        ours.settimeout(BOUND)
        thread.start()
        yield ours
        ours.shutdown(socket.SHUT_WR)
        thread.join(BOUND)
        assert not thread.is_alive()


def request(body: bytes = b"{}") -> SentRequest:
    return SentRequest("shop", [], body, b"")


def answers(channel: socket.socket, frames: int) -> list[SentAnswers]:
    unframing, found = Unframing(), []
    while len(found) < frames:
        found += map(answers_of, unframing.feed(channel.recv(1 << 16)))
    return found


def test_an_answer_that_cannot_be_encoded_becomes_a_503_and_the_others_arrive(channel, monkeypatch):
    monkeypatch.setattr(acceptor, "admit", lambda requests, **_: [arrival(), unsayable(), arrival()][: len(requests)])
    channel.sendall(framed(SentRequests(0.0, [request()] * 3)) + framed(SentRequests(0.0, [request()])))
    _ready, first, second = (each.answers for each in answers(channel, 3))
    stored = Stored(True, 7, 0)
    assert [first[0], first[2], *second] == [stored] * 3
    assert (first[1].refusal.status, first[1].refusal.code) == (503, "unavailable")


@pytest.mark.parametrize("fails", [True, False])
def test_a_frame_in_which_every_request_is_refused_says_nothing_about_the_database(channel, store, monkeypatch, fails):
    def admitted(requests: Any, **_: object) -> list[Any]:
        return [arrival() if each.body else NotVerified("signature_wrong", "It is.") for each in requests]

    store.fails = fails
    monkeypatch.setattr(acceptor, "admit", admitted)
    frames = [framed(SentRequests(0.0, [request(each) for each in some])) for some in ([b"{}", b""], [b""], [b""])]
    channel.sendall(frames[0] + frames[1])
    channel.sendall(frames[2])
    _ready, *told = answers(channel, 4)
    assert [each.failed for each in told] == [fails, None, None]


def test_challenges_are_sent_once_to_the_process_that_shows_them(channel, monkeypatch):
    def admitted(requests: Any, **_: object) -> list[Any]:
        for each in requests:
            if each.body:
                metrics.count_challenge("shop", "answered")
        return [SenderReply(200) for _ in requests]

    metrics.take_challenges()
    monkeypatch.setattr(acceptor, "admit", admitted)
    told = []
    for bodies in ([b"a", b"b"], [b""]):
        channel.sendall(framed(SentRequests(0.0, [request(each) for each in bodies])))
        told += answers(channel, 1 if told else 2)
    assert [each.challenges for each in told] == [[], [("shop", "answered", 2)], []]
