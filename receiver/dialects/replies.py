"""Replies that a dialect defines: the answer to a challenge, and replacements of the usual 2xx or refusal."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from receiver.codec import storable
from receiver.errors import WiringError

#: The most bytes of a reply that a dialect defines.
LARGEST_REPLY = 4_096

#: The headers that such a reply may have in addition to those that the server sets.
REPLY_HEADERS = frozenset({"allow", "webhook-allowed-origin", "webhook-allowed-rate"})

_VALUE = re.compile(r"[ -~]{0,512}")


@dataclass(frozen=True, slots=True)
class SenderReply:
    """A reply to a sender that expects something else than Hookmirror's JSON.

    In the body, U+FFFD replaces each NUL and each lone surrogate. Raises `WiringError` for
    an invalid status, a body larger than 4 KiB, or a header that is not allowed.
    """

    #: 200 to 299, or 400 to 599.
    status: int
    body: str = ""
    content_type: Literal["text/plain", "application/json"] = "text/plain"
    headers: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if type(self.status) is not int or not 200 <= self.status <= 599 or 300 <= self.status <= 399:
            raise WiringError(f"A SenderReply has the status {self.status!r}: use one of 200 to 299 or 400 to 599.")
        body = storable(self.body) if isinstance(self.body, str) else None
        if body is None or len(body.encode()) > LARGEST_REPLY:
            raise WiringError(f"The body of a SenderReply is text of at most {LARGEST_REPLY} bytes: shorten it.")
        object.__setattr__(self, "body", body)
        if not isinstance(self.content_type, str) or self.content_type not in ("text/plain", "application/json"):
            raise WiringError('The content_type of a SenderReply is "text/plain" or "application/json".')
        if not all(isinstance(each, str) for pair in self.headers.items() for each in pair):
            raise WiringError("The headers of a SenderReply are names and values in text: convert them.")
        # Plain texts, because the methods of a subclass would run while the answer is sent.
        object.__setattr__(self, "content_type", str.__str__(self.content_type))
        headers = {str.__str__(name): str.__str__(value) for name, value in self.headers.items()}
        object.__setattr__(self, "headers", headers)
        for name, value in headers.items():
            if name.lower() not in REPLY_HEADERS or not _VALUE.fullmatch(value):
                raise WiringError(
                    f"A SenderReply cannot have the header {name!r} with this value: use one line of printable ASCII "
                    f"in {', '.join(sorted(REPLY_HEADERS))}."
                )

    def on_the_wire(self) -> tuple[bytes, tuple[tuple[bytes, bytes], ...]]:
        """The body and the headers, which keep browsers from showing the reply as a page."""
        content_type = f"{self.content_type}; charset=utf-8" if self.content_type == "text/plain" else self.content_type
        lines = {"content-type": content_type, "x-content-type-options": "nosniff", "cache-control": "no-store"}
        named = {**{name.lower(): value for name, value in self.headers.items()}, **lines}
        return self.body.encode(), tuple((key.encode(), each.encode()) for key, each in named.items())


def accepting(dialect: str, reply: SenderReply | None) -> SenderReply | None:
    """Check a reply for accepted webhooks. Raises `WiringError` if it would make the sender retry."""
    if reply is not None and (not isinstance(reply, SenderReply) or reply.status >= 300):
        raise WiringError(f"on_accept of the dialect {dialect} is a SenderReply with a status from 200 to 299.")
    return reply


def refusing(dialect: str, reply: SenderReply | int | None) -> SenderReply | int | None:
    """Check a reply or status for refused webhooks. Raises `WiringError` if it would ack them."""
    status = reply.status if isinstance(reply, SenderReply) else reply
    if status is not None and (type(status) is not int or not 400 <= status <= 599):
        raise WiringError(
            f"on_refusal of the dialect {dialect} must be a status from 400 to 599, or a SenderReply with such a one."
        )
    return reply
