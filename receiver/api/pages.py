"""The parts that pages of every list have over HTTP: how far they looked, and how many items match."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from receiver.schemas import Shape
from receiver.search.pages import MOST_COUNTED, Count

LookedAt = Annotated[int, Meta(description="How many rows were looked at.")]

HORIZON = "Only if more may lie behind what was looked at in time: how far that was. `next` goes on from there."

MATCHING = "Only if `count` was asked for: how many items match, on all pages."

NEXT = "The `cursor` of the next page; null on the last one."


class Matching(Shape, frozen=True):
    """A count that stops."""

    number: int
    more: Annotated[
        bool,
        Meta(description=f"Whether there may be more: a count ends at {MOST_COUNTED:,}, and in a tenth of a second."),
    ]
    says: Annotated[str, Meta(description="The same in words, such as `more than 10,000`.")]


def show_count(counted: Count) -> Matching:
    """A count as the API shows it."""
    if counted.more:
        return Matching(counted.number, True, f"more than {counted.number:,}")
    if counted.horizon is not None:
        return Matching(counted.number, True, f"at least {counted.number:,}")
    return Matching(counted.number, False, f"{counted.number:,}")
