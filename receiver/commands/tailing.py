"""What `tail` has shown and what it shows next, over lists of deliveries alone.

Ids grow with arrival, and a delivery may be committed a little after one that arrived later. So each look goes back a
few seconds behind the newest delivery that was seen, and what was shown there is remembered. The place is that memory:
all up to `floor` has been shown, except the ends of those that are open still.
"""

from __future__ import annotations

import zlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any, NamedTuple

from receiver.api.delivery_shapes import Delivery
from receiver.codec import decode, encode
from receiver.commands.client import Client
from receiver.database.pages import LARGEST_PAGE
from receiver.errors import ConfigurationError, HookmirrorError, NotFound
from receiver.inbox.ids import MOST_PROCESSES, arrived
from receiver.moments import EPOCH

LIST, ONE = "/api/v1/deliveries", "/api/v1/deliveries/{id}"

#: How much later than a delivery that arrived after it one may be committed, in ids: ten seconds.
OVERLAP = 10_000_000 * MOST_PROCESSES

#: Deliveries whose end is waited for. Of more, the oldest are left.
MOST_WATCHED = 2_000

#: Open ones that are looked at one by one in one look.
MOST_ASKED = 50

#: Characters of a cursor, and bytes of what it holds.
LONGEST_PLACE, MOST_PLACE = 100_000, 2_000_000

#: A range of time that is not divided any more, in ids: a millisecond.
SHORTEST_SLICE = 1_000 * MOST_PROCESSES


class TailEvent(NamedTuple):
    """One line."""

    #: `arrived` or `ended`.
    event: str
    #: As the API shows it.
    delivery: dict[str, Any]


@dataclass(slots=True)
class TailPlace:
    """What has been shown."""

    #: Up to this id, all have been shown as arrived.
    floor: int
    #: Those behind it that were shown as arrived.
    shown: set[int] = field(default_factory=set)
    #: Those that were shown as arrived, and whose end was not.
    open: set[int] = field(default_factory=set)

    def text(self) -> str:
        """The place as one word."""
        numbers = [self.floor, _differences(self.shown), _differences(self.open)]
        return urlsafe_b64encode(zlib.compress(encode(numbers), 9)).decode().rstrip("=")

    @classmethod
    def read(cls, text: str) -> TailPlace:
        """The place that a word stands for. Raises `ConfigurationError` for any other word."""
        try:
            unpacking = zlib.decompressobj()
            packed = urlsafe_b64decode(text + "=" * (-len(text) % 4)) if len(text) <= LONGEST_PLACE else b""
            content = decode(unpacking.decompress(packed, MOST_PLACE))
            match content:
                case [int(floor), list(shown), list(still_open)] if all(
                    type(number) is int for number in (floor, *shown, *still_open)
                ):
                    return cls(floor, _sums(shown), _sums(still_open))
        except (ValueError, zlib.error, HookmirrorError):
            pass
        raise ConfigurationError("--after takes the word that a tail said at its end, as it was: copy all of it.")


class Tail:
    """Looks again and again for what has come and what has ended."""

    def __init__(self, asked: Client, filters: Mapping[str, Any], state: str | None, place: TailPlace) -> None:
        """`filters` are those of the list; with a `state`, a delivery is shown only when it is in it."""
        self._asked, self._filters, self._state = asked, filters, state
        self.place = place
        #: Whether more are open than one look asks about.
        self.is_behind = False
        #: Open ones that were left because there are too many.
        self.left = 0
        self._asked_last = 0

    @staticmethod
    def newest(asked: Client) -> int:
        """The id of the newest delivery; 0 if there is none."""
        items = asked.ask(LIST, {}, {"limit": 1})["items"]
        return int(items[0]["id"]) if items else 0

    def poll(self) -> Iterator[TailEvent]:
        """What is new. The place is behind each event as soon as it is taken."""
        still_open = sorted(self.place.open)
        newest = self.newest(self._asked)
        if newest > self.place.floor:
            for until, page in self._slices(self.place.floor, newest):
                for delivery in page:
                    yield from self._told(delivery)
                self._settle(min(until, newest - OVERLAP))
        yield from self._ends([each for each in still_open if each in self.place.open])

    def take_back(self, event: TailEvent) -> None:
        """Count the last event as not shown: it could not be written."""
        number = int(event.delivery["id"])
        if event.event == "ended":
            self.place.open.add(number)
        else:
            self.place.shown.discard(number)
            self.place.open.discard(number)

    def _slices(self, after: int, until: int) -> Iterator[tuple[int, list[dict[str, Any]]]]:
        """All deliveries behind one id and up to another, the oldest first, in portions."""
        span = {"from": _moment(after), "to": _moment(until + MOST_PROCESSES)}
        page = self._asked.ask(LIST, {}, {**self._filters, **span, "limit": LARGEST_PAGE})
        following = page["next"]
        if following is not None and until - after > SHORTEST_SLICE:
            middle = (after + until) // 2
            yield from self._slices(after, middle)
            yield from self._slices(middle, until)
            return
        items = page["items"]
        while following is not None:
            page = self._asked.ask(LIST, {}, {**self._filters, **span, "limit": LARGEST_PAGE, "cursor": following})
            items, following = items + page["items"], page["next"]
        yield until, items[::-1]

    def _told(self, delivery: dict[str, Any]) -> Iterator[TailEvent]:
        """The events of one delivery that were not shown yet."""
        number = int(delivery["id"])
        has_ended = delivery["ended_at"] is not None
        if number > self.place.floor and number not in self.place.shown:
            # With a state, one that has ended already is shown once, as that.
            self.place.shown.add(number)
            self.place.open.add(number)
            if self._matches(delivery) and not (self._state and has_ended):
                yield TailEvent("arrived", delivery)
        if has_ended and number in self.place.open:
            self.place.open.discard(number)
            if self._matches(delivery):
                yield TailEvent("ended", delivery)

    def _matches(self, delivery: Mapping[str, Any]) -> bool:
        return self._state is None or delivery["state"] == self._state

    def _settle(self, floor: int) -> None:
        """All up to this id has been shown, and nothing older is committed any more."""
        place = self.place
        place.floor = max(place.floor, floor)
        place.shown = {number for number in place.shown if number > place.floor}
        if len(place.open) > MOST_WATCHED:
            self.left += len(place.open) - MOST_WATCHED
            place.open = set(sorted(place.open)[-MOST_WATCHED:])

    def _ends(self, still_open: list[int]) -> Iterator[TailEvent]:
        """Of deliveries from earlier looks, those that have ended; so many are asked about, in turn."""
        later = [number for number in still_open if number > self._asked_last]
        asked = [*later, *(number for number in still_open if number <= self._asked_last)][:MOST_ASKED]
        self.is_behind = len(still_open) > len(asked)
        for number in asked:
            self._asked_last = number
            try:
                delivery = self._asked.ask(ONE, {"id": str(number)}, {})
            except NotFound:
                delivery = None
            if delivery is None:
                self.place.open.discard(number)
            elif delivery["ended_at"] is not None:
                yield from self._told({name: delivery[name] for name in delivery if name in LISTED})


#: What a list shows of a delivery.
LISTED = frozenset(Delivery.__struct_fields__)


def _moment(number: int) -> str:
    moment: datetime = EPOCH + timedelta(microseconds=arrived(number))
    return moment.isoformat()


def _differences(numbers: set[int]) -> list[int]:
    """Sorted numbers as the first one and how far each is from the one before."""
    ordered = sorted(numbers)
    return ordered[:1] + [later - earlier for earlier, later in pairwise(ordered)]


def _sums(differences: list[int]) -> set[int]:
    numbers: set[int] = set()
    last = 0
    for each in differences:
        last += each
        numbers.add(last)
    return numbers
