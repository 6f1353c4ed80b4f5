"""Plans over HTTP: plans a replay of chosen deliveries, a reconcile of a source, or a prune."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from receiver.api.actions import IDEMPOTENCY_KEY
from receiver.api.deliveries import DELIVERY_FILTERS, DELIVERY_IDS, REASON_HAS, wanted_of
from receiver.api.lookup import Lookup
from receiver.api.operations import Operation, Parameter, Question
from receiver.api.parameters import SOURCE, flag, one_of
from receiver.api.runs import RunChanged, show_changed
from receiver.api.tokens import Scope
from receiver.dialects.sources import Source
from receiver.errors import BadRequest, ConfigurationError, KeyUsed, Unavailable
from receiver.inbox.tables import ENDED
from receiver.runs.actions import Asked, first_asked
from receiver.runs.prune import PRUNE
from receiver.runs.reconcile import RECONCILE, check_reconcilable
from receiver.runs.replay import REPLAY
from receiver.runs.runs import Verbs
from receiver.search.filters import DeliveryFilter, as_text
from receiver.search.replayable import unknown_ids


class PlannedKind(StrEnum):
    """The kinds of runs that can be planned over HTTP."""

    REPLAY = REPLAY
    RECONCILE = RECONCILE
    PRUNE = PRUNE


#: The filters of a planned replay, where `reason` is the reason for the action.
PLAN_FILTERS = DELIVERY_FILTERS | {"reason": REASON_HAS}

PLANNED_KIND: Parameter[PlannedKind] = Parameter(
    "kind",
    {"type": "string", "enum": [*map(str, PlannedKind)]},
    "The kind of run. A reconcile takes only `source` and `force`, a prune nothing.",
    one_of(PlannedKind, "kind"),
    PlannedKind.REPLAY,
)
FORCE: Parameter[bool | None] = Parameter(
    "force", {"type": "boolean"}, "With a reconcile: deactivate missing rows beyond the brake.", flag("force"), None
)


class Plans:
    """Plans runs: `POST /api/v1/runs`."""

    def __init__(
        self,
        lookup: Lookup,
        verbs: Verbs,
        sources: Callable[[], Mapping[str, Source]],
        *,
        feed: Callable[[], None],
    ) -> None:
        """`sources` returns the sources of the settings in force; `feed` is called when there is a run to plan."""
        self._lookup, self._verbs, self._sources, self._feed = lookup, verbs, sources, feed

    def operations(self) -> list[Operation]:
        return [
            Operation(
                name="plan_run",
                method="post",
                path="/api/v1/runs",
                summary="Plan a replay of the deliveries that match the filters, a reconcile of a source, or a prune; "
                "a process with a worker makes the plan",
                answer=self.plan,
                answers={202: RunChanged},
                scope=Scope.OPERATE,
                parameters=(PLANNED_KIND, DELIVERY_IDS, *PLAN_FILTERS.values(), FORCE, IDEMPOTENCY_KEY),
                refusals=(BadRequest, KeyUsed, Unavailable),
            )
        ]

    def plan(self, asked: Question) -> RunChanged:
        """Begin the plan of a run. Raises `BadRequest` for an invalid selection."""
        kind = asked[PLANNED_KIND]
        if kind is not PlannedKind.RECONCILE and asked[FORCE] is not None:
            raise BadRequest("`force` is for a reconcile: leave it out, or set `kind=reconcile`.", names=("force",))
        if kind is PlannedKind.RECONCILE:
            return self._plan_reconcile(asked)
        return self._plan_prune(asked) if kind is PlannedKind.PRUNE else self._plan_replay(asked)

    def _plan_reconcile(self, asked: Question) -> RunChanged:
        _refuse_filters(asked, "A reconcile compares a whole source", but=(SOURCE,))
        source = self._sources().get(asked[SOURCE] or "")
        if source is None:
            raise BadRequest("The source is missing: `source` takes a name in the settings.", names=("source",))
        try:
            check_reconcilable(source)
        except ConfigurationError as error:
            raise BadRequest(str(error)) from None
        return self._begin(asked, RECONCILE, {"source": source.name, "force": bool(asked[FORCE])}, [source.name])

    def _plan_prune(self, asked: Question) -> RunChanged:
        _refuse_filters(asked, "A prune drops all expired data")
        return self._begin(asked, PRUNE, {})

    def _plan_replay(self, asked: Question) -> RunChanged:
        """Begin the plan of a replay. Raises `BadRequest` without a filter, or for a state that is not final."""
        ids = asked[DELIVERY_IDS] or ()
        if ids:
            return self._plan_named(asked, ids)
        now = self._as_of(asked[IDEMPOTENCY_KEY])
        wanted = wanted_of(asked, self._lookup, PLAN_FILTERS, now=now)
        if wanted == DeliveryFilter():
            raise BadRequest(
                "No deliveries are selected: give `source`, `state`, `event_type` or another filter.",
                names=("source", "state", "event_type"),
            )
        if wanted.state not in (None, *ENDED):
            raise BadRequest(
                f"Deliveries that are {wanted.state} cannot be replayed: `state` takes one of {', '.join(ENDED)} here.",
                names=("state",),
            )
        return self._begin(asked, REPLAY, as_text(wanted), now=now)

    def _as_of(self, key: str | None) -> datetime:
        """The time from which relative times count: that of the first request, if this one repeats it."""
        with self._lookup.database.read() as connection:
            return first_asked(connection, key) or datetime.now(UTC)

    def _plan_named(self, asked: Question, ids: tuple[int, ...]) -> RunChanged:
        """Begin the plan of a replay of these deliveries alone. Raises `BadRequest` for an unknown id."""
        _refuse_filters(asked, "`ids` names the deliveries one by one", but=(DELIVERY_IDS,))
        unknown = unknown_ids(self._lookup.database, ids)
        if unknown:
            raise BadRequest(
                f"There is no delivery {unknown[0]}, so nothing is planned: leave it out of `ids`.", names=("ids",)
            )
        arguments = {"ids": [str(each) for each in ids], "deliveries": len(ids)}
        return self._begin(asked, REPLAY, arguments, ids=ids)

    def _begin(
        self,
        asked: Question,
        kind: str,
        arguments: dict[str, Any],
        sources: list[str] | None = None,
        *,
        ids: tuple[int, ...] = (),
        now: datetime | None = None,
    ) -> RunChanged:
        request = Asked(by=asked.by, what=f"plan {kind}", arguments=arguments, key=asked[IDEMPOTENCY_KEY])
        done = self._verbs.plan(request, kind, ids=ids, sources=sources or (), now=now or datetime.now(UTC))
        self._feed()
        return show_changed(done)


def _refuse_filters(asked: Question, why: str, *, but: tuple[Parameter[Any], ...] = ()) -> None:
    """Raise `BadRequest` for a filter that this kind of run does not take."""
    filters: tuple[Parameter[Any], ...] = (DELIVERY_IDS, *PLAN_FILTERS.values())
    given = [each.name for each in filters if each not in but and asked[each] is not None]
    if given:
        raise BadRequest(f"{why}: leave `{given[0]}` out, or plan a replay with it alone.", names=(given[0],))
