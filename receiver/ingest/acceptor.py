"""The acceptor process's work: admits the requests that a serving process sends, stores them, and answers."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from itertools import islice

import structlog

from receiver.dialects.replies import SenderReply
from receiver.errors import Refused, Unavailable
from receiver.inbox.arrival import Accepted, Arrival
from receiver.ingest.admission import Admitted, Request, admit
from receiver.ingest.channel import READ_BYTES
from receiver.ingest.frames import (
    READY,
    SentAnswer,
    SentAnswers,
    SentRefusal,
    SentReply,
    SentRequest,
    SentRequests,
    Stored,
    Unframing,
    framed,
    requests_of,
)
from receiver.ingest.gathering import not_answered, not_stored
from receiver.ingest.group_commit import LARGEST_BATCH, Storing, how_many
from receiver.ingest.source import VerifiableSource
from receiver.logs.repeats import Repeats
from receiver.logs.safe_text import name_of, told
from receiver.metrics import metrics

log = structlog.get_logger(__name__)

#: For lines that a stranger may cause.
_repeated = Repeats(log)


class Acceptor:
    """Serves one serving process, over one socket, in one thread."""

    def __init__(self, channel: socket.socket, sources: Mapping[str, VerifiableSource], storing: Storing) -> None:
        self._channel, self._sources, self._storing = channel, sources, storing

    def serve(self) -> None:
        """Serve until the other side closes the socket."""
        # The other side may be gone at any moment. Senders send again what was stored and not answered.
        with suppress(BrokenPipeError, ConnectionResetError):
            self._serve()

    def _serve(self) -> None:
        self._channel.sendall(framed(READY))
        for frames in self._arriving():
            admitted = [self._admitted(frame) for frame in frames]
            arrivals = [each for results in admitted for each in results if isinstance(each, Arrival)]
            accepted, failed = self._accepted(arrivals)
            sent = [_framed_answers(results, accepted, failed, metrics.take_challenges()) for results in admitted]
            self._channel.sendall(b"".join(sent))

    def _arriving(self) -> Iterator[list[SentRequests]]:
        """Yield the frames that have arrived, so that they share a commit."""
        unframing = Unframing()
        while data := self._channel.recv(READ_BYTES):
            frames = [requests_of(content) for content in unframing.feed(data)]
            if frames:
                yield frames

    def _admitted(self, frame: SentRequests) -> list[Admitted]:
        now = datetime.fromtimestamp(frame.at, UTC)
        known = [self._request(each) for each in frame.requests if each.source in self._sources]
        admitted = iter(admit(known, now=now))
        return [next(admitted) if each.source in self._sources else _unknown(each.source) for each in frame.requests]

    def _request(self, sent: SentRequest) -> Request:
        return Request(self._sources[sent.source], sent.headers, sent.body, sent.target)

    def _accepted(self, arrivals: Sequence[Arrival]) -> tuple[Mapping[int, Accepted], bool]:
        """Store the arrivals. Return the answers by the arrival's identity, and whether the database failed."""
        answers: dict[int, Accepted] = {}
        for batch in _batches(arrivals):
            try:
                stored = self._storing.store(batch)
            except Exception as error:
                self._storing.outage.failed(name_of(error), error=told(error))
                return answers, True
            answers |= {id(each): answer for each, answer in zip(batch, stored, strict=True) if answer is not None}
        return answers, False


def _batches(arrivals: Sequence[Arrival]) -> Iterator[list[Arrival]]:
    """Cut the arrivals into batches of bounded size."""
    rest = iter(arrivals)
    waiting = list(islice(rest, LARGEST_BATCH))
    while waiting:
        taken = how_many(waiting)
        yield waiting[:taken]
        waiting = waiting[taken:] + list(islice(rest, taken))


def _unknown(source: str) -> Refused:
    """Refuse a request that began before its source was taken out of the settings."""
    return Unavailable(f"The source {source} has just left the settings. Send this again later.")


def _framed_answers(
    results: Sequence[Admitted],
    accepted: Mapping[int, Accepted],
    failed: bool,
    challenges: list[tuple[str, str, int]],
) -> bytes:
    """The frame of the answers. A refusal replaces an answer that cannot be sent, so that the others still arrive."""
    failure = failed if any(isinstance(each, Arrival) for each in results) else None
    try:
        return framed(SentAnswers([_answer(each, accepted) for each in results], failure, challenges))
    except Exception:
        _repeated.exception("cannot send an answer; its sender is asked to retry", about={})
    return framed(SentAnswers([_sendable(each, accepted) for each in results], failure, challenges))


def _sendable(result: Admitted, accepted: Mapping[int, Accepted]) -> SentAnswer:
    try:
        answer = _answer(result, accepted)
        framed(SentAnswers([answer]))
    except Exception:
        return SentRefusal.of(not_answered())
    return answer


def _answer(result: Admitted, accepted: Mapping[int, Accepted]) -> SentAnswer:
    if isinstance(result, Refused):
        return SentRefusal.of(result)
    if isinstance(result, SenderReply):
        return SentReply.of(result)
    answer = accepted.get(id(result))
    if answer is None:
        return SentRefusal.of(not_stored())
    return Stored.of(result, answer)
