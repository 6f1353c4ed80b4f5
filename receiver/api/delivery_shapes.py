"""Schemas of deliveries, their rounds and their attempts."""

from __future__ import annotations

from base64 import b64encode
from typing import Annotated, Any, Literal

from msgspec import Meta
from msgspec.structs import asdict
from sqlalchemy import RowMapping

from receiver.header_values import SIGNED_MARK, TRUSTED_MARK, unmarked
from receiver.inbox.tables import State
from receiver.mirror.versions import Outcome
from receiver.schemas import Moment, Shape
from receiver.search.deliveries import KeptDelivery


class Delivery(Shape, frozen=True):
    """One stored webhook."""

    id: Annotated[str, Meta(description="Grows with arrival. Text, because it is larger than a JavaScript number.")]
    source: str
    event_type: Annotated[str | None, Meta(description="Null if the body could not be read.")]
    occurred_at: Annotated[Moment | None, Meta(description="The time of the change, at the source.")]
    received_at: Moment
    state: State
    outcome: Annotated[Outcome | None, Meta(description="The effect on the mirror, once processed.")]
    reason: Annotated[str | None, Meta(description="The reason why it is dead, is ignored, or waits for an attempt.")]
    ended_at: Moment | None
    entity: Annotated[
        str | None, Meta(description="Kind and id, as in `product:A1`; null if the body could not be read.")
    ]
    attempts_made: Annotated[int, Meta(description="The number of attempts since it was accepted or replayed.")]
    next_attempt_at: Annotated[Moment | None, Meta(description="The time of its next attempt, while it is pending.")]
    duplicates: Annotated[int, Meta(description="The number of duplicates.")]
    conflict: Annotated[bool, Meta(description="Whether an earlier delivery used its dedup key for another body.")]
    dedup_key: str
    secret: Annotated[
        int | None,
        Meta(description="The position of the secret that verified it, 0 for the newest; null if it is unsigned."),
    ]
    item: Annotated[
        int | None,
        Meta(description="Its position in a body with several events, from 0; null for the only event of a body."),
    ]


class Attempt(Shape, frozen=True):
    """An attempt that failed."""

    number: int
    ended_at: Moment
    worker: str
    reason: str


class RoundAttempt(Shape, frozen=True):
    """An attempt, failed or successful."""

    number: int
    ended_at: Moment
    failed: bool
    reason: Annotated[str | None, Meta(description="Why it failed.")]
    worker: str
    release: Annotated[str | None, Meta(description="The release of Hookmirror that ran it.")]
    handler: Annotated[str | None, Meta(description="`module.function`; null if no handler was reached.")]
    hydrate_ms: Annotated[
        float | None, Meta(description="Milliseconds that hydrating took; null if nothing was fetched.")
    ]
    handle_ms: Annotated[float | None, Meta(description="Milliseconds that the handler took; null if none ran.")]
    settle_ms: Annotated[float | None, Meta(description="Milliseconds that the transaction of its batch took so far.")]
    traceback: Annotated[str | None, Meta(description="The traceback of the error, shortened.")]


class Round(Shape, frozen=True):
    """One round of a delivery."""

    number: Annotated[int, Meta(description="From 1, without gaps.")]
    cause: Annotated[str, Meta(description="The cause: `accepted`, `replay`, or `duplicate` (of a dead delivery).")]
    run: Annotated[int | None, Meta(description="The run that began it.")]
    action: Annotated[int | None, Meta(description="The action that began it.")]
    began_at: Moment
    state: State
    outcome: Outcome | None
    reason: str | None
    ended_at: Annotated[Moment | None, Meta(description="Null while it has not ended.")]
    attempts: Annotated[list[RoundAttempt], Meta(description="Oldest first.")]


class WholeDelivery(Delivery, frozen=True):
    """One stored webhook with its headers, body, rounds and attempts."""

    headers: dict[str, str]
    signed: Annotated[list[str], Meta(description="The headers that the signature covers and the envelope may read.")]
    trusted: Annotated[str | None, Meta(description="The header that chose the handler although it is not signed.")]
    body: Annotated[str | None, Meta(description="The bytes received; null after their retention.")]
    body_encoding: Literal["utf-8", "base64"] | None
    plain: Annotated[str | None, Meta(description="The decrypted or decompressed body.")]
    plain_encoding: Literal["utf-8", "base64"] | None
    attempts: Annotated[list[Attempt], Meta(description="The failed attempts of all rounds, oldest first.")]
    rounds: Annotated[list[Round], Meta(description="Oldest first; at most the newest 1,000, and as many attempts.")]


def show_delivery(row: RowMapping) -> Delivery:
    """Format a delivery for a list."""
    return Delivery(
        id=str(row["id"]),
        source=row["source"],
        event_type=row["event_type"],
        occurred_at=row["occurred_at"],
        received_at=row["received_at"],
        state=row["state"],
        outcome=row["outcome"],
        reason=row["reason"],
        ended_at=row["ended_at"],
        entity=f"{row['entity_kind']}:{row['entity_id']}" if row["entity_kind"] is not None else None,
        attempts_made=row["attempts"],
        next_attempt_at=row["due_at"] if row["state"] == State.PENDING else None,
        duplicates=row["duplicates"],
        conflict=row["conflict"],
        dedup_key=row["dedup_key"],
        secret=row["secret"],
        item=row["item"],
    )


def show_whole_delivery(found: KeptDelivery) -> WholeDelivery:
    """Format a delivery with its body, headers, rounds and attempts."""
    row = found.row
    body, encoding = _readable(row["body"])
    plain, plain_encoding = _readable(row["plain"])
    headers: dict[str, str] = row["headers"] or {}
    return WholeDelivery(
        **asdict(show_delivery(row)),
        headers=unmarked(headers),
        signed=[name for name in headers.get(SIGNED_MARK, "").split(",") if name],
        trusted=headers.get(TRUSTED_MARK),
        body=body,
        body_encoding=encoding,
        plain=plain,
        plain_encoding=plain_encoding,
        attempts=[
            Attempt(number=each["number"], ended_at=each["ended_at"], worker=each["worker"], reason=each["reason"])
            for round_ in found.rounds
            for each in round_["attempts"]
            if each["failed"]
        ],
        rounds=[_show_round(round_) for round_ in found.rounds],
    )


def _show_round(kept: dict[str, Any]) -> Round:
    return Round(**{**kept, "attempts": [RoundAttempt(**each) for each in kept["attempts"]]})


def _readable(content: bytes | None) -> tuple[str | None, Literal["utf-8", "base64"] | None]:
    if content is None:
        return None, None
    try:
        return content.decode("utf-8"), "utf-8"
    except UnicodeDecodeError:
        return b64encode(content).decode(), "base64"
