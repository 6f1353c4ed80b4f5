"""Kept refused requests over HTTP: lists them, verifies them again, and drops them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Literal

from msgspec import Meta
from sqlalchemy import RowMapping

from receiver.api.actions import IDEMPOTENCY_KEY, WHY, asked_by
from receiver.api.lookup import Lookup
from receiver.api.operations import Operation, Parameter, Question
from receiver.api.parameters import CURSOR_DESCRIPTION, LIMIT, SOURCE, number
from receiver.api.tokens import Scope
from receiver.errors import BadRequest, KeyUsed, NotFound, ReasonWanted, Unavailable
from receiver.findings.gathering import Facts
from receiver.inbox import refused
from receiver.inbox.inbox import Inbox
from receiver.runs.refused import VERIFY_REFUSED, drop_refused, verify_refused
from receiver.schemas import Moment, Shape
from receiver.search.arguments import is_id


class RefusedRequest(Shape, frozen=True):
    """A refused request that is kept for a while."""

    id: str
    source: str
    code: Annotated[str, Meta(description="The error code of the refusal.")]
    received_at: Moment
    size: Annotated[int, Meta(description="Bytes of body and headers.")]
    headers: Annotated[list[list[str]], Meta(description="The kept headers, each a name and a value.")]
    begins: Annotated[str, Meta(description=f"The first {refused.SHOWN_BYTES} bytes of the body.")]
    begins_encoding: Literal["text", "hex"]


class RefusedPage(Shape, frozen=True):
    items: list[RefusedRequest]
    next: Annotated[str | None, Meta(description="The `cursor` of the next page; null on the last one.")]


class VerifiedAgain(Shape, frozen=True):
    """The result of verifying kept requests again."""

    verified: int
    accepted: Annotated[int, Meta(description="Of those, new deliveries.")]
    duplicates: int
    left: Annotated[int, Meta(description="Requests that stay kept, such as those that do not verify.")]


class Dropped(Shape, frozen=True):
    dropped: int


def show_refused(row: RowMapping) -> RefusedRequest:
    """Format a kept request for the API and the command."""
    begins, encoding = refused.as_text(bytes(row["begins"]))
    return RefusedRequest(
        id=str(row["id"]),
        source=row["source"],
        code=row["code"],
        received_at=row["received_at"],
        size=row["size"],
        headers=[list(each) for each in refused.shown_headers(row)],
        begins=begins,
        begins_encoding=encoding,
    )


NAMED: Parameter[str] = Parameter("source", {"type": "string"}, "The name of a source.", str, "")
REFUSED_BEFORE: Parameter[int | None] = Parameter(
    "cursor", {"type": "string"}, CURSOR_DESCRIPTION, number("cursor"), None
)


def no_refused(text: str) -> NotFound:
    """The error about a request that is not kept."""
    return NotFound(
        f"There is no refused request {text[:64]!r}: it was accepted since, it was dropped, or a day has passed. "
        "`/api/v1/refused` lists those that are kept.",
        names=("/api/v1/refused",),
    )


def _refused_id(text: str) -> int:
    if not is_id(text):
        raise no_refused(text)
    return int(text)


REFUSED_ID = Parameter("id", {"type": "string"}, "The id of a refused request.", _refused_id, 0)


class RefusedRequests:
    """Lists, verifies and drops kept refused requests: `/api/v1/refused`."""

    def __init__(self, lookup: Lookup, inbox: Inbox, facts: Facts, *, wake: Callable[[], None]) -> None:
        """`wake` is called when there is new work for the worker of this process."""
        self._lookup = lookup
        self._inbox = inbox
        self._facts = facts
        self._wake = wake

    def operations(self) -> list[Operation]:
        return [
            Operation(
                name="list_refused",
                path="/api/v1/refused",
                summary="Refused requests that are kept, newest first",
                answer=self.list_refused,
                answers={200: RefusedPage},
                scope=Scope.READ,
                parameters=(SOURCE, REFUSED_BEFORE, LIMIT),
                refusals=(BadRequest, Unavailable),
            ),
            Operation(
                name="show_refused",
                path="/api/v1/refused/{id}",
                summary="One refused request that is kept",
                answer=self.show,
                answers={200: RefusedRequest},
                scope=Scope.READ,
                parameters=(REFUSED_ID,),
                refusals=(BadRequest, NotFound, Unavailable),
            ),
            *self._verbs(),
        ]

    def _verbs(self) -> list[Operation]:
        return [
            Operation(
                name="verify_refused",
                method="post",
                path="/api/v1/refused/{source}/verify",
                summary="Accept kept requests that verify with a present secret",
                answer=self.verify,
                answers={200: VerifiedAgain},
                scope=Scope.OPERATE,
                parameters=(NAMED, WHY, IDEMPOTENCY_KEY),
                refusals=(BadRequest, ReasonWanted, KeyUsed, NotFound, Unavailable),
            ),
            Operation(
                name="drop_refused",
                method="post",
                path="/api/v1/refused/{source}/drop",
                summary="Drop kept requests of a source",
                answer=self.drop,
                answers={200: Dropped},
                scope=Scope.OPERATE,
                parameters=(NAMED, WHY, IDEMPOTENCY_KEY),
                refusals=(BadRequest, ReasonWanted, KeyUsed, Unavailable),
            ),
        ]

    def list_refused(self, asked: Question) -> RefusedPage:
        source, limit = self._lookup.source(asked[SOURCE]), asked[LIMIT]
        page = self._lookup.page(refused.listed(source=source, before=asked[REFUSED_BEFORE]), show_refused, limit)
        return RefusedPage(page.items, str(page.last["id"]) if page.last and page.more else None)

    def show(self, asked: Question) -> RefusedRequest:
        with self._lookup.database.read() as connection:
            row = refused.one(connection, asked[REFUSED_ID])
        if row is None:
            raise no_refused(str(asked[REFUSED_ID]))
        return show_refused(row)

    def verify(self, asked: Question) -> VerifiedAgain:
        source = self._facts.sources.get(asked[NAMED])
        if source is None:
            known = ", ".join(sorted(self._facts.sources)) or "none"
            raise NotFound(f"There is no source {asked[NAMED][:64]!r} in the settings; there are: {known}.")
        request = asked_by(asked, VERIFY_REFUSED, source=source.name)
        done = verify_refused(self._inbox, source, request, accepted=self._wake)
        return VerifiedAgain(done.number, done.accepted, done.duplicates, done.left)

    def drop(self, asked: Question) -> Dropped:
        request = asked_by(asked, "drop refused", source=asked[NAMED])
        return Dropped(drop_refused(self._lookup.database, request, asked[NAMED], now=datetime.now(UTC)))
