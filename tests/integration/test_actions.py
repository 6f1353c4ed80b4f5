"""Actions: every effect is recorded, and every record has its effect."""

from __future__ import annotations

import os
import threading
from datetime import timedelta

import pytest
from faults import each_death
from hypothesis import given, settings
from hypothesis import strategies as st
from shopping import NOON
from sqlalchemy import Column, Integer, MetaData, Table, func, insert, select
from waiting import TIMEOUT

from receiver.database.database import Database
from receiver.errors import KeyUsed, ReasonWanted
from receiver.runs import actions
from receiver.runs.actions import ACTIONS, LONGEST_ACTION_REASON, Asked, By, Effect, Via, by_command, perform
from receiver.server import reloading

OPS = By("ops-1", Via.API)


#: The table that the actions of these tests change.
LIGHTS = Table("lights", MetaData(), Column("number", Integer, primary_key=True))


@pytest.fixture
def database(mirror_url):
    opened = Database(mirror_url)
    opened.create_tables()
    LIGHTS.create(opened.engine)
    yield opened
    opened.close()


def switch_on(*numbers):
    """Make an effect that inserts these numbers of lights."""

    def effect(connection):
        if not numbers:
            return None
        connection.execute(insert(LIGHTS), [{"number": number} for number in numbers])
        return Effect(len(numbers), {"lit": list(numbers)})

    return effect


def asked(*, key=None, reason=None, by=OPS, **arguments):
    return Asked(by=by, what="switch on", arguments=arguments, reason=reason, key=key)


def lit(database):
    with database.read() as connection:
        return sorted(connection.execute(select(LIGHTS.c.number)).scalars())


def recorded(database):
    with database.read() as connection:
        return [actions.show(row) for row in connection.execute(actions.recent()).mappings()]


def test_an_action_records_who_did_what_why_and_the_result(database):
    perform(database, asked(reason="  it is dark ", room="hall"), switch_on(1, 2), now=NOON)
    (action,) = recorded(database)
    assert action == {
        "id": action["id"],
        "at": NOON,
        "who": "ops-1",
        "via": "api",
        "what": "switch on",
        "arguments": {"room": "hall"},
        "run": None,
        "count": 2,
        "reason": "it is dark",
        "result": {"lit": [1, 2]},
        "counts": "delivery",
        "key": None,
    }


def test_an_action_without_effect_is_not_recorded(database):
    assert perform(database, asked(), switch_on(), now=NOON) is None
    assert recorded(database) == []


@pytest.mark.parametrize("reason", [None, "", "  ", "so", "x" * (LONGEST_ACTION_REASON + 1)])
def test_an_action_on_many_deliveries_needs_a_meaningful_reason(database, reason):
    with pytest.raises(ReasonWanted, match=r"of 3 to 200 characters|write 3 to 200"):
        perform(database, asked(reason=reason), switch_on(1, 2), now=NOON)
    assert (lit(database), recorded(database)) == ([], [])


def test_one_delivery_needs_no_reason(database):
    perform(database, asked(), switch_on(1), now=NOON)
    assert recorded(database)[0]["reason"] is None


def test_characters_that_no_database_holds_are_replaced_in_an_action(database):
    perform(database, asked(reason="da\0rk \ud800", by=By("ops\0", Via.CONSOLE)), switch_on(1), now=NOON)
    (action,) = recorded(database)
    assert (action["reason"], action["who"]) == ("da\ufffdrk \ufffd", "ops\ufffd")


def test_a_repeated_request_with_one_key_is_one_action_with_the_same_answer(database):
    first = perform(database, asked(key="a1"), switch_on(1), now=NOON)
    second = perform(database, asked(key="a1"), switch_on(2), now=NOON)
    assert (first.result, first.again) == ({"lit": [1]}, False)
    assert (second.result, second.again) == ({"lit": [1]}, True)
    assert (lit(database), len(recorded(database))) == ([1], 1)


@pytest.mark.parametrize("other", [{"room": "hall"}, {"by": By("ops-2", Via.API)}])
def test_a_key_of_another_request_is_refused(database, other):
    perform(database, asked(key="a1"), switch_on(1), now=NOON)
    with pytest.raises(KeyUsed, match="draw a new key"):
        perform(database, asked(key="a1", **other), switch_on(2), now=NOON)
    assert lit(database) == [1]


def test_a_repeated_request_whose_first_answer_is_damaged_says_so_and_has_no_effect(database):
    perform(database, asked(key="a1"), switch_on(1), now=NOON)
    with database.write() as connection:
        connection.exec_driver_sql("UPDATE actions SET result = '{edited'")
    with pytest.raises(KeyUsed, match="the record of its answer is damaged"):
        perform(database, asked(key="a1"), switch_on(2), now=NOON)
    assert lit(database) == [1]


def test_two_simultaneous_requests_with_one_key_are_one_action(database):
    both = threading.Barrier(2)
    answers = []

    def ask():
        both.wait(TIMEOUT)
        answers.append(perform(database, asked(key="a1"), switch_on(1), now=NOON))

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT)
    assert sorted(answer.again for answer in answers) == [False, True]
    assert {str(answer.result) for answer in answers} == {"{'lit': [1]}"}
    assert len(recorded(database)) == 1


def test_an_error_of_the_effect_is_raised_and_leaves_no_record(database):
    perform(database, asked(), switch_on(1), now=NOON)
    with pytest.raises(Exception, match=r"(?i)unique"):
        perform(database, asked(key="a1"), switch_on(1), now=NOON)
    assert len(recorded(database)) == 1


def test_effect_and_record_are_committed_together_wherever_the_process_dies(database):
    """Property: kill before any statement or before the commit, and then repeat the request."""

    @settings(max_examples=8, deadline=None, database=None)
    @given(st.integers(1, 5), st.booleans())
    def holds(many, with_key):
        with database.write() as connection:
            connection.execute(ACTIONS.delete())
            connection.execute(LIGHTS.delete())
        request = asked(key="k" if with_key else None, reason="property")
        for _ in each_death(database, lambda: perform(database, request, switch_on(*range(many)), now=NOON)):
            assert (lit(database), recorded(database)) == ([], [])
        assert (len(lit(database)), [action["count"] for action in recorded(database)]) == (many, [many])

    holds()


def test_a_command_acts_as_the_user_of_the_operating_system(monkeypatch):
    monkeypatch.setattr(os, "getuid", lambda: 0)
    assert by_command() == By("root", Via.COMMAND)


def test_a_user_without_a_name_is_recorded_by_number(monkeypatch):
    monkeypatch.setattr(os, "getuid", lambda: 3_999_999_999)
    assert by_command().who == "uid 3999999999"


def test_actions_are_listed_newest_first_and_by_run(database):
    for number in range(3):
        effect = Effect(1, {}, run=number % 2)
        perform(database, asked(), lambda _, effect=effect: effect, now=NOON)
    with database.read() as connection:
        assert [row.run for row in connection.execute(actions.recent())] == [0, 1, 0]
        assert [row.run for row in connection.execute(actions.recent(run=1))] == [1]
        newest = connection.execute(select(func.max(ACTIONS.c.id))).scalar()
        assert [row.run for row in connection.execute(actions.recent(before=newest))] == [1, 0]


# ── reloads by a signal ───────────────────────────────────────────────────────────────────────────────────────


def test_two_processes_that_reload_at_the_same_signal_record_one_action_at_any_second(database, monkeypatch):
    both = threading.Barrier(2, timeout=TIMEOUT)

    def perform_together(*args, **named):
        both.wait()
        return perform(*args, **named)

    monkeypatch.setattr(reloading, "perform", perform_together)
    # One began at the end of one period of twenty seconds, the other at the beginning of the next.
    moments = (NOON - timedelta(milliseconds=1), NOON)
    threads = [
        threading.Thread(target=reloading.note_signal, args=(database, moment, "In force.")) for moment in moments
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT)
    (action,) = recorded(database)
    assert (action["what"], action["who"], action["result"]["says"]) == ("reload settings", "signal", "In force.")


def test_a_reload_after_the_clock_was_set_back_is_recorded(database):
    for moment in (NOON, NOON - timedelta(hours=1), NOON - timedelta(hours=1, seconds=-19)):
        reloading.note_signal(database, moment, "In force.")
    assert len(recorded(database)) == 2
