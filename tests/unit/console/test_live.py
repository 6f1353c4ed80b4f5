"""The live stream: hints of changes without content, bounded in number and time."""

from __future__ import annotations

import re
import socket
import time
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import followed
import pytest
from live_events import hint, listening
from serving import Served, serving, wait_until
from sqlalchemy import event, update
from visiting import Visitor, visiting
from waiting import TIMEOUT

from receiver.console import live as live_module
from receiver.console.live import LOOK_INTERVAL, MOST_OF_ONE, Live, Marks, marks_of
from receiver.following.followers import FOLLOWERS
from receiver.inbox.tables import DELIVERIES

NOW = datetime.now(UTC)


def marks_on(page: str) -> str:
    """The marks that a page gives back with its request for a stream."""
    return re.search(r'data-marks="([^"]+)"', page)[1]  # type: ignore[index]


def test_a_new_delivery_causes_a_hint_with_its_name_only(shown: Served, operator: Visitor) -> None:
    # With the marks of its page, so that a delivery before the first look causes a hint, too.
    with listening(operator, seen=marks_on(operator.page("/"))) as (answer, lines):
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert next(lines) == "retry: 5000"
        shown.send("sigma", key="live")
        found = set(hint(lines))
        while "deliveries" not in found:
            shown.send("sigma", key="more", data={"lifecycleState": str(len(found))})
            found |= set(hint(lines))


def test_a_change_between_the_reading_of_a_page_and_the_opening_of_its_stream_is_told_first(
    shown: Served, operator: Visitor
) -> None:
    page = marks_on(operator.page("/"))
    shown.ended(shown.send("sigma", key="before the stream"))
    with listening(operator, seen=page) as (_, lines):
        assert "deliveries" in hint(lines)


@pytest.mark.parametrize(
    "end",
    [
        {"state": "dead", "ended_at": NOW, "reason": "not readable"},
        {"state": "processed", "ended_at": NOW, "outcome": "stale"},
        {"state": "processing", "claimed_by": "w"},
        {"due_at": NOW, "attempts": 1, "reason": "the handler failed"},
    ],
    ids=["dead", "stale", "claimed", "waits for another attempt"],
)
def test_a_delivery_that_gets_another_state_without_a_change_of_a_row_causes_a_hint(tmp_path: Path, end: dict) -> None:
    with visiting(f"sqlite:///{tmp_path}/c.db") as (served, visitor):
        delivery = served.send("sigma")
        # Another one is tried after it.
        other = int(served.send("sigma", key="later"))
        with served.beside.write() as connection:
            later = update(DELIVERIES).where(DELIVERIES.c.id == other).values(due_at=NOW + timedelta(hours=5))
            connection.execute(later)
        page = marks_on(visitor.page(f"/deliveries/{delivery}"))
        assert marks_of(served.beside).told() == page
        with served.beside.write() as connection:
            connection.execute(update(DELIVERIES).where(DELIVERIES.c.id == int(delivery)).values(**end))
        assert Marks.differing(marks_of(served.beside).told(), page) == ["deliveries"]


@pytest.mark.parametrize(
    "news",
    [
        {"trouble": "the target answers 503", "trouble_since": NOW},
        {"seq": 3},
        {"holder": "host 1 2"},
        {"accepted_at": NOW},
    ],
    ids=["trouble", "a dead change", "another process", "an accepted change"],
)
def test_a_follower_in_trouble_causes_a_hint_for_the_page_of_followers(tmp_path: Path, news: dict[str, Any]) -> None:
    with visiting(f"sqlite:///{tmp_path}/c.db") as (served, visitor):
        followed.add(served.beside)
        shown = visitor.page("/followers")
        with served.beside.write() as connection:
            connection.execute(update(FOLLOWERS).values(**news))
        assert Marks.differing(marks_of(served.beside).told(), marks_on(shown)) == ["followers"]
        assert 'data-live="changes followers runs"' in shown


def test_a_look_for_changes_reads_no_history(shown: Served) -> None:
    statements: list[tuple[str, Any]] = []
    engine = shown.beside.engine
    event.listen(
        engine, "before_cursor_execute", note := lambda _c, _d, said, given, *_: statements.append((said, given))
    )
    marks_of(shown.beside)
    event.remove(engine, "before_cursor_execute", note)
    with shown.beside.read() as connection:
        plans = [connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {said}", given).all() for said, given in statements]
    steps = [step.detail for plan in plans for step in plan if "deliveries" in step.detail]
    assert steps
    assert not [step for step in steps if "USING" not in step and not step.startswith("SEARCH")]


@pytest.mark.parametrize("seen", ["", "a", ",,,", "a,b,c,d,e", "<>", "é,\x00,%,'" * 300])
def test_marks_that_no_page_had_cause_a_hint_of_everything(operator: Visitor, seen: str) -> None:
    with listening(operator, seen=seen) as (_, lines):
        assert hint(lines) == list(Marks._fields)


def test_a_page_that_is_up_to_date_gets_no_hint_until_something_changes(tmp_path: Path) -> None:
    with visiting(f"sqlite:///{tmp_path}/c.db") as (served, visitor):
        page = marks_on(visitor.page("/"))
        live = served.app._rest.console.live  # type: ignore[union-attr]
        with listening(visitor, seen=page) as (_, lines):
            opened = time.monotonic()
            wait_until(lambda: live._answered_at > opened, "a look that finds nothing new")
            served.send("sigma", key="the first change")
            assert hint(lines) == ["deliveries"]


def test_the_stream_is_refused_without_a_session(stranger: Visitor) -> None:
    assert stranger.get("/live").status_code == 401


def test_one_person_has_a_bounded_number_of_streams(shown: Served, leaving: Visitor) -> None:
    # Lines without a reference end their stream.
    held = []
    with ExitStack() as open_streams:
        for _ in range(MOST_OF_ONE):
            answer, lines = open_streams.enter_context(listening(leaving))
            assert (answer.status_code, next(lines)) == (200, "retry: 5000")
            held.append(lines)
        assert leaving.get("/live").status_code == 204


def test_a_stream_ends_when_its_page_is_left(shown: Served, leaving: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    """And not with the next sign of life: the pages that follow would have no stream until then."""
    monkeypatch.setattr(live_module, "SIGN_OF_LIFE", 10 * TIMEOUT)
    live = shown.app._rest.console.live  # type: ignore[union-attr]
    wait_until(lambda: not live._streams, "the streams of other tests to end")
    for _ in range(MOST_OF_ONE + 1):
        with closing(shown.connect()) as connection:
            cookies = "; ".join(f"{name}={value}" for name, value in leaving.client.cookies.items())
            host = leaving.client.base_url.netloc.decode()
            connection.sendall(f"GET /console/live HTTP/1.1\r\nHost: {host}\r\nCookie: {cookies}\r\n\r\n".encode())
            assert status_of(connection) == b"200"
        wait_until(lambda: not live._streams, "the stream to end with its connection")


def test_all_streams_end_when_the_process_stops(tmp_path: Path) -> None:
    with (
        visiting(f"sqlite:///{tmp_path}/c.db") as (served, visitor),
        listening(visitor) as (_, lines),
    ):
        assert next(lines) == "retry: 5000"
        served.app.end_streams()
        assert [line for line in lines if line] == []
        assert visitor.get("/live").status_code == 204


def test_a_page_names_the_hints_at_which_it_is_fetched_again(operator: Visitor) -> None:
    assert 'data-live="deliveries runs findings" data-address="/console/live"' in operator.page("/")
    assert "data-live" not in operator.page("/deliveries/1/replay")


# ── many streams ──────────────────────────────────────────────────────────────────────────────────────────────────

#: Streams of the test, and looks for changes during which they are open.
MANY, LOOKS = 40, 3

PROXY_SECRET = "the secret of a trusted proxy"


def open_stream(served: Served, person: int) -> socket.socket:
    """Open a stream for a person named by a trusted proxy, and leave its answer unread."""
    connection = served.connect()
    lines = ["GET /console/live HTTP/1.1", "Host: localhost", f"X-Forwarded-User: person-{person}"]
    lines += [f"X-Hookmirror-Proxy-Secret: {PROXY_SECRET}", "", ""]
    connection.sendall("\r\n".join(lines).encode())
    return connection


def status_of(connection: socket.socket) -> bytes:
    return connection.recv(12)[9:12]


def test_all_permitted_streams_share_one_look_for_changes_and_one_more_is_refused(tmp_path: Path, monkeypatch) -> None:
    """Count the cost that the acks beside them pay: a look each second, whatever the number of streams."""
    looks: list[float] = []
    look = Live._read

    def counted(live: Live) -> Marks:
        looks.append(time.monotonic())
        return look(live)

    monkeypatch.setattr(Live, "_read", counted)
    settings = {
        "console": True,
        "console_streams": MANY,
        "console_trusted_proxies": ["127.0.0.1"],
        "console_proxy_secret": PROXY_SECRET,
    }
    with serving(f"sqlite:///{tmp_path}/c.db", **settings) as served:
        live = served.app._rest.console.live  # type: ignore[union-attr]
        with ExitStack() as streams:
            for person in range(MANY):
                # Open them one after the other, because too many reads at once would be refused.
                assert status_of(streams.enter_context(closing(open_stream(served, person)))) == b"200"
            with closing(open_stream(served, MANY)) as one_more:
                assert status_of(one_more) == b"204"
            looks.clear()
            wait_until(lambda: served.send("sigma", key=f"beside-{len(looks)}") and len(looks) > LOOKS, "further looks")
            pauses = [after - before for before, after in pairwise(looks)]
            assert min(pauses) >= LOOK_INTERVAL * 0.9
        wait_until(lambda: not live._streams, "the streams to end with their connections")
        with closing(open_stream(served, 0)) as again:
            assert status_of(again) == b"200"


def test_without_streams_every_page_polls(tmp_path: Path) -> None:
    with visiting(f"sqlite:///{tmp_path}/c.db", console_streams=0) as (_, visitor):
        assert visitor.get("/live").status_code == 204
        assert "data-live" in visitor.page("/")
