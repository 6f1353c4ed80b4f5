"""Processes over HTTP."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from msgspec import Meta

from receiver.api.lookup import Lookup
from receiver.api.operations import Operation, Question
from receiver.api.tokens import Scope
from receiver.errors import BadRequest, Unavailable
from receiver.schemas import Moment, Shape
from receiver.worker.processes import Kind, running


class ProcessShown(Shape, frozen=True):
    """A process with a recent sign of life."""

    host: str
    pid: int
    kind: Kind
    release: Annotated[str, Meta(description="Of Hookmirror.")]
    fingerprint: Annotated[str, Meta(description="Equal for processes with equal sources and handlers.")]
    started_at: Moment
    seen_at: Moment


class ProcessList(Shape, frozen=True):
    items: list[ProcessShown]
    as_of: Moment


class Processes:
    """Lists running processes: `/api/v1/processes`."""

    def __init__(self, lookup: Lookup) -> None:
        self._database = lookup.database

    def operations(self) -> list[Operation]:
        return [
            Operation(
                name="list_processes",
                path="/api/v1/processes",
                summary="The processes that serve, work, or show the console, the longest running first",
                answer=self.list_processes,
                answers={200: ProcessList},
                scope=Scope.READ,
                refusals=(BadRequest, Unavailable),
            )
        ]

    def list_processes(self, _: Question) -> ProcessList:
        """List the processes with a sign of life within the last minute."""
        now = datetime.now(UTC)
        with self._database.read() as connection:
            found = running(connection, now)
        shown = [{name: row[name] for name in ProcessShown.__struct_fields__} for row in found]
        return ProcessList([ProcessShown(**{**each, "kind": Kind(each["kind"])}) for each in shown], now)
