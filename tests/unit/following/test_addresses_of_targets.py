"""A post reaches the healthy address of its target, and says what a timeout was about."""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import closing

import pytest
from dropping import dropping
from ports import free_port
from targets import Reply, receiving
from waiting import TIMEOUT, wait_until

from receiver.following.feed import FeedItem, MirrorKey
from receiver.following.target import PostVerdict, Target, TargetAnswer

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has 127.0.0.2 without any set-up")

ITEM = FeedItem(1, MirrorKey("products", "shop", "A1"), "mark", "key", b'{"external_id": "A1"}')


def post(target: Target) -> TargetAnswer:
    return target.post(ITEM, threading.Event())


def target_at(port: int, *addresses: str, timeout: float = TIMEOUT, ask: Callable[..., Sequence[str]] | None = None):
    url = f"http://erp.test:{port}/changes"
    return closing(Target(url, follower="erp", timeout=timeout, ask=ask or (lambda *_: addresses)))


def test_an_address_that_drops_packets_does_not_keep_a_post_from_the_next_address():
    # The first of two addresses gets a third of the time.
    with (
        receiving() as endpoint,
        dropping(endpoint.port) as first,
        target_at(endpoint.port, first, "127.0.0.1", timeout=3.0) as target,
    ):
        assert post(target).verdict is PostVerdict.ACCEPTED
    assert len(endpoint.posts) == 1


def test_the_address_that_answered_last_is_tried_first(monkeypatch):
    monkeypatch.setattr("receiver.following.target.ADDRESSES_KEPT", -1.0)
    monkeypatch.setattr("receiver.following.target.IDLE_CONNECTION", 0.0)
    with receiving() as endpoint, target_at(endpoint.port, "127.0.0.2", "127.0.0.1") as target:
        assert post(target).verdict is PostVerdict.ACCEPTED
        with socket.create_server(("127.0.0.2", endpoint.port)) as other:
            other.setblocking(False)
            assert post(target).verdict is PostVerdict.ACCEPTED
            with pytest.raises(BlockingIOError):
                other.accept()


def test_a_connection_that_is_not_made_in_time_is_not_blamed_on_the_answer():
    port = free_port()
    with dropping(port) as first, target_at(port, first, timeout=0.3) as target:
        answer = post(target)
    assert answer.verdict is PostVerdict.TROUBLE
    assert answer.says.startswith("No connection was made within 0.3 s to erp.test (127.0.0.2): start the target")


def test_a_name_that_is_not_resolved_in_time_is_not_blamed_on_the_answer():
    resolved = threading.Event()

    def ask(*_: object) -> Sequence[str]:
        resolved.wait(TIMEOUT)
        return ["127.0.0.1"]

    with target_at(free_port(), timeout=0.2, ask=ask) as target:
        answer = post(target)
        resolved.set()
    assert answer.verdict is PostVerdict.TROUBLE
    assert answer.says == "The host erp.test was not resolved within 0.2 s: correct --to, or mend its DNS."


def test_an_answer_that_does_not_come_in_time_over_an_idle_connection_is_told_as_such():
    with receiving() as endpoint, target_at(endpoint.port, "127.0.0.1", timeout=0.3) as target:
        wait_until(lambda: post(target).verdict is PostVerdict.ACCEPTED, "the connection")
        endpoint.reply = lambda *_: Reply(hangs=True)
        assert post(target).says.startswith("There was no answer within 0.3 s: let the target answer before")
