"""Replies: what a sender is told, in our words or in those that its dialect wants."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal, NamedTuple

from msgspec import UNSET, Meta, UnsetType

from receiver.codec import encode
from receiver.dialects.replies import SenderReply
from receiver.errors import BodyTooLarge, MethodNotAllowed, Refused, Unavailable
from receiver.inbox.arrival import Accepted
from receiver.schemas import Error, Shape

HeaderPair = tuple[bytes, bytes]


class Reply(NamedTuple):
    """The answer to the sender: JSON, and headers such as Retry-After."""

    status: int
    body: bytes
    headers: tuple[HeaderPair, ...] = ()
    #: Whether the connection ends with it, since the rest of the body is not read.
    closes: bool = False


class EventReceipt(Shape, frozen=True):
    """One event of a body is safe."""

    status: Literal["accepted", "duplicate"]
    delivery: str


class Receipt(Shape, frozen=True):
    """The webhook is safe."""

    status: Annotated[
        Literal["accepted", "duplicate"],
        Meta(description="Of a body that tells of several events: `accepted` if any of them is new."),
    ]
    delivery: Annotated[str, Meta(description="The id of the delivery; for a duplicate, of the first.")]
    #: The only member of an answer that may be missing, since senders of single events have no use for it.
    deliveries: Annotated[
        list[EventReceipt] | UnsetType,
        Meta(description="Of a body that tells of several events: the answer to each, in the order of the body."),
    ] = UNSET


def ack(accepted: Accepted) -> Reply:
    """The 2xx: whether it is new, and under which id it is kept."""
    if not accepted.items:
        return Reply(200, encode(Receipt(accepted.status, str(accepted.delivery_id))))
    each = [EventReceipt(item.status, str(item.delivery_id)) for item in accepted.items]
    return Reply(200, encode(Receipt(accepted.status, str(accepted.delivery_id), each)))


def own_reply(reply: SenderReply) -> Reply:
    """A reply of a dialect's own, as it is sent."""
    body, headers = reply.on_the_wire()
    return Reply(reply.status, body, headers)


def refused_as(wanted: SenderReply | int, refusal: Refused) -> Reply:
    """The refusal in the way that a dialect wants its sender to see it: with another status, or with other words."""
    reply = reply_to(refusal)
    if isinstance(wanted, SenderReply):
        status, body, headers = wanted.status, *wanted.on_the_wire()
    else:
        status, body, headers = wanted, reply.body, reply.headers
    if status == Unavailable.status:
        headers = (*headers, (b"retry-after", str(Unavailable(refusal.message).retry_after).encode()))
    return Reply(status, body, headers, closes=reply.closes)


def reply_to(refusal: Refused) -> Reply:
    """The body of the answer to its sender."""
    headers: tuple[HeaderPair, ...] = ()
    if isinstance(refusal, Unavailable):
        headers = ((b"retry-after", str(refusal.retry_after).encode()),)
    if isinstance(refusal, MethodNotAllowed):
        headers = ((b"allow", b"POST"),)
    return Reply(
        refusal.status, encode(Error.of(refusal)), headers, closes=isinstance(refusal, (BodyTooLarge, Unavailable))
    )


def framed(headers: Iterable[HeaderPair], length: int, *, closes: bool) -> list[HeaderPair]:
    """The headers of an answer with a body of so many bytes, behind which the connection may close."""
    lines = [*headers, (b"content-length", b"%d" % length)]
    if not any(name == b"content-type" for name, _ in headers):
        lines.insert(-1, (b"content-type", b"application/json"))
    if closes:
        lines.append((b"connection", b"close"))
    return lines
