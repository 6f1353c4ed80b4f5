"""Plans that no longer apply: every place that offers a start says why not, and how the same is planned again."""

from __future__ import annotations

import shlex
from dataclasses import fields
from datetime import timedelta

import pytest
from running import Runs
from serving import Served, error, wait_until
from shopping import NOON, named
from sqlalchemy import text, update
from typer.main import get_command
from visiting import Visitor, text_of, visiting

from receiver import cli
from receiver.api.tokens import Scope
from receiver.commands.plan_filters import parse_filter
from receiver.inbox.tables import State
from receiver.mirror.versions import Outcome
from receiver.runs import formatting
from receiver.runs.outdated import plan_command
from receiver.runs.tables import RUNS, RunState
from receiver.search.filters import DeliveryFilter, as_text


@pytest.fixture
def runs(kit) -> Runs:
    kit.source("shop")
    return Runs(kit)


def sent(kit, *ids):
    made = [int(kit.send("shop", "product.updated", id=each, at=NOON, data=named()).delivery) for each in ids]
    kit.drain()
    return made


def told(runs: Runs, run: int) -> list[str]:
    with runs.kit.database.read() as connection:
        return list(formatting.run_lines(runs.whole(connection, run)))


def set_by_hand(runs: Runs, run: int, **values) -> None:
    with runs.kit.database.write() as connection:
        connection.execute(update(RUNS).where(RUNS.c.id == run).values(**values))


def test_a_plan_that_applies_says_how_it_is_started(kit, runs):
    sent(kit, "A")
    run = runs.plan(source="shop")
    assert told(runs, run)[-1] == f"Start it with `hookmirror runs start {run} --reason '…'`."


def test_a_plan_made_with_other_code_says_so_instead_and_names_the_command_for_the_same_plan(kit, runs):
    sent(kit, "A")
    run = runs.plan(source="shop")
    set_by_hand(runs, run, wiring="of yesterday")
    why, again = told(runs, run)[-2:]
    assert why.startswith(f"The plan is outdated. Run {run} was planned by hookmirror")
    assert again == "Plan the same with `hookmirror runs plan --source=shop`."
    assert "Start it" not in "".join(told(runs, run))


def test_a_plan_whose_deliveries_were_replayed_says_by_which_run(kit, runs):
    ids = sent(kit, "A", "B")
    first, second = runs.plan(*ids), runs.plan(*ids)
    runs.start(first)
    runs.finish(first)
    why = told(runs, second)[-1]
    assert why.startswith(f"The plan is outdated. 2 deliveries of run {second} were replayed by run {first}")


def test_only_a_plan_can_be_outdated(kit, runs):
    sent(kit, "A")
    run = runs.plan(source="shop")
    set_by_hand(runs, run, wiring="of yesterday", state=RunState.CANCELLED.value)
    assert not [line for line in told(runs, run) if "outdated" in line]


# ── the command for the same plan ─────────────────────────────────────────────────────────────────────────────


def test_the_command_for_the_same_plan_selects_with_every_filter():
    wanted = DeliveryFilter(
        source="it's mine",
        state=State.DEAD,
        outcome=Outcome.STALE,
        event_type="-painted; rm",
        entity="product:A 1",
        begin=NOON,
        end=NOON + timedelta(hours=1),
        reason='not "a" number',
        conflict=False,
        dedup_key="--x",
    )
    assert [each.name for each in fields(DeliveryFilter) if getattr(wanted, each.name) is None] == ["ids"]
    words = shlex.split(plan_command({"kind": "replay", "arguments": as_text(wanted)}))
    assert words[:3] == ["hookmirror", "runs", "plan"]
    parsed = get_command(cli.compose("runs")).commands["runs"].make_context("runs", words[2:]).params
    names = {"begin": "since", "end": "until", "reason": "reason_has"}
    filters = [each.name for each in fields(DeliveryFilter) if each.name != "ids"]
    given = {name: parsed[names.get(name, name)] for name in filters}
    assert parse_filter(**given) == wanted


@pytest.mark.parametrize(
    ("kind", "arguments", "command"),
    [
        ("replay", {"ids": ["7", "9"], "deliveries": 2}, "hookmirror runs plan 7 9"),
        ("replay", {"ids": ["7"], "deliveries": 200}, None),
        ("reconcile", {"source": "shop", "force": False}, "hookmirror runs plan reconcile shop"),
        ("reconcile", {"source": "a b", "force": True}, "hookmirror runs plan reconcile 'a b' --force"),
        ("prune", {}, "hookmirror runs plan prune"),
        ("repair", {"row": "A"}, None),
    ],
)
def test_the_command_for_the_same_plan_is_the_one_of_its_kind(kind, arguments, command):
    assert plan_command({"kind": kind, "arguments": arguments}) == command


# ── over HTTP, and on the page ────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def desk(lend_database, tmp_path_factory):
    """Serve with a delivery, and sign in an operator."""
    with lend_database(tmp_path_factory.mktemp("plans")) as url, visiting(url, with_worker=True) as (served, operator):
        served.ended(served.send("iimmpact", id="A1"))
        yield served, operator


def operate(served: Served, path: str):
    return served.get(f"/api/v1/{path}", scope=Scope.OPERATE, method="POST")


def planned(served: Served) -> str:
    run = operate(served, "runs?source=iimmpact").json()["run"]
    wait_until(lambda: served.get(f"/api/v1/runs/{run}").json()["state"] == "planned", "the plan")
    return run


def test_the_api_says_why_it_would_refuse_a_start(desk: tuple[Served, Visitor]):
    served, _ = desk
    run = planned(served)
    assert served.get(f"/api/v1/runs/{run}").json()["outdated"] is None
    with served.beside.write() as connection:
        connection.execute(text(f"UPDATE runs SET wiring = 'of yesterday' WHERE id = {run}"))
    outdated = served.get(f"/api/v1/runs/{run}").json()["outdated"]
    refused = operate(served, f"runs/{run}/start?reason=because")
    assert (error(refused), refused.json()["message"]) == ((409, "run_conflict"), outdated)
    assert "with other handlers or sources than this process has now" in outdated


def test_the_page_of_an_outdated_plan_offers_another_plan_and_no_start(desk: tuple[Served, Visitor]):
    served, operator = desk
    run = planned(served)
    assert "Start it" in text_of(operator.page(f"/runs/{run}"))
    with served.beside.write() as connection:
        connection.execute(text(f"UPDATE runs SET wiring = 'of yesterday' WHERE id = {run}"))
    page = text_of(operator.page(f"/runs/{run}"))
    assert f"The plan is outdated. Run {run} was planned by hookmirror" in page
    assert ("Start it" in page, "Plan it again" in page) == (False, True)
