"""Probes: liveness, readiness and metrics, which need no token."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

from msgspec import Meta
from starlette.concurrency import run_in_threadpool

from receiver.api.exposition import MEDIA_TYPE, Exposition, unknown
from receiver.api.operations import Operation, Question
from receiver.api.readiness import Readiness
from receiver.api.reads import Reads
from receiver.errors import Unavailable
from receiver.metrics import metrics
from receiver.schemas import Alive, Shape


class Ready(Shape, frozen=True):
    status: Literal["ready"]
    warnings: Annotated[list[str], Meta(description="Conditions that a person should mend, and that lose no data.")]


class NotReady(Shape, frozen=True):
    status: Literal["not ready"]
    reason: str


class Probes:
    """The operations without a token, except the document."""

    def __init__(
        self, readiness: Readiness, exposition: Exposition, *, measuring: Reads, warnings: Callable[[], list[str]]
    ) -> None:
        """`measuring` admits one measurement at a time; `warnings` returns those that `/readyz` shows."""
        self._readiness = readiness
        self._exposition = exposition
        self._measuring = measuring
        self._warnings = warnings

    def operations(self) -> list[Operation]:
        return [
            Operation(
                name="healthz",
                path="/healthz",
                summary="Whether the process runs",
                answer=self.healthz,
                answers={200: Alive},
            ),
            Operation(
                name="readyz",
                path="/readyz",
                summary="Whether deliveries can be stored and the backlog is young enough",
                answer=self.readyz,
                answers={200: Ready, 503: NotReady},
            ),
            Operation(
                name="metrics",
                path="/metrics",
                summary="The metrics, as Prometheus reads them",
                answer=self.metrics,
                answers={200: str},
                media_type=MEDIA_TYPE,
            ),
        ]

    async def healthz(self, _: Question) -> Alive:
        return Alive("alive")

    async def readyz(self, _: Question) -> Ready | NotReady:
        """Answer whether deliveries can be stored and the oldest due one is young enough."""
        reason = await self._readiness.reason()
        return Ready("ready", self._warnings()) if reason is None else NotReady("not ready", reason)

    async def metrics(self, _: Question) -> bytes:
        """Return all metrics; those of the database keep their previous values if it does not answer in time."""
        try:
            await self._measuring.run(self._exposition.measure)
        except Unavailable:
            unknown()
        return await run_in_threadpool(metrics.text)
