"""A tail shows each delivery once when it arrives and once when it ends, even if it is late or the tail is cut."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.commands.tail import _Lines, _tell_gaps
from receiver.commands.tailing import LIST, OVERLAP, Tail, TailPlace
from receiver.errors import ConfigurationError
from receiver.inbox.ids import MOST_PROCESSES, arrived
from receiver.moments import EPOCH, time_text

SECOND = 1_000_000 * MOST_PROCESSES
BEGIN = 1_000_000 * SECOND


class Receiver:
    """Answers as the API does, from memory. Its pages are short, so that ranges must be divided."""

    PAGE = 3

    def __init__(self):
        self.deliveries = {}

    def accept(self, number):
        moment = at(number).isoformat()
        shown = {"id": str(number), "received_at": moment, "source": "shop", "event_type": "x", "entity": "product:1"}
        self.deliveries[number] = {**shown, "state": "pending", "outcome": None, "reason": None, "ended_at": None}

    def end(self, number, state="processed"):
        self.deliveries[number] |= {"state": state, "ended_at": self.deliveries[number]["received_at"]}

    def ask(self, path, parts, query):
        if path != LIST:
            return dict(self.deliveries[int(parts["id"])], body="…")
        begin, end = (datetime.fromisoformat(query[name]) if name in query else None for name in ("from", "to"))
        found = [
            delivery
            for _, delivery in sorted(self.deliveries.items(), reverse=True)
            if (begin is None or datetime.fromisoformat(delivery["received_at"]) >= begin)
            and (end is None or datetime.fromisoformat(delivery["received_at"]) < end)
        ]
        skip = int(query.get("cursor", 0))
        more = len(found) > skip + self.PAGE
        return {
            "items": [dict(each) for each in found[skip : skip + self.PAGE]],
            "next": str(skip + self.PAGE) if more else None,
        }


def at(number):
    return EPOCH + timedelta(microseconds=arrived(number))


def new_tail(receiver, place=None, **filters):
    return Tail(receiver, {}, filters.get("state"), place or TailPlace(BEGIN))


def shown(tail):
    return [(event.event, event.delivery["id"]) for event in tail.poll()]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("accept"), st.integers(0, 9 * 1_000_000)),
        st.tuples(st.just("end"), st.integers(0, 50)),
        st.tuples(st.just("poll"), st.integers(0, 8)),
        st.tuples(st.just("time"), st.integers(0, 30)),
    ),
    max_size=60,
)


@given(STEPS)
def test_each_delivery_is_shown_once_at_arrival_and_end_wherever_the_tail_is_cut(steps):
    receiver, seen, now = Receiver(), Counter(), BEGIN + 20 * SECOND
    tail = new_tail(receiver)
    for step, number in steps:
        if step == "accept":
            # Deliveries are as late as the overlap allows: they arrived up to nine seconds before the newest.
            now += MOST_PROCESSES
            receiver.accept(now - number * MOST_PROCESSES)
        elif step == "end" and receiver.deliveries:
            receiver.end(list(receiver.deliveries)[number % len(receiver.deliveries)])
        elif step == "time":
            now += number * SECOND
        elif step == "poll":
            # Cut the tail after this many events, and continue from its cursor.
            seen.update((event.event, event.delivery["id"]) for event in islice(tail.poll(), number))
            tail = new_tail(receiver, TailPlace.read(tail.place.text()))
    for number in receiver.deliveries:
        receiver.end(number)
    for _ in range(5):
        seen.update(shown(tail))
    expected = {(event, str(number)) for event in ("arrived", "ended") for number in receiver.deliveries}
    assert seen == dict.fromkeys(expected, 1)


def test_deliveries_are_shown_in_order_of_arrival_each_followed_by_its_end():
    receiver = Receiver()
    for number in range(20):
        receiver.accept(BEGIN + 1 + number * SECOND)
        receiver.end(BEGIN + 1 + number * SECOND)
    ids = [str(BEGIN + 1 + number * SECOND) for number in range(20)]
    assert shown(new_tail(receiver)) == [(event, each) for each in ids for event in ("arrived", "ended")]


def test_a_tail_of_one_state_shows_each_delivery_in_that_state_only():
    receiver = Receiver()
    receiver.accept(BEGIN + 1)
    receiver.accept(BEGIN + 2)
    receiver.end(BEGIN + 1, "dead")
    receiver.end(BEGIN + 2)
    assert shown(new_tail(receiver, state="dead")) == [("ended", str(BEGIN + 1))]


def test_shown_deliveries_are_forgotten_once_no_older_one_can_come():
    receiver = Receiver()
    receiver.accept(BEGIN + 1)
    receiver.end(BEGIN + 1)
    receiver.accept(BEGIN + 2 * OVERLAP)
    tail = new_tail(receiver)
    shown(tail)
    assert tail.place.shown == {BEGIN + 2 * OVERLAP}
    assert len(tail.place.text()) < 100


def test_a_newest_delivery_from_the_future_is_reported_once_until_the_clock_has_passed_it(capfd):
    receiver, now = Receiver(), [at(BEGIN)]
    receiver.accept(BEGIN + 3_600 * SECOND)
    tail, lines = Tail(receiver, {}, None, TailPlace(BEGIN), clock=lambda: now[0]), _Lines(as_json=False)
    for seconds in (0, 1, 3_591, 3_592):
        now[0] = at(BEGIN + seconds * SECOND)
        list(tail.poll())
        _tell_gaps(tail, lines)
    told = capfd.readouterr().err.splitlines()
    assert len(told) == 1
    assert f"The newest delivery is dated {time_text(at(BEGIN + 3_600 * SECOND))}, which is in the future" in told[0]
    assert "`hookmirror deliveries --since 10m` lists them" in told[0]
    assert tail.future is None


@pytest.mark.parametrize("text", ["", "x", "eJyLBgABFgEH", "é", "A" * 200_000, "eJyrVjJUslIyUqoFAA4BAoQ"])
def test_a_text_that_is_not_a_cursor_of_a_tail_is_refused(text):
    with pytest.raises(ConfigurationError, match="copy all of it"):
        TailPlace.read(text)
