"""Reads lists through the search functions, with items as Python values."""

from __future__ import annotations

from typing import Any

from receiver.codec import decode
from receiver.database.database import Database
from receiver.search.deliveries import list_deliveries
from receiver.search.filters import DeliveryFilter
from receiver.search.pages import FoundPage, PageBounds

EVERY = DeliveryFilter()


def ids_of(listing: FoundPage) -> list[int]:
    """Return the ids of a list of deliveries, which is read with `id_only`."""
    return [decode(bytes(item)) for item in listing.items]


def id_only(row: Any) -> int:
    return int(row["id"])


def listed_ids(
    database: Database, wanted: DeliveryFilter = EVERY, *, before: int | None = None, limit: int = 100
) -> list[int]:
    """Return the ids of the deliveries on one page."""
    bounds = PageBounds(behind=None if before is None else (before,), limit=limit)
    return ids_of(list_deliveries(database, wanted, id_only, bounds))
