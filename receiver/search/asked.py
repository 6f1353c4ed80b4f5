"""What is asked for, from the words of an address or a command to filters; what cannot be meant is refused."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TypeVar

from receiver.codec import storable
from receiver.database.pages import LARGEST_PAGE, USUAL_PAGE
from receiver.envelope import LONGEST_NAME
from receiver.errors import BadRequest
from receiver.inbox.tables import LONGEST_REASON, State
from receiver.mirror.versions import Outcome
from receiver.moments import in_utc
from receiver.search.filters import ChangeFilter, DeliveryFilter, RowFilter

Word = TypeVar("Word", bound=StrEnum)

#: The filters of each list, by the names that they are asked by.
OF_DELIVERIES = ("source", "state", "outcome", "event_type", "entity", "from", "to", "reason", "conflict")
OF_ROWS = ("source", "active", "tie", "sku")
OF_CHANGES = ("table", "source", "since", "delivery")

#: Characters of a kind, a colon and an id.
LONGEST_ENTITY = 2 * LONGEST_NAME + 1

#: How far back something is: `90m`, `2h`, `3d`.
_AGO = re.compile(r"([0-9]{1,6})([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def delivery_filter(asked: Mapping[str, str], *, now: datetime) -> DeliveryFilter:
    """Which deliveries are asked for. Raises `BadRequest`."""
    begin, end = moment("from", asked.get("from"), now=now), moment("to", asked.get("to"), now=now)
    if begin is not None and end is not None and begin > end:
        raise BadRequest("`from` is later than `to`, so nothing lies between them: swap them.")
    return DeliveryFilter(
        source=words("source", asked.get("source")),
        state=one_of(State, "state", asked.get("state")),
        outcome=one_of(Outcome, "outcome", asked.get("outcome")),
        event_type=words("event_type", asked.get("event_type")),
        entity=words("entity", asked.get("entity"), longest=LONGEST_ENTITY),
        begin=begin,
        end=end,
        reason=words("reason", asked.get("reason"), longest=LONGEST_REASON),
        conflict=flag("conflict", asked.get("conflict")),
    )


def row_filter(asked: Mapping[str, str]) -> RowFilter:
    """Which rows are asked for. Raises `BadRequest`."""
    return RowFilter(
        source=words("source", asked.get("source")),
        active=flag("active", asked.get("active")),
        tie=flag("tie", asked.get("tie")),
        sku=words("sku", asked.get("sku")),
    )


def change_filter(asked: Mapping[str, str], *, now: datetime) -> ChangeFilter:
    """Which changes are asked for. Raises `BadRequest`."""
    return ChangeFilter(
        table=words("table", asked.get("table")),
        source=words("source", asked.get("source")),
        since=moment("since", asked.get("since"), now=now),
        delivery=number("delivery", asked.get("delivery"), None),
    )


def words(name: str, value: str | None, *, longest: int = LONGEST_NAME) -> str | None:
    """Text as a column may hold it. Raises `BadRequest` for none, and for more than any column holds."""
    if value is None:
        return None
    if not value:
        raise BadRequest(f"`{name}` is empty: give it a value, or leave it out.")
    if len(value) > longest:
        raise BadRequest(f"`{name}` takes at most {longest:,} characters, because nothing that is stored has more.")
    return storable(value)


def moment(name: str, value: str | None, *, now: datetime) -> datetime | None:
    """A time: ISO 8601 with its offset, or how long ago, such as `2h`. Raises `BadRequest`."""
    if value is None:
        return None
    try:
        if ago := _AGO.fullmatch(value):
            return now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        # A plus sign that an address did not escape has become a blank.
        written = datetime.fromisoformat(value.strip().replace(" ", "T" if "T" not in value else "+", 1))
        if written.tzinfo is not None:
            return in_utc(written)
    except (ValueError, OverflowError):
        pass
    raise BadRequest(
        f"`{name}` takes a time with its offset from UTC, such as 2026-11-21T12:00:00Z or 2026-11-21T20:00:00+08:00, "
        "or how long ago it was, such as 90m, 2h or 3d."
    )


def number(name: str, value: str | None, default: int | None) -> int | None:
    """A whole number that a database column holds; `default` if there is none. Raises `BadRequest`."""
    if value is None:
        return default
    if not is_number(value):
        raise BadRequest(f"`{name}` takes a whole number, as this API gave it.")
    return int(value)


def is_number(text: str) -> bool:
    """Whether it is a whole number that a database column holds."""
    return len(text) <= 19 and text.isascii() and text.isdigit() and int(text) < 2**63


def limit(asked: Mapping[str, str], *, most: int = LARGEST_PAGE) -> int:
    """How many items a page may have. Raises `BadRequest`."""
    items = number("limit", asked.get("limit"), min(USUAL_PAGE, most))
    if items is None or not 1 <= items <= most:
        raise BadRequest(f"`limit` takes a whole number from 1 to {most}.")
    return items


def flag(name: str, value: str | None) -> bool | None:
    """True, false, or None for none. Raises `BadRequest`."""
    if value is None:
        return None
    if value not in ("true", "false"):
        raise BadRequest(f"`{name}` takes true or false.")
    return value == "true"


def one_of(kind: type[Word], name: str, value: str | None) -> Word | None:
    """One of these words. Raises `BadRequest`."""
    if value is None:
        return None
    try:
        return kind(value)
    except ValueError:
        raise BadRequest(f"`{name}` takes one of {', '.join(kind)}.") from None
