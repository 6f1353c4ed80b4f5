"""Backpressure: the waiting bodies have a common bound in bytes."""

from __future__ import annotations

import pytest

from receiver.errors import Unavailable
from receiver.ingest.backpressure import Backpressure
from receiver.ingest.utilisation import Utilisation


def test_bodies_wait_up_to_the_bound() -> None:
    waiting = Backpressure(10)
    waiting.hold(10)
    with pytest.raises(Unavailable, match="Too much is waiting"):
        waiting.hold(1)
    assert waiting.bytes == 10


def test_a_body_that_exceeds_the_bound_with_its_head_is_accepted_when_no_other_waits() -> None:
    waiting = Backpressure(10)
    waiting.hold(12)
    with pytest.raises(Unavailable, match="Too much is waiting"):
        waiting.hold(1)
    waiting.release(12)
    assert waiting.bytes == 0


def test_an_empty_body_is_accepted_when_no_other_has_room() -> None:
    waiting = Backpressure(10)
    waiting.hold(10)
    waiting.hold(0)
    assert waiting.bytes == 10


def test_a_released_body_makes_room() -> None:
    waiting = Backpressure(10)
    waiting.hold(8)
    waiting.release(8)
    waiting.hold(10)
    assert waiting.bytes == 10


def test_the_utilisation_counts_from_the_first_waiting_body_to_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_000.0
    waiting = Backpressure(10)
    monkeypatch.setattr(waiting, "utilisation", Utilisation(clock=lambda: now))
    waiting.hold(1)
    now += 0.1
    waiting.hold(2)
    waiting.release(1)
    now += 0.2
    waiting.release(2)
    now += 0.3
    assert waiting.utilisation.share() == pytest.approx(0.5)


def test_a_smaller_bound_refuses_new_bodies_and_keeps_waiting_ones() -> None:
    waiting = Backpressure(10)
    waiting.hold(8)
    waiting.max_bytes = 4
    with pytest.raises(Unavailable):
        waiting.hold(1)
    assert waiting.bytes == 8
