"""Frames: the messages between a serving process and its acceptor process over a socket.

A frame is its length in four bytes, and a value in MessagePack. Frames of answers come in the order of the requests.
"""

from __future__ import annotations

import struct
from typing import Literal

import msgspec

from receiver.dialects.replies import SenderReply
from receiver.errors import Refused
from receiver.inbox.arrival import Accepted, Arrival
from receiver.inbox.tables import State
from receiver.ingest.refused import OUR_REFUSALS

_LENGTH = struct.Struct(">I")


class SentRequest(msgspec.Struct, array_like=True, frozen=True):
    """A complete webhook, as `receiver.ingest.admission.Request` without the objects of its source."""

    source: str
    headers: list[tuple[bytes, bytes]]
    body: bytes
    target: bytes


class SentRequests(msgspec.Struct, array_like=True, frozen=True):
    """Requests that were handed over together."""

    #: Their time of arrival, in seconds since 1970 in UTC.
    at: float
    requests: list[SentRequest]


class Stored(msgspec.Struct, array_like=True, frozen=True, tag=0):
    """A webhook that is stored, with what the metrics count."""

    is_new: bool
    delivery_id: int
    #: The position of the secret that verified it; None for an unsigned one.
    secret: int | None
    #: The state if it is new and ended on arrival, and the event type if no handler takes it; None otherwise.
    ended: str | None = None
    unhandled: str | None = None
    #: Each event of a bundle.
    items: tuple[Stored, ...] = ()
    #: The mark of the secret; empty if unknown. The serving process may have other secrets since a reload.
    mark: str = ""

    @classmethod
    def of(cls, arrival: Arrival, answer: Accepted) -> Stored:
        is_new = answer.status == "accepted"
        items: tuple[Stored, ...] = ()
        if answer.items:
            pairs = zip(arrival.each(), answer.items, strict=True)
            items = tuple(cls.of(each, Accepted(item.status, item.delivery_id)) for each, item in pairs)
        if not is_new or items or arrival.state is State.PENDING:
            return cls(is_new, answer.delivery_id, arrival.secret, items=items, mark=arrival.mark)
        ended, unhandled = arrival.state.value, arrival.unhandled
        return cls(is_new, answer.delivery_id, arrival.secret, ended, unhandled, mark=arrival.mark)

    @property
    def status(self) -> Literal["accepted", "duplicate"]:
        return "accepted" if self.is_new else "duplicate"

    @property
    def accepted(self) -> Accepted:
        """The answer to the sender."""
        return Accepted(self.status, self.delivery_id, [each.accepted for each in self.items])


class SentRefusal(msgspec.Struct, array_like=True, frozen=True, tag=1):
    """A refusal: the name of its class, its message, and its other values."""

    kind: str
    message: str
    values: dict[str, str | int | bool]

    @classmethod
    def of(cls, refusal: Refused) -> SentRefusal:
        """Make it of a refusal of our own class, as `receiver.ingest.refused.in_our_words` returns it."""
        return cls(type(refusal).__name__, refusal.message, vars(refusal))

    @property
    def refusal(self) -> Refused:
        kind = OUR_REFUSALS[self.kind]
        made = kind.__new__(kind, self.message)
        vars(made).update(self.values)
        return made


class SentReply(msgspec.Struct, array_like=True, frozen=True, tag=2):
    """The answer to a challenge."""

    status: int
    body: str
    content_type: str
    headers: dict[str, str]

    @classmethod
    def of(cls, reply: SenderReply) -> SentReply:
        return cls(reply.status, reply.body, reply.content_type, dict(reply.headers))

    @property
    def reply(self) -> SenderReply:
        return SenderReply(self.status, self.body, self.content_type, self.headers)  # type: ignore[arg-type]


SentAnswer = Stored | SentRefusal | SentReply


class SentAnswers(msgspec.Struct, array_like=True, frozen=True):
    """The answers to the requests of one frame, in their order."""

    answers: list[SentAnswer]
    #: Whether the database failed to store them; None if every request was refused, which says nothing about it.
    failed: bool | None = False
    #: The challenges that the process has counted since the last frame: source, result and number.
    challenges: list[tuple[str, str, int]] = []


#: The first frame of the acceptor process: it is ready.
READY = SentAnswers([])

_encoder = msgspec.msgpack.Encoder()
_requests = msgspec.msgpack.Decoder(SentRequests)
_answers = msgspec.msgpack.Decoder(SentAnswers)


def framed(value: SentRequests | SentAnswers) -> bytes:
    """The frame of a value."""
    return with_length(_encoder.encode(value))


def with_length(content: bytes) -> bytes:
    """The frame of a content that is encoded already."""
    return _LENGTH.pack(len(content)) + content


def requests_of(content: bytes) -> SentRequests:
    return _requests.decode(content)


def answers_of(content: bytes) -> SentAnswers:
    return _answers.decode(content)


class Unframing:
    """Cuts the bytes that arrive into the contents of frames."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """The contents of the frames that are complete with these bytes."""
        self._bytes += data
        contents = []
        begin = 0
        while len(self._bytes) >= (body := begin + _LENGTH.size):
            (size,) = _LENGTH.unpack_from(self._bytes, begin)
            if len(self._bytes) < body + size:
                break
            contents.append(bytes(self._bytes[body : body + size]))
            begin = body + size
        del self._bytes[:begin]
        return contents
