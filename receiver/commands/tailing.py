"""Finds the events that `tail` prints, by polling lists of deliveries.

Ids grow with arrival, but a delivery may be committed slightly after one with a larger id. So each poll goes back a few
seconds before the newest delivery, and skips deliveries printed already. The place records this: all deliveries up to
`floor` have been printed, except the ends of those that are still open.
"""

from __future__ import annotations

import zlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, NamedTuple

from receiver.api.delivery_shapes import Delivery
from receiver.codec import decode, encode
from receiver.commands.client_protocol import Client
from receiver.commands.pagination import all_pages
from receiver.database.page_sizes import LARGEST_PAGE
from receiver.errors import ConfigurationError, HookmirrorError, NotFound
from receiver.inbox.ids import MOST_PROCESSES, arrived, first_id_at
from receiver.moments import EPOCH

LIST, ONE = "/api/v1/deliveries", "/api/v1/deliveries/{id}"

#: The longest delay of a commit behind that of a larger id, as a difference of ids: ten seconds.
OVERLAP = 10_000_000 * MOST_PROCESSES

#: The most open deliveries that are watched; beyond, the oldest are dropped.
MOST_WATCHED = 2_000

#: The most open deliveries in one poll.
MOST_ASKED = 50

#: The longest cursor in characters, and in bytes when decompressed.
LONGEST_PLACE, MOST_PLACE = 100_000, 2_000_000

#: The smallest range that is not divided further, as a difference of ids: a millisecond.
SHORTEST_SLICE = 1_000 * MOST_PROCESSES


class TailEvent(NamedTuple):
    """The arrival or the end of a delivery, printed as one line."""

    #: `arrived` or `ended`.
    event: str
    #: The delivery as the API shows it.
    delivery: dict[str, Any]


@dataclass(slots=True)
class TailPlace:
    """The deliveries printed so far."""

    #: All arrivals up to this id have been printed.
    floor: int
    #: Printed arrivals above it.
    shown: set[int] = field(default_factory=set)
    #: Printed arrivals whose end was not printed yet.
    open: set[int] = field(default_factory=set)

    def text(self) -> str:
        """Encode the place as a cursor."""
        numbers = [self.floor, _differences(self.shown), _differences(self.open)]
        return urlsafe_b64encode(zlib.compress(encode(numbers), 9)).decode().rstrip("=")

    @classmethod
    def read(cls, text: str) -> TailPlace:
        """Decode a cursor. Raises `ConfigurationError` for any other text."""
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
        raise ConfigurationError("--after takes the cursor that a tail printed at its end: copy all of it.")


class Tail:
    """Polls for deliveries that have arrived or ended."""

    def __init__(
        self,
        asked: Client,
        filters: Mapping[str, Any],
        state: str | None,
        place: TailPlace,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`filters` are those of the list; with `state`, only events of deliveries in this state are returned."""
        self._asked, self._filters, self._state, self._clock = asked, filters, state, clock
        self.place = place
        #: Whether more deliveries are open than one poll asks about.
        self.is_behind = False
        #: The number of open deliveries that were dropped as too many.
        self.left = 0
        #: The time of the newest delivery, if it lies so far in the future that arrivals before it would be missed.
        self.future: datetime | None = None
        self._asked_last = 0
        self._is_checked = False

    @staticmethod
    def newest(asked: Client) -> int:
        """The id of the newest delivery; 0 in an empty inbox."""
        items = asked.ask(LIST, {}, {"limit": 1})["items"]
        return int(items[0]["id"]) if items else 0

    def poll(self) -> Iterator[TailEvent]:
        """Yield new events; the place moves past each event as it is yielded. Raises `HookmirrorError` for a filter."""
        self._check()
        still_open = sorted(self.place.open)
        newest = self.newest(self._asked)
        is_ahead = newest - OVERLAP > first_id_at(self._clock())
        self.future = EPOCH + timedelta(microseconds=arrived(newest)) if is_ahead else None
        if newest > self.place.floor:
            for until, page in self._slices(self.place.floor, newest):
                for delivery in page:
                    yield from self._told(delivery)
                self._settle(min(until, newest - OVERLAP))
        yield from self._ends([each for each in still_open if each in self.place.open])

    def _check(self) -> None:
        """Ask for the filtered list once, because polls do not ask for it until something arrives."""
        if not self._is_checked:
            self._asked.ask(LIST, {}, {**self._filters, "limit": 1})
            self._is_checked = True

    def take_back(self, event: TailEvent) -> None:
        """Count the last event as not printed, because writing it failed."""
        number = int(event.delivery["id"])
        if event.event == "ended":
            self.place.open.add(number)
        else:
            self.place.shown.discard(number)
            self.place.open.discard(number)

    def _slices(self, after: int, until: int) -> Iterator[tuple[int, list[dict[str, Any]]]]:
        """Read all deliveries after one id and up to another, oldest first, in portions."""
        span = {"from": _moment(after), "to": _moment(until + MOST_PROCESSES)}
        pages = all_pages(self._asked, LIST, {**self._filters, **span, "limit": LARGEST_PAGE}, place="cursor")
        page = next(pages)
        if page["next"] is not None and until - after > SHORTEST_SLICE:
            middle = (after + until) // 2
            yield from self._slices(after, middle)
            yield from self._slices(middle, until)
            return
        items = [*page["items"], *(item for each in pages for item in each["items"])]
        yield until, items[::-1]

    def _told(self, delivery: dict[str, Any]) -> Iterator[TailEvent]:
        """Yield the events of one delivery that were not printed yet."""
        number = int(delivery["id"])
        has_ended = delivery["ended_at"] is not None
        if number > self.place.floor and number not in self.place.shown:
            # With a state filter, a delivery that has ended already is shown once, as ended.
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
        """Raise the floor to this id: all deliveries below it are printed, and no further one can appear there."""
        place = self.place
        place.floor = max(place.floor, floor)
        place.shown = {number for number in place.shown if number > place.floor}
        if len(place.open) > MOST_WATCHED:
            self.left += len(place.open) - MOST_WATCHED
            place.open = set(sorted(place.open)[-MOST_WATCHED:])

    def _ends(self, still_open: list[int]) -> Iterator[TailEvent]:
        """Yield the ends of deliveries from earlier polls, asking about a limited number of them in turn."""
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


#: The members of a delivery in a list.
LISTED = frozenset(Delivery.__struct_fields__)


def _moment(number: int) -> str:
    moment: datetime = EPOCH + timedelta(microseconds=arrived(number))
    return moment.isoformat()


def _differences(numbers: set[int]) -> list[int]:
    """Encode sorted numbers as the first one and the differences between neighbours."""
    ordered = sorted(numbers)
    return ordered[:1] + [later - earlier for earlier, later in pairwise(ordered)]


def _sums(differences: list[int]) -> set[int]:
    numbers: set[int] = set()
    last = 0
    for each in differences:
        last += each
        numbers.add(last)
    return numbers
