"""Replies to senders, in Hookmirror's form or in the form that a dialect defines."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from receiver.codec import encode
from receiver.dialects.replies import SenderReply
from receiver.errors import MethodNotAllowed, Refused, Unavailable
from receiver.inbox.arrival import Accepted
from receiver.ingest.paths import is_for_console
from receiver.schemas import Error, Shape

HeaderPair = tuple[bytes, bytes]

#: Headers of a page that shows a sentence and a link.
_PAGE_HEADERS: tuple[HeaderPair, ...] = (
    (b"content-type", b"text/html; charset=utf-8"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
)


class Reply(Struct, frozen=True):
    """An answer to a sender: the status, the body, and headers such as Retry-After."""

    status: int
    body: bytes
    headers: tuple[HeaderPair, ...] = ()
    #: Whether the connection ends after the answer, because the rest of the request is not read.
    closes: bool = False
    #: Whether it answers a HEAD request, so that its body is not sent (RFC 9110 §9.3.2).
    to_head: bool = False


class EventReceipt(Shape, frozen=True):
    """One event of a body is stored."""

    status: Literal["accepted", "duplicate"]
    delivery: str


class Receipt(Shape, frozen=True):
    """The webhook is stored."""

    status: Annotated[
        Literal["accepted", "duplicate"],
        Meta(description="For a body with several events: `accepted` if any of them is new."),
    ]
    delivery: Annotated[str, Meta(description="The id of the delivery; for a duplicate, of the first.")]
    #: Left out for a body with a single event. No other member of an answer may be missing.
    deliveries: Annotated[
        list[EventReceipt] | UnsetType,
        Meta(description="For a body with several events: the answer to each, in the order of the body."),
    ] = UNSET


def ack(accepted: Accepted) -> Reply:
    """Make the 2xx, with the delivery's id and whether the delivery is new."""
    if not accepted.items:
        return Reply(200, encode(Receipt(accepted.status, str(accepted.delivery_id))))
    each = [EventReceipt(item.status, str(item.delivery_id)) for item in accepted.items]
    return Reply(200, encode(Receipt(accepted.status, str(accepted.delivery_id), each)))


def own_reply(reply: SenderReply) -> Reply:
    """Convert a reply that a dialect defines."""
    body, headers = reply.on_the_wire()
    return Reply(reply.status, body, headers)


def refused_as(wanted: SenderReply | int, refusal: Refused) -> Reply:
    """Convert a refusal into the status or the reply that a dialect defines for refusals."""
    reply = reply_to(refusal)
    if isinstance(wanted, SenderReply):
        status, body, headers = wanted.status, *wanted.on_the_wire()
    else:
        status, body, headers = wanted, reply.body, reply.headers
    if status == Unavailable.status:
        headers = (*headers, (b"retry-after", str(Unavailable(refusal.message).retry_after).encode()))
    return Reply(status, body, headers, closes=reply.closes)


def reply_to(refusal: Refused) -> Reply:
    """Make the answer to a refused request."""
    headers: tuple[HeaderPair, ...] = ()
    if isinstance(refusal, Unavailable):
        headers = ((b"retry-after", str(refusal.retry_after).encode()),)
    if isinstance(refusal, MethodNotAllowed):
        headers = ((b"allow", b"POST"),)
    return Reply(refusal.status, encode(Error.of(refusal)), headers, closes=refusal.ends_connection)


def reply_at(url: bytes, root_path: str, refusal: Refused) -> Reply:
    """Make the answer to a request whose head is refused: at an address of the console, a page for the person.

    A proxy that serves the receiver below `root_path` may have removed it from the URL.
    """
    reply = reply_to(refusal)
    path = url.partition(b"?")[0].decode("latin-1")
    if not is_for_console(path) and not is_for_console(path.removeprefix(root_path.rstrip("/"))):
        return reply
    body = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        "<title>That did not work · Hookmirror</title></head>"
        f"<body><h1>That did not work</h1><p>{escape(refusal.message)}</p>"
        '<p><a href="?">The same page without filters</a></p></body></html>\n'
    )
    return Reply(reply.status, body.encode(), (*reply.headers, *_PAGE_HEADERS), closes=reply.closes)


def framed(headers: Iterable[HeaderPair], length: int, *, closes: bool) -> list[HeaderPair]:
    """Add the headers with the length of the body in bytes, and with the end of the connection if it `closes`."""
    lines = [*headers, (b"content-length", b"%d" % length)]
    if not any(name == b"content-type" for name, _ in headers):
        lines.insert(-1, (b"content-type", b"application/json"))
    if closes:
        lines.append((b"connection", b"close"))
    return lines
