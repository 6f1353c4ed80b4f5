"""Errands over HTTP: requests that this process sends to other processes, or to the address of a source."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

from msgspec import Meta

from receiver.api.operations import Operation, Parameter, Question
from receiver.api.reads import Reads
from receiver.api.tokens import Scope
from receiver.database.database import Database
from receiver.dialects.sources import Source
from receiver.errors import BadRequest, ConfigurationError, NotAskable, NotFound, Unavailable
from receiver.runs.actions import Asked, By, Effect, record
from receiver.schemas import Shape

#: The most errands at once, and the timeout of one in seconds.
ERRANDS_AT_ONCE, LONGEST_ERRAND_SECONDS = 2, 45.0


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
                parameters=(TESTED_SOURCE,),
                refusals=(BadRequest, NotFound, NotAskable, Unavailable),
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
        try:
            sent = self._send(source)
        except ConfigurationError as error:
            raise NotAskable(str(error)) from None
        result = {"status": sent.status, "delivery": sent.delivery}
        arguments = {"source": source.name, "event_type": sent.event_type}
        self._record(asked, "send test event", arguments, Effect(1, result, thing="event"))
        return sent

    def _record(self, asked: Question, what: str, arguments: Mapping[str, Any], effect: Effect) -> None:
        """Record an action after its effect."""
        with self._database.write() as connection:
            record(connection, Asked(by=asked.by, what=what, arguments=arguments), effect, now=datetime.now(UTC))
