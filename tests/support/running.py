"""Runs in tests: planned and stepped by hand on the kit's clock, beside the test's own worker."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from shopping import sources_of
from sqlalchemy import Connection, select

from receiver.dialects.sources import Source
from receiver.inbox.retries import RetrySchedule
from receiver.reconcile import Report, reconcile
from receiver.runs import formatting
from receiver.runs.actions import Asked, By, Via
from receiver.runs.feeder import Feeder
from receiver.runs.reconcile import Reconcile
from receiver.runs.reconciling import reconcile_now
from receiver.runs.replay import Replay
from receiver.runs.runs import Verbs, find
from receiver.runs.tables import RUN_DELIVERIES, RUN_ROWS, RunState
from receiver.testing import Webhooks
from receiver.worker.processes import Wiring

OPS = By("ops-1", Via.COMMAND)


def asked(what: str = "replay", *, reason: str | None = None, by: By = OPS, key: str | None = None, **arguments: Any):
    return Asked(by=by, what=what, arguments=arguments, reason=reason, key=key)


@dataclass
class Runs:
    """The verbs of runs on one kit, and a feeder that is stepped by hand."""

    kit: Webhooks
    batch_size: int = 200

    def __post_init__(self) -> None:
        self.sources = sources_of(self.kit)
        self.verbs = Verbs(self.kit.database, Wiring.of(self.sources))
        self.feeder = self.new_feeder()

    def new_feeder(self) -> Feeder:
        kit = self.kit
        replay = Replay(
            kit.database, kit.inbox, self.sources, RetrySchedule(), batch_size=self.batch_size, clock=kit.now
        )
        return Feeder(kit.database, [replay], clock=kit.now)

    def plan(self, *ids: int, **arguments: Any) -> int:
        """Plan a replay to the end, with its forecast, and return the run."""
        run = self.begin_plan(*ids, **arguments)
        while self.feeder.step(run):
            pass
        assert self.run(run)["state"] == RunState.PLANNED
        return run

    def begin_plan(self, *ids: int, **arguments: Any) -> int:
        done = self.verbs.plan(asked("plan replay", **arguments), "replay", ids=ids, now=self.kit.now())
        return int(done.result["run"])

    def start(self, run: int, *, reason: str = "after a fix", **options: Any) -> None:
        self.verbs.start(asked("start run", reason=reason, run=run, **options), run, now=self.kit.now())

    def finish(self, run: int, *, feeder: Feeder | None = None, most: int = 1_000) -> None:
        """Step the feeder and the worker until the run is done."""
        feeder = feeder or self.feeder
        for _ in range(most):
            more = feeder.step(run)
            self.kit.drain()
            if not more and self.run(run)["state"] == RunState.DONE:
                return
        raise AssertionError(f"run {run} does not end: {self.run(run)}")

    def run(self, run: int) -> Mapping[str, Any]:
        with self.kit.database.read() as connection:
            return find(connection, run)

    def whole(self, connection: Connection, run: int) -> dict[str, Any]:
        """Return the run with its forecast, as commands and API show it."""
        return formatting.whole_run(connection, run, rows=10, wiring=self.verbs.wiring, now=self.kit.now())

    def items(self, run: int) -> dict[int, Mapping[str, Any]]:
        found = select(RUN_DELIVERIES).where(RUN_DELIVERIES.c.run == run)
        with self.kit.database.read() as connection:
            return {row["delivery_id"]: row for row in connection.execute(found).mappings()}

    def rows(self, run: int) -> list[Mapping[str, Any]]:
        with self.kit.database.read() as connection:
            return list(connection.execute(select(RUN_ROWS).where(RUN_ROWS.c.run == run)).mappings())


def new_reconciler(
    kit: Webhooks, *, sources: Mapping[str, Source] | None = None, clock: Callable[[], datetime] | None = None
) -> Feeder:
    """Make a feeder of the runs that ask the sources' APIs; its clock is the kit's unless another is given."""
    now = clock or kit.now
    kinds = [Reconcile(kit.inbox, sources or sources_of(kit), now, only_misdated=only) for only in (False, True)]
    return Feeder(kit.database, kinds, clock=now)


def reconciled(
    kit: Webhooks, source: Source, *, dry_run: bool = False, clock: Callable[[], datetime] | None = None, **options: Any
) -> Report:
    """Reconcile the source as a run to its end, and return the report. With `dry_run`, only report."""
    now = clock or kit.now
    if dry_run:
        return reconcile(kit.database, source, dry_run=True, clock=now, **options)
    sources = {source.name: source}
    feeder = new_reconciler(kit, sources=sources, clock=now)
    verbs = Verbs(kit.database, Wiring.of(sources))
    try:
        return reconcile_now(verbs, feeder, source, by=OPS, reason="a test", clock=now, **options)
    finally:
        feeder.close()
