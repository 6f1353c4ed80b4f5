"""Open pages while their database is away: they are told so, and they are told when it is back."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from away import acked_again, away
from live_events import hint, listening, next_event
from visiting import visiting
from waiting import TIMEOUT, wait_until

from receiver.console import live
from receiver.console.live import NO_ANSWER, NO_TURN, Live
from receiver.errors import Unavailable

#: Seconds between two looks for changes, and of silence after which pages are told; shorter than in a release.
LOOK, SILENCE = 0.1, 0.6


@pytest.fixture(autouse=True)
def looking_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "LOOK_INTERVAL", LOOK)


@contextmanager
def impatience() -> Iterator[None]:
    """Tell pages soon that they are lost, only until the end of the block: a standstill makes them lost, too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(live, "LONGEST_SILENCE", SILENCE)
        yield


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[live.Marks | None]:
    """The results of the looks for changes; None for a look in vain. A change before the first one causes no hint."""
    found: list[live.Marks | None] = []
    look = Live._marks

    async def marks(this: Live) -> live.Marks | None:
        found.append(await look(this))
        return found[-1]

    monkeypatch.setattr(Live, "_marks", marks)
    return found


def test_a_page_is_told_that_the_database_is_away_and_that_it_is_back(mirror_url: str, looks) -> None:
    with visiting(mirror_url) as (served, visitor), listening(visitor) as (_, lines):
        assert next(lines) == "retry: 5000"
        wait_until(lambda: looks, "the first look")
        served.send("sigma", key="before")
        assert "deliveries" in hint(lines)
        with away(mirror_url), impatience():
            name, why = next_event(lines)
            assert (name, why["reason"]) == ("lost", NO_ANSWER)
            assert why["seconds"] >= SILENCE
            assert visitor.get("/live").status_code == 503
            # A page that fetches itself meanwhile is told the same.
            assert visitor.get("/").headers["X-Hookmirror-Reason"] == NO_ANSWER
        assert next_event(lines) == ("live", True)
        acked_again(served, key="after")
        assert "deliveries" in hint(lines)


def test_a_page_is_told_that_a_database_hangs_while_the_read_still_waits(tmp_path, monkeypatch) -> None:
    hanging, over, look = threading.Event(), threading.Event(), Live._read

    def read(this: Live) -> live.Marks:
        if hanging.is_set():
            over.wait(10 * TIMEOUT)
        return look(this)

    monkeypatch.setattr(Live, "_read", read)
    # The look that hangs keeps the limit with which it began.
    with impatience(), visiting(f"sqlite:///{tmp_path}/c.db") as (_, visitor), listening(visitor) as (_, lines):
        assert next(lines) == "retry: 5000"
        hanging.set()
        try:
            name, why = next_event(lines)
        finally:
            over.set()
        assert (name, why["reason"]) == ("lost", NO_ANSWER)
        assert next_event(lines) == ("live", True)


def test_a_stream_that_begins_while_pages_are_lost_begins_with_the_reason(tmp_path, monkeypatch, looks) -> None:
    busy, look = threading.Event(), Live._read

    def read(this: Live) -> live.Marks:
        if busy.is_set():
            raise Unavailable("Too many reads.")
        return look(this)

    monkeypatch.setattr(Live, "_read", read)
    with visiting(f"sqlite:///{tmp_path}/c.db") as (_, visitor), listening(visitor) as (_, lines):
        busy.set()
        wait_until(lambda: None in looks, "a look that is refused")
        with impatience():
            assert next_event(lines)[1]["reason"] == NO_TURN
        with listening(visitor) as (_, later):
            name, why = next_event(later)
            assert (name, why["reason"]) == ("lost", NO_TURN)


def test_pages_stay_live_after_a_standstill_of_the_whole_process(tmp_path, monkeypatch) -> None:
    look = Live._marks

    async def after_a_standstill(this: Live) -> live.Marks | None:
        this._answered_at -= 1_000 * TIMEOUT
        return await look(this)

    monkeypatch.setattr(Live, "_marks", after_a_standstill)
    # Marks that no page had cause a hint at the first look.
    with visiting(f"sqlite:///{tmp_path}/c.db") as (_, visitor), listening(visitor, seen="none") as (_, lines):
        assert hint(lines)


def test_pages_stay_live_while_the_database_is_away_for_a_moment(tmp_path, looks) -> None:
    url = f"sqlite:///{tmp_path}/c.db"
    with visiting(url) as (served, visitor), listening(visitor) as (_, lines):
        wait_until(lambda: looks, "the first look")
        with away(url):
            wait_until(lambda: None in looks, "a look in vain")
        acked_again(served, key="after")
        assert "deliveries" in hint(lines)
