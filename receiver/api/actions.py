"""Actions over HTTP: their list, and the reason and idempotency key of a request."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta
from sqlalchemy import RowMapping

from receiver.api.lookup import Lookup
from receiver.api.operations import Operation, Parameter, Question
from receiver.api.parameters import LIMIT, number, plain_text
from receiver.api.tokens import Scope
from receiver.errors import BadRequest, Unavailable
from receiver.runs import actions
from receiver.runs.actions import LONGEST_ACTION_REASON, LONGEST_KEY, SHORTEST_ACTION_REASON, Asked
from receiver.schemas import Moment, Shape

BEFORE: Parameter[int | None] = Parameter(
    "before", {"type": "string"}, "The value of `next` on the previous page.", number("before"), None
)
RUN: Parameter[int | None] = Parameter("run", {"type": "string"}, "Only actions on this run.", number("run"), None)
WHY = plain_text(
    "reason",
    f"The reason, in {SHORTEST_ACTION_REASON} to {LONGEST_ACTION_REASON} characters; kept with the action.",
    longest=LONGEST_ACTION_REASON * 2,
)
IDEMPOTENCY_KEY = plain_text(
    "idempotency_key",
    "A new random key for each request. A repetition with the same key takes effect once, and gets the same answer, "
    "except that `again` is then true, if the answer has it.",
    longest=LONGEST_KEY,
)


class Action(Shape, frozen=True):
    """One deed of a person, or of a program with a person's token."""

    id: str
    at: Moment
    who: Annotated[str, Meta(description="The operating system's user of a command, or the name in the token.")]
    via: Literal["console", "api", "command", "schedule"]
    what: str
    arguments: dict[str, Any]
    run: Annotated[str | None, Meta(description="The run that it began or changed.")]
    count: Annotated[int, Meta(description="The number of deliveries or rows that it concerns.")]
    counts: Annotated[str, Meta(description="The unit of the number, such as `delivery` or `row`.")]
    reason: str | None
    result: Annotated[dict[str, Any], Meta(description="The answer to the request.")]


class ActionPage(Shape, frozen=True):
    items: list[Action]
    next: Annotated[str | None, Meta(description="The value for the next `before`; null at the end.")]


def asked_by(question: Question, what: str, **arguments: Any) -> Asked:
    """Collect the request, its author, its reason and its idempotency key."""
    return Asked(by=question.by, what=what, arguments=arguments, reason=question[WHY], key=question[IDEMPOTENCY_KEY])


class Actions:
    """Lists actions: `/api/v1/actions`."""

    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup

    def operations(self) -> list[Operation]:
        return [
            Operation(
                name="list_actions",
                path="/api/v1/actions",
                summary="The recorded actions, newest first",
                answer=self.list_actions,
                answers={200: ActionPage},
                scope=Scope.READ,
                parameters=(RUN, BEFORE, LIMIT),
                refusals=(BadRequest, Unavailable),
            )
        ]

    def list_actions(self, asked: Question) -> ActionPage:
        found = actions.recent(before=asked[BEFORE], run=asked[RUN])
        page = self._lookup.page(found, _show, asked[LIMIT])
        return ActionPage(page.items, str(page.last["id"]) if page.last is not None and page.more else None)


def _show(row: RowMapping) -> Action:
    shown = {name: value for name, value in actions.show(row).items() if name != "key"}
    return Action(**shown)
