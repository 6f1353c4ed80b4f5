"""The change feed over HTTP."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta
from sqlalchemy import RowMapping

from receiver.api.lookup import Lookup
from receiver.api.operations import Operation, Parameter, Question
from receiver.api.parameters import CURSOR_DESCRIPTION, LIMIT, number
from receiver.api.tokens import Scope
from receiver.errors import BadRequest, Unavailable
from receiver.mirror import changes
from receiver.schemas import Moment, Shape


class Change(Shape, frozen=True):
    """One change of one row of the mirror."""

    seq: Annotated[int, Meta(description="Grows in commit order; numbers may be missing, changes never are.")]
    table: str
    source: str
    external_id: str
    operation: Literal["insert", "update", "deactivate", "reactivate"]
    before: Annotated[dict[str, Any], Meta(description="The columns that changed, as they were; empty for an insert.")]
    after: Annotated[dict[str, Any], Meta(description="The same columns as they became.")]
    delivery_id: Annotated[str | None, Meta(description="The delivery that brought the news; null for a reconcile.")]
    changed_at: Annotated[Moment, Meta(description="At the source.")]
    recorded_at: Annotated[Moment, Meta(description="Here.")]


class ChangePage(Shape, frozen=True):
    items: list[Change]
    next: Annotated[int, Meta(description="The value for the next `after`.")]


def show_change(row: RowMapping) -> Change:
    """A change as the API shows it, its documents passed on as the JSON that they are."""
    delivery = row["delivery_id"]
    return Change(
        seq=row["seq"],
        table=row["table"],
        source=row["source"],
        external_id=row["external_id"],
        operation=row["operation"],
        before=row["before"],
        after=row["after"],
        delivery_id=str(delivery) if delivery is not None else None,
        changed_at=row["changed_at"],
        recorded_at=row["recorded_at"],
    )


AFTER = Parameter("after", {"type": "integer", "minimum": 0, "default": 0}, CURSOR_DESCRIPTION, number("after"), 0)


class ChangeFeed:
    """The operation on the change feed."""

    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup

    def operations(self) -> list[Operation]:
        return [
            Operation(
                name="list_changes",
                path="/api/v1/changes",
                summary="The change feed behind `after`, oldest first",
                answer=self.list_changes,
                answers={200: ChangePage},
                scope=Scope.READ,
                parameters=(AFTER, LIMIT),
                refusals=(BadRequest, Unavailable),
            )
        ]

    def list_changes(self, asked: Question) -> ChangePage:
        """The change feed behind `after`, in commit order; `next` is the value for the next `after`."""
        page = self._lookup.page(changes.behind(asked[AFTER]), show_change, asked[LIMIT])
        return ChangePage(page.items, page.last["seq"] if page.last else asked[AFTER])
