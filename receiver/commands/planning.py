"""Planning: plans a run for a command, in this process or by a worker of the receiver at `--to`."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from receiver.commands.client_protocol import Client
from receiver.commands.local_client import LocalClient
from receiver.commands.plan_filters import plan_query
from receiver.commands.progress import progress
from receiver.commands.selection import meant_deliveries, source_named
from receiver.errors import ConfigurationError
from receiver.logs.safe_text import told
from receiver.runs.actions import Asked, by_command
from receiver.runs.feeder import Feeder
from receiver.runs.reconcile import check_reconcilable
from receiver.runs.tables import RunState
from receiver.search.filters import DeliveryFilter
from receiver.server.runtime import Runtime
from receiver.worker.processes import Kind

RUNS_PATH = "/api/v1/runs"
RUN_PATH = "/api/v1/runs/{id}"

#: Seconds between two polls of a plan, and seconds after which the command stops waiting for it.
PLAN_POLL, PLAN_TIMEOUT = 0.3, 600.0


class KindOfRun(StrEnum):
    REPLAY = "replay"
    RECONCILE = "reconcile"
    PRUNE = "prune"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """The request of a user to plan a run."""

    kind: KindOfRun = KindOfRun.REPLAY
    #: The ids of single deliveries.
    ids: tuple[int, ...] = ()
    wanted: DeliveryFilter = field(default_factory=DeliveryFilter)
    force: bool = False
    reason: str | None = None

    def check(self) -> None:
        """Raise `ConfigurationError` for options that do not belong to this kind of run."""
        if self.force and self.kind is not KindOfRun.RECONCILE:
            raise ConfigurationError("--force is for a reconcile: leave it out.")
        if self.kind is KindOfRun.RECONCILE and self.wanted.source is None:
            raise ConfigurationError("The source is missing: `hookmirror runs plan reconcile SOURCE`.")
        if self.kind is KindOfRun.RECONCILE and (self.ids or self.wanted != DeliveryFilter(source=self.wanted.source)):
            raise ConfigurationError("A reconcile compares a whole source: give the source, and no deliveries.")
        if self.kind is KindOfRun.PRUNE and (self.ids or self.wanted != DeliveryFilter()):
            raise ConfigurationError("A prune drops all expired data: give no deliveries.")


def plan_with(client: Client, wish: Wish) -> int:
    """Plan a run completely, and return its number. Raises `ConfigurationError` if no deliveries are selected."""
    wish.check()
    return plan_here(client.runtime, wish) if isinstance(client, LocalClient) else _plan_there(client, wish)


def plan_here(runtime: Runtime, wish: Wish, *, forecasts: bool = True) -> int:
    """Plan a run in this process, and return its number. Raises `ConfigurationError` if no deliveries are selected."""
    kind, arguments, sources = wish.kind, dict[str, Any](), list[str]()
    if kind is KindOfRun.REPLAY:
        arguments = meant_deliveries(runtime.database, runtime.sources, wish.ids, wish.wanted)
    elif kind is KindOfRun.RECONCILE:
        source = source_named(runtime.sources, str(wish.wanted.source))
        check_reconcilable(source)
        sources, arguments = [source.name], {"source": source.name, "force": wish.force}
    asked = Asked(by=by_command(), what=f"plan {kind}", arguments=arguments, reason=wish.reason)
    feeder = runtime.reconciler() if kind is KindOfRun.RECONCILE else runtime.feeder(forecasts=forecasts)
    try:
        done = runtime.runs.plan(
            asked,
            kind.value,
            ids=sorted(set(wish.ids)),
            sources=sources,
            held_by=feeder.holder(kind.value),
            now=datetime.now(UTC),
        )
        run = int(done.result["run"])
        _step(feeder, run)
    finally:
        feeder.close()
    return run


def has_worker(client: Client) -> bool:
    """Whether a process with a worker is alive, which plans and feeds runs."""
    processes = client.ask("/api/v1/processes", {}, {})["items"]
    return any(Kind(process["kind"]).works for process in processes)


def _step(feeder: Feeder, run: int) -> None:
    try:
        with progress("steps of the plan") as seen:
            for steps, _ in enumerate(feeder.steps(run), start=1):
                seen(steps)
    except Exception as error:
        feeder.break_off(run, told(error))
        raise


def _plan_there(client: Client, wish: Wish) -> int:
    query = {
        "kind": wish.kind.value,
        "ids": ",".join(map(str, wish.ids)) or None,
        **plan_query(wish.wanted),
        "force": True if wish.force else None,
    }
    run = int(client.do(RUNS_PATH, {}, query)["run"])
    until = time.monotonic() + PLAN_TIMEOUT
    with progress("seconds until it is planned") as seen:
        while _is_being_planned(client, run) and time.monotonic() < until:
            seen(int(PLAN_TIMEOUT - (until - time.monotonic())))
            time.sleep(PLAN_POLL)
    return run


def _is_being_planned(client: Client, run: int) -> bool:
    """Whether the run is being planned, and a live process continues the plan."""
    state = client.ask(RUN_PATH, {"id": str(run)}, {})["state"]
    return bool(state == RunState.PLANNING and has_worker(client))
