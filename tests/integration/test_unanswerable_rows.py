"""Rows about which a source cannot answer never hold up a reconcile, and a source that is away is waited for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from paging import PagedSource, listened_to, mirrored
from running import Runs, asked, new_reconciler, reconciled, sources_of
from shopping import tell_all
from systems import ON_BOTH, database_system  # noqa: F401

from handlers.catalog import Product, Variant
from receiver import ApiError, Listed, ListPage, Wanted
from receiver.reconcile import walk
from receiver.reconcile.listing import LOOKUP_TRIES
from receiver.runs.feeder import Feeder
from receiver.runs.reconcile import Reconcile
from receiver.runs.tables import RunState

EARLIER = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=2)


class Answers(PagedSource):
    """A source whose API answers the lookups of some rows with an error, given by its status."""

    def __init__(self) -> None:
        super().__init__()
        self.statuses: dict[str, int] = {}
        self.is_away = False
        #: Rows for which the dialect cannot make a request.
        self.unasked: set[str] = set()

    def speak_about(self, shop, *, names_only: bool = False, tables: tuple = (Product,)) -> None:
        @shop.connect
        def connect(source) -> httpx.Client:
            return httpx.Client(transport=httpx.MockTransport(self._respond), base_url="http://api.test")

        @shop.pages(*tables, names_only=names_only)
        def read(api: httpx.Client, start: int | None) -> ListPage:
            check(api.get(f"/list/{start or 0}"))
            rows, total, following = self.page(start or 0)
            return ListPage([self.row(each) for each in rows], following, total)

        @shop.lookup(Product)
        def ask(api: httpx.Client, wanted: Wanted) -> list[Listed]:
            if wanted.external_id in self.unasked:
                raise ApiError(f"the mirror has no parent for {wanted.external_id!r}")
            check(api.get(f"/products/{wanted.external_id}"))
            return self.look_up(wanted.external_id)

    def _respond(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request.url.path)
        return httpx.Response(503 if self.is_away else self.statuses.get(request.url.path.split("/")[-1], 200))


def check(answer: httpx.Response) -> None:
    if answer.status_code != 200:
        raise ApiError(f"{answer.url.path} answered {answer.status_code}.")


@pytest.fixture
def lamps(kit) -> Answers:
    """Make ten lamps, A0 to A9, that the mirror knows."""
    source = Answers()
    listened_to(kit)
    source.hold(f"A{number}" for number in range(10))
    tell_all(kit, source.names, at=EARLIER)
    return source


def begun(kit, *, force: bool = False) -> tuple[Runs, int]:
    runs = Runs(kit)
    runs.feeder = new_reconciler(kit)
    request = asked("plan reconcile", source="shop", force=force)
    run = int(runs.verbs.plan(request, "reconcile", sources=["shop"], now=kit.now()).result["run"])
    for _ in runs.feeder.steps(run):
        pass
    runs.start(run)
    return runs, run


def step(runs: Runs, run: int, *, most: int = 100) -> dict[str, Any]:
    """Step the run until it ends, at most this many times, without the pauses after failures. Returns it."""
    for _ in range(most):
        runs.feeder._due.clear()
        runs.feeder.step_all()
        if runs.run(run)["state"] != RunState.RUNNING:
            break
    return dict(runs.run(run))


@ON_BOTH
def test_rows_that_the_dialect_cannot_ask_for_are_counted_although_no_other_row_is_in_their_group(kit, shop, lamps):
    lamps.speak_about(shop)
    del lamps.names["A8"], lamps.names["A9"]
    lamps.unasked = {"A8", "A9"}
    report = reconciled(kit, kit.source("shop"))
    assert (report.unanswered, report.unanswered_reason) == (2, "the mirror has no parent for 'A9'")


def test_rows_that_the_api_refuses_for_good_are_counted_although_no_other_row_is_in_their_group(kit, shop, lamps):
    lamps.speak_about(shop)
    del lamps.names["A8"], lamps.names["A9"]
    lamps.statuses = {"A8": 400, "A9": 422}
    report = reconciled(kit, kit.source("shop"))
    assert (report.unanswered, report.unanswered_reason) == (2, "/products/A9 answered 422.")


@pytest.mark.parametrize("status", [401, 429, 500, 503])
def test_rows_that_alone_are_always_answered_with_an_error_are_counted_after_some_tries(kit, shop, lamps, status: int):
    lamps.speak_about(shop)
    del lamps.names["A8"], lamps.names["A9"]
    runs, run = begun(kit)
    lamps.statuses = {"A8": status, "A9": status}
    lamps.requests.clear()
    found = step(runs, run)
    assert (found["state"], found["tally"]) == (RunState.DONE, {"unanswered": 2})
    assert lamps.requests.count("/products/A9") == LOOKUP_TRIES + 1
    assert mirrored(kit) == {**lamps.names, "A8": "Lamp", "A9": "Lamp"}


def test_rows_are_not_given_up_while_the_list_is_not_answered_either(kit, shop, lamps):
    lamps.speak_about(shop)
    del lamps.names["A8"], lamps.names["A9"]
    runs, run = begun(kit)
    step(runs, run, most=4)
    lamps.is_away = True
    found = step(runs, run, most=3 * LOOKUP_TRIES)
    assert (found["state"], found["tally"]) == (RunState.RUNNING, {})
    lamps.is_away = False
    assert (step(runs, run)["tally"], mirrored(kit)) == ({"repaired": 2}, lamps.names)


def test_a_last_row_with_a_passing_error_is_asked_for_again(kit, shop, lamps):
    lamps.speak_about(shop)
    del lamps.names["A9"]
    runs, run = begun(kit)
    lamps.statuses = {"A9": 503}
    while not lamps.requests[-1].startswith("/products"):
        step(runs, run, most=1)
    assert "A9 answered 503" in runs.run(run)["trouble"]
    lamps.statuses = {}
    assert (step(runs, run)["tally"], mirrored(kit)) == ({"repaired": 1}, lamps.names)


def test_rows_after_the_last_answer_of_a_source_that_went_away_are_asked_for_again(kit, shop, lamps):
    lamps.speak_about(shop)
    del lamps.names["A8"], lamps.names["A9"]
    runs, run = begun(kit)
    lamps.statuses = {"A9": 503}
    while "A9 answered 503" not in (runs.run(run)["trouble"] or ""):
        step(runs, run, most=1)
    lamps.statuses = {}
    assert (step(runs, run)["tally"], mirrored(kit)) == ({"repaired": 2}, lamps.names)


def test_a_named_row_that_is_always_answered_with_an_error_stays_active_and_holds_up_no_other(kit, shop, lamps):
    lamps.speak_about(shop, names_only=True)
    lamps.hold(lamps.names, "Lantern")
    lamps.statuses = {"A4": 500}
    report = reconciled(kit, kit.source("shop"))
    assert (report.unanswered, report.unanswered_reason, report.repairs) == (1, "/products/A4 answered 500.", 9)
    assert mirrored(kit) == {**lamps.names, "A4": "Lamp"}


@ON_BOTH
def test_the_children_of_a_named_row_that_is_not_answered_stay_active(kit, shop, lamps):
    """The answer about a product has its variants, which no page names."""
    for variant, parent in {"V1": "A4", "V2": "A5"}.items():
        kit.send("shop", "variant.updated", id=variant, at=EARLIER, data={"parent": parent})
    kit.drain()
    lamps.speak_about(shop, names_only=True, tables=(Product, Variant))
    lamps.statuses = {"A4": 500}
    reconciled(kit, kit.source("shop"), force=True)
    assert {row.external_id: row.active for row in kit.rows(Variant)} == {"V1": True, "V2": False}


def test_a_dry_run_counts_rows_that_are_always_answered_with_an_error(kit, shop, lamps):
    lamps.speak_about(shop, names_only=True)
    lamps.statuses = dict.fromkeys(lamps.names, 500)
    assert reconciled(kit, kit.source("shop"), dry_run=True).unanswered == 10
    lamps.is_away = True
    with pytest.raises(ApiError, match="/list/0 answered 503"):
        reconciled(kit, kit.source("shop"), dry_run=True)


def test_a_command_counts_rows_that_alone_are_answered_with_an_error_without_waiting(kit, shop, lamps):
    lamps.speak_about(shop)
    del lamps.names["A9"]
    lamps.statuses = {"A9": 500}
    runs, run = begun(kit)
    runs.feeder = Feeder(kit.database, [Reconcile(kit.inbox, sources_of(kit), kit.now, waits=False)], clock=kit.now)
    for _ in runs.feeder.steps(run):
        pass
    assert (runs.run(run)["state"], runs.run(run)["tally"]) == (RunState.DONE, {"unanswered": 1})


def test_a_source_that_lists_its_rows_and_answers_about_none_of_them_pauses_the_run(kit, shop, lamps, monkeypatch):
    monkeypatch.setattr(walk, "LOOKUPS_AT_ONCE", 1)
    lamps.speak_about(shop, names_only=True)
    runs, run = begun(kit)
    lamps.statuses = dict.fromkeys(lamps.names, 403)
    found = step(runs, run)
    assert found["state"] == RunState.PAUSED
    assert "shop answers with its list, and about none of the rows" in found["trouble"]
    assert "answered 403" in found["trouble"]
    lamps.statuses = {}
    runs.verbs.resume(asked("resume run"), run, now=kit.now())
    assert step(runs, run)["state"] == RunState.DONE
