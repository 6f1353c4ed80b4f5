"""Replies of a dialect's own: the answer to a challenge, and how a sender wants a 2xx or a refusal to look."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from receiver.errors import WiringError

#: Bytes of a reply of a dialect's own.
LARGEST_REPLY = 4_096

#: Headers that such a reply may have, besides those that the server sets.
REPLY_HEADERS = frozenset({"allow", "webhook-allowed-origin", "webhook-allowed-rate"})

_VALUE = re.compile(r"[ -~]{0,512}")


@dataclass(frozen=True, slots=True)
class SenderReply:
    """What a sender is told, where it wants something else than our JSON.

    Raises `WiringError` for a status that is no answer, a body larger than 4 KiB, or a header that is not allowed.
    """

    #: 200 to 599.
    status: int
    body: str = ""
    content_type: Literal["text/plain", "application/json"] = "text/plain"
    headers: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if type(self.status) is not int or not 200 <= self.status <= 599 or 300 <= self.status <= 399:
            raise WiringError(f"A SenderReply has the status {self.status!r}: use one of 200 to 299 or 400 to 599.")
        if not isinstance(self.body, str) or len(self.body.encode("utf-8", "replace")) > LARGEST_REPLY:
            raise WiringError(f"The body of a SenderReply is text of at most {LARGEST_REPLY} bytes: shorten it.")
        if self.content_type not in ("text/plain", "application/json"):
            raise WiringError('The content_type of a SenderReply is "text/plain" or "application/json".')
        for name, value in self.headers.items():
            if name.lower() not in REPLY_HEADERS or not _VALUE.fullmatch(value):
                raise WiringError(
                    f"A SenderReply cannot have the header {name!r} with this value: use one line of printable ASCII "
                    f"in {', '.join(sorted(REPLY_HEADERS))}."
                )

    def on_the_wire(self) -> tuple[bytes, tuple[tuple[bytes, bytes], ...]]:
        """Its body and its headers. No browser takes it for a page."""
        content_type = f"{self.content_type}; charset=utf-8" if self.content_type == "text/plain" else self.content_type
        lines = {"content-type": content_type, "x-content-type-options": "nosniff", "cache-control": "no-store"}
        named = {**{name.lower(): value for name, value in self.headers.items()}, **lines}
        return self.body.encode("utf-8", "replace"), tuple((key.encode(), each.encode()) for key, each in named.items())


def accepting(dialect: str, reply: SenderReply | None) -> SenderReply | None:
    """The reply as one to what is accepted. Raises `WiringError` if it would tell the sender to send it again."""
    if reply is not None and (not isinstance(reply, SenderReply) or reply.status >= 300):
        raise WiringError(f"on_accept of the dialect {dialect} is a SenderReply with a status from 200 to 299.")
    return reply


def refusing(dialect: str, reply: SenderReply | int | None) -> SenderReply | int | None:
    """The reply, or the status, as one to what is refused. Raises `WiringError` if it would ack it."""
    status = reply.status if isinstance(reply, SenderReply) else reply
    if status is not None and (type(status) is not int or not 400 <= status <= 599):
        raise WiringError(f"on_refusal of the dialect {dialect} is no status from 400 to 599, nor a reply with one.")
    return reply
