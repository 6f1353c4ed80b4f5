"""Asking the source over HTTP: compares one row of the mirror with its source, and repairs it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from functools import partial
from time import monotonic
from typing import Annotated, Any, Literal

from msgspec import Meta
from sqlalchemy import RowMapping

from receiver import codec
from receiver.api.actions import IDEMPOTENCY_KEY
from receiver.api.operations import Operation, Parameter, Question
from receiver.api.parameters import known_table, plain_text
from receiver.api.reads import Reads
from receiver.api.tokens import Scope
from receiver.daemon_threads import DaemonThreads
from receiver.database.database import Database
from receiver.dialects.sources import Source
from receiver.errors import (
    ApiError,
    BadRequest,
    ConfigurationError,
    KeyUsed,
    NotAskable,
    NotFound,
    SourceAway,
    Unavailable,
    Unreadable,
    WiringError,
)
from receiver.loading import foreign_code
from receiver.mirror.rows import MirrorRow, tables_by_name
from receiver.reconcile.ask import ReasonError, SourceAnswer
from receiver.runs import asking
from receiver.runs.asking import AnsweredBefore
from receiver.runs.runs import Verbs
from receiver.schemas import Moment, Shape
from receiver.worker.processes import Wiring

#: The most simultaneous questions to sources, and the timeout of one in seconds.
ASKED_AT_ONCE, LONGEST_ANSWER_SECONDS = 2, 60.0

#: The advice about a lookup that does not end.
GIVE_A_TIMEOUT = (
    "If it never ends, restart this process, and correct the lookup: each of its requests needs a timeout, as the "
    "client of `connect` has by default."
)


class AskedColumn(Shape, frozen=True):
    """The values of one column in the mirror and at the source."""

    name: str
    here: Any
    there: Any
    equal: bool


class AskedRow(Shape, frozen=True):
    """The source's answer about one row, compared with the mirror."""

    table: str
    source: str
    external_id: str
    asked_at: Moment
    seconds: Annotated[float, Meta(description="Seconds that the source took to answer.")]
    known_here: Annotated[bool, Meta(description="Whether the mirror has the row, a tombstone included.")]
    known_there: bool
    changed_here: Moment | None
    changed_there: Annotated[
        Moment | None, Meta(description="The time of the last change, if the source's answer has one.")
    ]
    equal: bool
    columns: Annotated[
        list[AskedColumn],
        Meta(description="If `again` is true, only some that differed, with long values cut."),
    ]
    damaged: Annotated[bool, Meta(description="Whether the mirror's row was edited by hand, and takes no news.")]
    mended: Annotated[bool, Meta(description="Whether the repair wrote the damaged row again.")]
    repaired: Annotated[int | None, Meta(description="The number of rows that the repair changed; null without one.")]
    left: Annotated[
        Literal["newer", "delivery"] | None,
        Meta(description="The reason without a repair: the mirror has newer news, or a delivery arrived meanwhile."),
    ]
    action: Annotated[str, Meta(description="The id of the action that records it.")]
    again: Annotated[
        bool, Meta(description="Whether the same request was carried out before, so that nothing was done now.")
    ] = False


def show_asked(asked: SourceAnswer) -> AskedRow:
    return AskedRow(
        table=asked.table,
        source=asked.source,
        external_id=asked.external_id,
        asked_at=asked.asked_at,
        seconds=asked.seconds,
        known_here=asked.known_here,
        known_there=asked.known_there,
        changed_here=asked.changed_here,
        changed_there=asked.changed_there,
        equal=asked.equal,
        columns=[AskedColumn(each.name, each.here, each.there, each.equal) for each in asked.columns],
        damaged=asked.damaged,
        mended=asked.mended,
        repaired=None if asked.repaired is None else len(asked.repaired),
        left=asked.left,
        action=str(asked.action),
    )


def show_recorded(action: RowMapping) -> AskedRow:
    """Format the answer that an action has recorded, for a repetition of its request."""
    answer = action["result"]
    columns = [
        AskedColumn(each["column"], _recorded_value(each["here"]), _recorded_value(each["there"]), False)
        for each in answer["differ"]
    ]
    return AskedRow(
        table=action["arguments"]["table"],
        source=action["arguments"]["source"],
        external_id=action["arguments"]["external_id"],
        asked_at=action["at"],
        seconds=answer["milliseconds"] / 1_000,
        known_here=answer["known_here"],
        known_there=answer["known_there"],
        changed_here=_moment(answer["changed_here"]),
        changed_there=_moment(answer["changed_there"]),
        equal=not columns,
        columns=columns,
        damaged=answer["damaged"],
        mended=answer.get("mended", False),
        repaired=answer.get("rows"),
        left=answer.get("left"),
        action=str(action["id"]),
        again=True,
    )


def _recorded_value(text: str) -> Any:
    """A value as an action keeps it: JSON text, which may have been cut and is then shown as text."""
    try:
        return codec.decode(text)
    except Unreadable:
        return text


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


ASKED_TABLE = Parameter("table", {"type": "string"}, "The name of a table.", str, "")
ASKED_SOURCE = Parameter("source", {"type": "string"}, "The name of a source in the settings.", str, "")
ASKED_ID = Parameter("external_id", {"type": "string"}, "The id at the source. It may hold slashes.", str, "")
REPAIR_REASON = replace(plain_text("reason", "The reason for the repair, in 3 to 200 characters."), is_required=True)


class SourceQuestions:
    """The operations that ask a source. They cost calls of its API, so they require the scope `operate`."""

    def __init__(self, database: Database, sources: Callable[[], Mapping[str, Source]]) -> None:
        """`sources` returns the sources of the settings in force."""
        self._database, self.sources = database, sources
        #: The source and the beginning, in monotonic seconds, of each lookup under way.
        self._under_way: dict[int, tuple[str, float]] = {}
        self._turns = Reads(
            at_once=ASKED_AT_ONCE, seconds=LONGEST_ANSWER_SECONDS, threads=DaemonThreads("asks a source")
        )

    def close(self) -> None:
        self._turns.close()

    def operations(self) -> list[Operation]:
        path = "/api/v1/catalog/{table}/{source}/{external_id:path}"
        asked: dict[str, Any] = {
            "method": "post",
            "answers": {200: AskedRow},
            "scope": Scope.OPERATE,
            "refusals": (BadRequest, NotFound, NotAskable, KeyUsed, SourceAway, Unavailable),
        }
        row = (ASKED_TABLE, ASKED_SOURCE, ASKED_ID)
        return [
            Operation(
                name="ask_source",
                path=f"{path}/ask",
                summary="Compare one row with its source, now",
                answer=self.ask,
                parameters=(*row, IDEMPOTENCY_KEY),
                **asked,
            ),
            Operation(
                name="repair_row",
                path=f"{path}/repair",
                summary="Ask the source for one row, and repair the mirror by its answer",
                answer=self.repair,
                parameters=(*row, REPAIR_REASON, IDEMPOTENCY_KEY),
                **asked,
            ),
        ]

    async def ask(self, asked: Question) -> AskedRow:
        return await self._in_turn(asked, asking.ask)

    async def repair(self, asked: Question) -> AskedRow:
        return await self._in_turn(asked, partial(asking.repair, reason=asked[REPAIR_REASON] or ""))

    async def _in_turn(self, asked: Question, verb: Callable[..., SourceAnswer]) -> AskedRow:
        """Ask when there is a turn. Raises `Unavailable`, which names the lookups that hold the turns."""
        began: list[float] = []

        def ask() -> AskedRow:
            began.append(monotonic())
            self._under_way[id(began)] = asked[ASKED_SOURCE], began[0]
            try:
                return self._ask(asked, verb)
            finally:
                del self._under_way[id(began)]

        try:
            return await self._turns.run(ask)
        except Unavailable as refusal:
            if id(began) in self._under_way:
                raise Unavailable(
                    f"The lookup of {asked[ASKED_SOURCE]} has not answered within {LONGEST_ANSWER_SECONDS:.0f} "
                    f"seconds. It goes on, and if it ends, the list of actions says so. {GIVE_A_TIMEOUT}"
                ) from None
            if began:
                raise
            raise Unavailable(self._all_taken() or refusal.message) from None

    def _all_taken(self) -> str:
        """The sentence about the lookups under way; empty without any."""
        now, under_way = monotonic(), [*self._under_way.values()]
        told = ", ".join(f"that of {source} for {now - began:.0f} s" for source, began in sorted(under_way))
        if not told:
            return ""
        return (
            f"Nothing was asked, because {ASKED_AT_ONCE} lookups at once may be under way, and others have not ended: "
            f"{told}. Ask again later. {GIVE_A_TIMEOUT}"
        )

    def _ask(self, asked: Question, verb: Callable[..., SourceAnswer]) -> AskedRow:
        sources = self.sources()
        source = sources.get(asked[ASKED_SOURCE])
        if source is None:
            raise NotFound(f"There is no source {asked[ASKED_SOURCE][:64]!r} in the settings.")
        verbs = Verbs(self._database, Wiring.of(sources))
        try:
            with foreign_code(f"The lookup of {source.name}"):
                return _answered(partial(verb, verbs, source), asked)
        except ReasonError as error:
            raise BadRequest(str(error)) from None
        except (ApiError, WiringError) as error:
            raise SourceAway(str(error)) from None
        except ConfigurationError as error:
            raise NotAskable(str(error)) from None


def _answered(verb: Callable[..., SourceAnswer], asked: Question) -> AskedRow:
    try:
        row = (_table(asked[ASKED_TABLE]), asked[ASKED_ID])
        return show_asked(verb(*row, by=asked.by, key=asked[IDEMPOTENCY_KEY]))
    except AnsweredBefore as answered:
        try:
            return show_recorded(answered.action)
        except (KeyError, TypeError, ValueError):
            raise KeyUsed(
                f"The request was carried out as action {answered.action['id']}, whose record was edited by hand: "
                "check its effect before you ask again with a new key."
            ) from None


def _table(name: str) -> type[MirrorRow]:
    tables = tables_by_name()
    return tables[known_table(name, tables)]
