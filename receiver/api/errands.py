"""Errands over HTTP: requests that this process sends to other processes, or to the address of a source."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

from msgspec import Meta

from receiver.api.actions import IDEMPOTENCY_KEY
from receiver.api.operations import Operation, Parameter, Question
from receiver.api.reads import Reads
from receiver.api.tokens import Scope
from receiver.codec import describe_shape
from receiver.database.database import Database
from receiver.database.errors import retry_transaction
from receiver.dialects.sources import Source
from receiver.errors import BadRequest, ConfigurationError, KeyUsed, NotAskable, NotFound, Unavailable
from receiver.http_urls import shown_url
from receiver.metrics.few_names import TEST_EVENT_TYPE
from receiver.runs.actions import Asked, By, Effect, answer_of, forget, note_result, perform
from receiver.schemas import Shape

#: The most errands at once, and the timeout of one in seconds.
ERRANDS_AT_ONCE, LONGEST_ERRAND_SECONDS = 2, 45.0

#: The verb of the action.
SEND_TEST_EVENT = "send test event"

#: The recorded answer until the address has answered.
NOT_ANSWERED_YET = (
    "A test event is on its way, or the process ended before it was answered: repeat the request in a minute, or look "
    "for the event among the newest deliveries of the source."
)


class ReloadedProcess(Shape, frozen=True):
    """The result of one process that was asked to read its settings again."""

    process: str
    taken: Annotated[
        bool | None, Meta(description="Whether it has the present settings; null for a process that was not asked.")
    ]
    says: str


class Reloaded(Shape, frozen=True):
    items: list[ReloadedProcess]
    says: Annotated[str, Meta(description="The results in words.")]


class SentTestEvent(Shape, frozen=True):
    """The answer of a source's address to a test event."""

    address: str
    event_type: str
    status: Annotated[int | None, Meta(description="The status of the answer; null if there was none.")]
    delivery: Annotated[str | None, Meta(description="The delivery that stores the event.")]
    says: Annotated[str, Meta(description="The result in words.")]
    again: Annotated[
        bool, Meta(description="Whether the same request was carried out before, so that nothing was sent now.")
    ] = False


describe_shape(SentTestEvent)

TESTED_SOURCE = Parameter("source", {"type": "string"}, "The name of a source in the settings.", str, "")


class Errands:
    """Asks processes to read their settings again, and sends test events."""

    def __init__(
        self,
        database: Database,
        sources: Callable[[], Mapping[str, Source]],
        *,
        reload: Callable[[By], Reloaded] | None = None,
        send: Callable[[Source], SentTestEvent] | None = None,
    ) -> None:
        """`sources` returns the sources of the settings in force.

        `reload` asks the processes for a person, and records the action; `send` sends a test event to its source.
        """
        self._database, self._sources = database, sources
        self._reload_all, self._send = reload, send
        self._turns = Reads(at_once=ERRANDS_AT_ONCE, seconds=LONGEST_ERRAND_SECONDS)

    def close(self) -> None:
        self._turns.close()

    def operations(self) -> list[Operation]:
        return [
            Operation(
                name="reload_settings",
                method="post",
                path="/api/v1/reload",
                summary="Have the processes of this machine read their settings again",
                answer=self.reload,
                answers={200: Reloaded},
                scope=Scope.OPERATE,
                refusals=(BadRequest, Unavailable),
            ),
            Operation(
                name="send_test_event",
                method="post",
                path="/api/v1/sources/{source}/test",
                summary="Send a test event to the address of a source, signed as its sender signs; no handler takes it",
                answer=self.test,
                answers={200: SentTestEvent},
                scope=Scope.OPERATE,
                parameters=(TESTED_SOURCE, IDEMPOTENCY_KEY),
                refusals=(BadRequest, NotFound, NotAskable, KeyUsed, Unavailable),
            ),
        ]

    async def reload(self, asked: Question) -> Reloaded:
        """Ask the processes, and wait for their results. Raises `Unavailable` if none is registered."""
        return await self._turns.run(lambda: self._reload(asked))

    async def test(self, asked: Question) -> SentTestEvent:
        """Send a test event. Raises `NotFound`, and `NotAskable` without an address or a body to send."""
        return await self._turns.run(lambda: self._test(asked))

    def _reload(self, asked: Question) -> Reloaded:
        try:
            if self._reload_all is None:
                raise Unavailable("This process cannot ask others to read their settings: run `hookmirror reload`.")
            return self._reload_all(asked.by)
        except ConfigurationError as error:
            raise Unavailable(str(error)) from None

    def _test(self, asked: Question) -> SentTestEvent:
        source = self._sources().get(asked[TESTED_SOURCE])
        if source is None or self._send is None:
            raise NotFound(f"There is no source {asked[TESTED_SOURCE][:64]!r} in the settings.")
        return self._send_once(asked, source, self._send)

    def _send_once(self, asked: Question, source: Source, send: Callable[[Source], SentTestEvent]) -> SentTestEvent:
        """Send a test event, unless the same request has sent one. The action is recorded first, and completed."""
        arguments = {"source": source.name, "event_type": TEST_EVENT_TYPE}
        request = Asked(by=asked.by, what=SEND_TEST_EVENT, arguments=arguments, key=asked[IDEMPOTENCY_KEY])
        begun: list[int] = []
        address = shown_url(source.settings.registered_url or "")
        open_yet = SentTestEvent(address, TEST_EVENT_TYPE, None, None, NOT_ANSWERED_YET)
        effect = Effect(1, _result(open_yet), thing="event", then=begun.append)
        done = perform(self._database, request, lambda _: effect, now=datetime.now(UTC))
        if done is not None and done.again:
            return answer_of(done, SentTestEvent, event_type=TEST_EVENT_TYPE, again=True)
        try:
            sent = send(source)
        except BaseException as error:
            # Nothing was sent, or what was sent is unknown; either way, the same request may send one.
            with self._database.write() as connection:
                forget(connection, begun[-1])
            if isinstance(error, ConfigurationError):
                raise NotAskable(str(error)) from None
            raise
        retry_transaction(lambda: self._complete(begun[-1], sent))
        return sent

    def _complete(self, action: int, sent: SentTestEvent) -> None:
        with self._database.write() as connection:
            note_result(connection, action, _result(sent))


def _result(sent: SentTestEvent) -> dict[str, Any]:
    """The part of the answer that the action keeps."""
    return {"address": sent.address, "status": sent.status, "delivery": sent.delivery, "says": sent.says}
