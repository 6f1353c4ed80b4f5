"""Descriptions shared by the pages of all lists: horizon, cursor, and count of matches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from msgspec import Meta

from receiver.schemas import Shape
from receiver.search.pages import MOST_COUNTED, Count, FoundPage
from receiver.search.windows import seconds_left

LookedAt = Annotated[int, Meta(description="The number of examined rows.")]

HORIZON = "Only if the time ended before all rows were examined: the place that was reached. `next` continues there."

MATCHING = "Only with `count`: the number of items that match, on all pages."

MOMENTS_MEANT = "Only with relative times, such as `2h` or `14:02`: the moment that each meant on the first page."

NEXT = "The `cursor` of the next page; null on the last one."


class Matching(Shape, frozen=True):
    """A bounded count."""

    number: int
    more: Annotated[
        bool,
        Meta(
            description=f"Whether the number is a lower bound: counts stop at {MOST_COUNTED:,}, "
            "or when the time of the search has passed."
        ),
    ]
    says: Annotated[str, Meta(description="The same in words, such as `more than 10,000`.")]


def is_whole(page: FoundPage, *, is_first: bool) -> bool:
    """Whether the page has every match that its search reached, so that no count is needed."""
    return is_first and (page.next is None or page.horizon is not None)


def count_beside(page: FoundPage, count: Callable[[float], Count], *, began: float, is_first: bool) -> Matching:
    """Count the matches of a list whose page was begun at `began` by the monotonic clock.

    `count` takes the seconds that remain: the list and its count together take the time of one search.
    """
    if is_whole(page, is_first=is_first):
        return show_count(Count(len(page.items), False, page.horizon))
    counted = count(seconds_left(began))
    return show_count(counted._replace(number=max(counted.number, len(page.items))))


def show_count(counted: Count) -> Matching:
    """Format a count for the API."""
    if counted.more:
        return Matching(counted.number, True, f"more than {counted.number:,}")
    if counted.horizon is not None:
        return Matching(counted.number, True, f"at least {counted.number:,}")
    return Matching(counted.number, False, f"{counted.number:,}")
