"""The filters of deliveries: one set for the list, the plans, the console and the commands."""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, datetime

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from receiver import cli
from receiver.api.deliveries import DELIVERY_FILTERS
from receiver.api.plans import PLAN_FILTERS
from receiver.commands.plan_filters import parse_filter, plan_query
from receiver.commands.wording import OPTIONS_OF_PARAMETERS
from receiver.console.pages.deliveries import PLANNED_AS
from receiver.console.pages.runs import BUTTONS
from receiver.errors import BadRequest
from receiver.inbox.tables import State
from receiver.mirror.versions import Outcome
from receiver.search.arguments import with_moments
from receiver.search.filters import DeliveryFilter

#: Every field of the filter; ids are given on their own.
FIELDS = {field.name for field in fields(DeliveryFilter)} - {"ids"}

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20)
MOMENTS = st.integers(0, 2**31).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))


def options_of(command: str) -> set[str]:
    return {
        option for each in typer.main.get_command(cli.compose(command)).commands[command].params for option in each.opts
    }


@pytest.mark.parametrize("filters", [DELIVERY_FILTERS, PLAN_FILTERS])
def test_the_api_takes_every_filter_for_lists_and_for_plans(filters):
    assert set(filters) == FIELDS


@pytest.mark.parametrize(
    ("command", "filters"), [("deliveries", DELIVERY_FILTERS), ("replay", PLAN_FILTERS), ("runs", PLAN_FILTERS)]
)
def test_the_commands_take_every_filter_of_the_api(command, filters):
    names = [parameter.name for parameter in filters.values()]
    ours = {OPTIONS_OF_PARAMETERS.get(name, f"--{name.replace('_', '-')}") for name in names}
    assert ours <= options_of(command)


def test_the_console_plans_by_every_filter_of_its_list():
    (button,) = [each for each in BUTTONS if each.name == "plan_run"]
    assert set(PLANNED_AS) == {parameter.name for parameter in DELIVERY_FILTERS.values()}
    assert set(PLANNED_AS.values()) <= set(button.fields)


@given(
    wanted=st.builds(
        DeliveryFilter,
        source=st.none() | TEXTS,
        state=st.none() | st.sampled_from(State),
        outcome=st.none() | st.sampled_from(Outcome),
        entity=st.none() | TEXTS,
        begin=st.none() | MOMENTS,
        reason=st.none() | TEXTS,
        conflict=st.none() | st.booleans(),
        dedup_key=st.none() | TEXTS,
    )
)
def test_a_filter_that_is_sent_to_the_api_arrives_as_the_same_filter(wanted):
    said = {True: "true", False: "false"}
    sent = {name: said.get(value, value) for name, value in plan_query(wanted).items() if value is not None}
    read = {name: each.read(sent[each.name]) for name, each in PLAN_FILTERS.items() if each.name in sent}
    assert DeliveryFilter(**with_moments(read, NOW)) == wanted


@pytest.mark.parametrize(
    ("given", "advice"),
    [
        ({"dedup_key": ""}, "`dedup_key` is empty: give it a value, or leave it out."),
        ({"entity": "x" * 10_000}, "`entity` takes at most"),
        ({"reason": "x" * 10_000}, "`reason_has` takes at most"),
        ({"begin": "soon"}, "`from` takes a time with its offset from UTC"),
    ],
)
def test_a_command_refuses_a_filter_that_the_api_refuses(given, advice):
    with pytest.raises(BadRequest) as refused:
        parse_filter(**given)
    assert advice in str(refused.value)
