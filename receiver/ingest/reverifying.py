"""Verifies kept requests again: admits them with the present secrets, and accepts them like new ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import structlog
from sqlalchemy import Connection, bindparam, update

from receiver.database.columns import UtcDateTime
from receiver.database.errors import is_fault_of_values, is_overdue, retry_transaction
from receiver.errors import Refused
from receiver.inbox import refused
from receiver.inbox.arrival import Accepted, Arrival
from receiver.inbox.bundles import draw_ids, gathered, resolve_one_by_one
from receiver.inbox.duplicates import ResolveArrivals, resolve_duplicates
from receiver.inbox.ids import DeliveryIds
from receiver.inbox.inbox import Inbox
from receiver.inbox.refused import Refusal
from receiver.inbox.tables import DELIVERIES, IDS, State, in_state
from receiver.ingest.admission import Request, admit
from receiver.ingest.counting import count_answers
from receiver.ingest.source import VerifiableSource
from receiver.logs.safe_text import told
from receiver.metrics import metrics

log = structlog.get_logger(__name__)

#: The name under which path and query are kept among the headers; no real header can have this name.
TARGET = b":target"

#: The most requests that one transaction accepts, and the most bytes of them.
VERIFIED_AT_ONCE, VERIFIED_BYTES = 50, 1 << 20


#: Further work in the accepting transaction; called with the answer to each request.
WithinAccept = Callable[[Connection, Sequence[Accepted]], object]


class Reverified(NamedTuple):
    """The result of verifying kept requests again."""

    #: The number of verified requests, of new deliveries among them, and of duplicates.
    number: int = 0
    accepted: int = 0
    duplicates: int = 0
    #: The number of requests that stay kept: they do not verify, or another transaction holds their dead delivery.
    left: int = 0


def verify_again(
    inbox: Inbox,
    source: VerifiableSource,
    *,
    accepted: Callable[[], None] = lambda: None,
    along: WithinAccept = lambda *_: None,
) -> Reverified:
    """Accept the kept requests of a source that verify with its present secrets, in the order of arrival.

    The transaction that accepts a request also removes it from the kept ones, so each is accepted once, even if another
    process verifies at the same time. `accepted` is called after each transaction that accepted some, and `along`
    within it. Raises SQLAlchemy's error.
    """
    ids, total, after = DeliveryIds(), Reverified(), 0
    while True:
        with inbox.database.read() as connection:
            some = refused.behind(connection, source.name, after, most=VERIFIED_AT_ONCE, most_bytes=VERIFIED_BYTES)
        if not some:
            return total
        after = some[-1].id
        done = _verify_batch(inbox, source, some, ids, along)
        if done.number:
            inbox.database.announce()
            accepted()
        total = Reverified(*(ours + theirs for ours, theirs in zip(total, done, strict=True)))


def _verify_batch(
    inbox: Inbox, source: VerifiableSource, some: Sequence[Refusal], ids: DeliveryIds, along: WithinAccept
) -> Reverified:
    admitted = [result for each in some for result in admit([_request(source, each)], now=each.received_at)]
    verified = [
        (each.id, arrival) for each, arrival in zip(some, admitted, strict=True) if isinstance(arrival, Arrival)
    ]
    left = sum(isinstance(each, Refused) for each in admitted)
    draw_ids([arrival for _, arrival in verified], ids)
    answered = _accept(inbox, verified, along) if verified else []
    accepted = [(arrival, answer) for arrival, answer in answered if answer is not None]
    left += len(answered) - len(accepted)
    count_answers(accepted)
    metrics.REFUSED_VERIFIED.labels(source.name).inc(len(accepted))
    new = sum(answer.status == "accepted" for _, answer in accepted)
    return Reverified(len(accepted), new, len(accepted) - new, left)


def _request(source: VerifiableSource, kept: Refusal) -> Request:
    """Restore the request from its kept form."""
    target = next((value for name, value in kept.headers if name == TARGET), b"")
    return Request(source, [pair for pair in kept.headers if pair[0] != TARGET], kept.body, target)


def _accept(
    inbox: Inbox, verified: Sequence[tuple[int, Arrival]], along: WithinAccept
) -> Sequence[tuple[Arrival, Accepted | None]]:
    """Accept the requests that no other process has taken; if the database refuses one, keep its body alone.

    The answer is None for a request that stays kept, because another transaction holds a dead delivery of it.
    """
    try:
        return _take_and_accept(inbox, verified, along)
    except Exception as error:
        if not is_fault_of_values(error) and not is_overdue(error):
            raise
        if len(verified) == 1 and is_overdue(error):
            log.warning("a verified request stays kept, because its delivery is locked", request=verified[0][0])
            return [(verified[0][1], None)]
        if len(verified) == 1:
            return _accept_refused(inbox, verified, along, told(error))
    return [answer for one in verified for answer in _accept(inbox, [one], along)]


def _accept_refused(
    inbox: Inbox, verified: Sequence[tuple[int, Arrival]], along: WithinAccept, reason: str
) -> list[tuple[Arrival, Accepted]]:
    """Accept one request whose content the database refuses: the other items of a bundle, or the body alone."""
    arrival = verified[0][1]
    if arrival.others:
        try:
            return _take_and_accept(inbox, verified, along, resolve_one_by_one)
        except Exception as error:
            if not is_fault_of_values(error):
                raise
    arrival.keep_body_alone(f"The database refused its content: {reason}")
    return _take_and_accept(inbox, verified, along)


def _take_and_accept(
    inbox: Inbox,
    verified: Sequence[tuple[int, Arrival]],
    along: WithinAccept,
    resolve: ResolveArrivals | None = None,
) -> list[tuple[Arrival, Accepted]]:
    """Accept in one transaction those of the requests that are still kept."""
    tried: list[tuple[Arrival, Accepted]] = []

    def accept() -> list[tuple[Arrival, Accepted]]:
        with inbox.database.write() as connection:
            taken = refused.take(connection, [kept_id for kept_id, _ in verified])
            arrivals = [arrival for kept_id, arrival in verified if kept_id in taken]
            if not arrivals:
                # Another process took them, or the last try did, whose connection was lost after its commit.
                return tried
            items = [each for arrival in arrivals for each in arrival.each()]
            answers = gathered(arrivals, (resolve or resolve_duplicates)(connection, items))
            # Due from now on, although they arrived long ago: otherwise the backlog would look as old as they are.
            connection.execute(_DUE_NOW, {"ids": [each.id for each in items], "now": datetime.now(UTC)})
            along(connection, answers)
            tried[:] = zip(arrivals, answers, strict=True)
            return tried

    return retry_transaction(accept)


_DUE_NOW = update(DELIVERIES).where(IDS, in_state(State.PENDING)).values(due_at=bindparam("now", type_=UtcDateTime()))
