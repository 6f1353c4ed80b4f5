"""The version guard: the same news leaves the same row, in whatever order and however often it arrives."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples import examples
from receiver import codec
from receiver.mirror.versions import (
    Outcome,
    Patch,
    Rank,
    Registers,
    Version,
    dump,
    load,
    microseconds,
    row_status,
    strongest,
)
from receiver.moments import FIRST_MOMENT, LAST_MOMENT

NOON = datetime(2026, 3, 8, 12, tzinfo=UTC)
MEMBERS = ("color", "size", "a.b")


def version(second=0, *, rank=Rank.UPDATE, arrival=1):
    return Version(microseconds(NOON) + second * 1_000_000, int(rank), arrival)


def row(*news):
    """Return the registers after these (column, value, version)."""
    registers = Registers()
    for column, value, since in news:
        registers.merge(column, value, since)
    return registers


def living(second=0, **more):
    return ("active", True, version(second, **more))


# ── registers ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_newer_news_replaces_a_value():
    registers = row(("name", "Lamp", version(1)))
    assert registers.merge("name", "Kettle", version(2)) is Outcome.APPLIED
    assert registers.values["name"] == "Kettle"


def test_older_news_is_stale_and_changes_nothing():
    registers = row(("name", "Kettle", version(2)))
    assert registers.merge("name", "Lamp", version(1)) is Outcome.STALE
    assert registers.values == {"name": "Kettle"}


def test_an_older_object_is_stale_and_changes_nothing():
    registers = row(("data", {"size": "L"}, version(2)))
    assert registers.merge("data", {"size": "M"}, version(1)) is Outcome.STALE
    assert registers.values == {"data": {"size": "L"}}


def test_older_news_still_fills_a_column_without_news():
    registers = row(("name", "Kettle", version(2)))
    assert registers.merge("sku", "K-1", version(1)) is Outcome.APPLIED
    assert registers.values == {"name": "Kettle", "sku": "K-1"}


def test_newer_news_with_the_same_value_is_unchanged_and_raises_the_version():
    registers = row(("name", "Lamp", version(1)))
    assert registers.merge("name", "Lamp", version(3)) is Outcome.UNCHANGED
    assert registers.merge("name", "Kettle", version(2)) is Outcome.STALE


def test_the_same_news_again_is_unchanged():
    registers = row(("name", "Lamp", version(1)))
    assert registers.merge("name", "Lamp", version(1)) is Outcome.UNCHANGED


def test_the_first_news_with_null_is_applied():
    assert Registers().merge("name", None, version()) is Outcome.APPLIED


#: Values that are equal in Python and different in JSON.
LOOK_ALIKES = [(1, True), (False, 0), (1, Decimal("1.0")), (Decimal("1.0"), Decimal("1.00")), ([0], [False])]


@pytest.mark.parametrize(("old", "new"), LOOK_ALIKES)
@pytest.mark.parametrize("as_patch", [False, True], ids=["whole", "patch"])
def test_a_value_that_only_python_takes_for_the_same_is_applied(old, new, as_patch):
    registers = row(("data", {"on": old}, version(1)))
    value = Patch({"on": new}) if as_patch else {"on": new}
    assert registers.merge("data", value, version(2)) is Outcome.APPLIED
    assert codec.is_same(registers.values["data"], {"on": new})


@pytest.mark.parametrize(("old", "new"), LOOK_ALIKES)
def test_a_row_with_a_value_that_only_python_takes_for_the_same_is_applied(old, new):
    registers = row(("active", True, version(1)), ("data", {"on": old}, version(1)))
    assert registers.merge_all({"active": True, "data": {"on": new}}, version(2)) == [Outcome.APPLIED]


@pytest.mark.parametrize(("old", "new"), LOOK_ALIKES)
def test_values_that_only_python_takes_for_the_same_tie(old, new):
    registers = row(("data", {"on": old}, version(arrival=1)))
    assert registers.merge("data", {"on": new}, version(arrival=2)) is Outcome.TIE
    assert registers.ties == {"data.on"}


# ── ranks ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("delete_first", [True, False])
def test_a_delete_beats_an_update_of_the_same_time_whichever_arrives_first(delete_first):
    delete = ("active", False, version(rank=Rank.DELETE, arrival=1 if delete_first else 2))
    update = living(arrival=2 if delete_first else 1)
    registers = row(*([delete, update] if delete_first else [update, delete]))
    assert registers.values["active"] is False
    assert not registers.ties


@pytest.mark.parametrize(("earlier", "later"), [(Rank.ABSENT, Rank.UPDATE), (Rank.UPDATE, Rank.DELETE)])
def test_the_rank_decides_between_equal_times_and_arrival_does_not(earlier, later):
    assert version(rank=earlier, arrival=9) < version(rank=later, arrival=1)


def test_the_time_decides_before_the_rank():
    assert version(1, rank=Rank.DELETE) < version(2, rank=Rank.ABSENT)


def test_a_version_knows_its_moment():
    assert version(3).moment == NOON + timedelta(seconds=3)


@given(st.datetimes(timezones=st.just(UTC)))
def test_a_time_keeps_its_microseconds(moment):
    assert Version(microseconds(moment), 1, 1).moment == moment


# ── ties ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_between_equal_times_the_later_arrival_wins_as_a_tie():
    registers = row(("name", "Lamp", version(arrival=1)))
    assert registers.merge("name", "Kettle", version(arrival=2)) is Outcome.TIE
    assert (registers.values["name"], registers.ties) == ("Kettle", {"name"})


def test_between_equal_times_the_earlier_arrival_loses_as_a_tie():
    registers = row(("name", "Kettle", version(arrival=2)))
    assert registers.merge("name", "Lamp", version(arrival=1)) is Outcome.TIE
    assert (registers.values["name"], registers.ties) == ("Kettle", {"name"})


@pytest.mark.parametrize("arrivals", [(1, 2), (2, 1)])
def test_equal_values_at_equal_times_are_not_a_tie(arrivals):
    registers = row(("name", "Lamp", version(arrival=arrivals[0])))
    assert registers.merge("name", "Lamp", version(arrival=arrivals[1])) is Outcome.UNCHANGED
    assert not registers.ties


def test_newer_news_clears_a_tie():
    registers = row(("name", "Lamp", version(arrival=1)), ("name", "Kettle", version(arrival=2)))
    assert registers.merge("name", "Tent", version(1, arrival=3)) is Outcome.APPLIED
    assert not registers.ties


def test_older_news_does_not_clear_a_tie():
    registers = row(("name", "Lamp", version(1, arrival=1)), ("name", "Kettle", version(1, arrival=2)))
    registers.merge("name", "Tent", version(0, arrival=3))
    assert registers.ties == {"name"}


@pytest.mark.parametrize("patch_first", [False, True])
@pytest.mark.parametrize("patch_arrival", [1, 3], ids=["the patch loses", "the patch wins"])
def test_a_patch_and_a_document_with_equal_times_tie_in_the_members_that_differ(patch_first, patch_arrival):
    whole = ("data", {"color": "red", "size": "S", "name": "Lamp"}, version(arrival=2))
    patch = ("data", Patch({"color": "blue", "size": "S"}), version(arrival=patch_arrival))
    *first, last = [patch, whole] if patch_first else [whole, patch]
    registers = row(*first)
    assert registers.merge(*last) is Outcome.TIE
    assert registers.ties == {"data.color"}


def test_two_documents_with_equal_times_tie_in_the_members_that_differ():
    registers = row(
        ("data", {"color": "red", "size": "S", "name": "Lamp"}, version(arrival=1)),
        ("data", {"color": "blue", "size": "S", "price": 5}, version(arrival=2)),
    )
    assert registers.ties == {"data.color", "data.name", "data.price"}


@pytest.mark.parametrize("arrivals", [(1, 2), (2, 1)])
def test_a_document_and_null_with_equal_times_tie_as_a_whole_and_in_the_members(arrivals):
    registers = row(("data", {"color": "red"}, version(arrival=arrivals[0])))
    assert registers.merge("data", None, version(arrival=arrivals[1])) is Outcome.TIE
    assert registers.ties == {"data", "data.color"}


@pytest.mark.parametrize("patch_arrival", [1, 3], ids=["the patch loses", "the patch wins"])
@pytest.mark.parametrize("newer", [{"size": "M"}, {"color": "red"}, None, Patch({"color": "red"})], ids=repr)
def test_newer_news_about_the_member_clears_its_tie(patch_arrival, newer):
    registers = row(
        ("data", {"color": "red"}, version(arrival=2)),
        ("data", Patch({"color": "blue"}), version(arrival=patch_arrival)),
    )
    registers.merge("data", newer, version(1, arrival=4))
    assert not registers.ties


def test_newer_news_about_another_member_does_not_clear_a_tie():
    registers = row(
        ("data", {"color": "red"}, version(arrival=1)),
        ("data", {"color": "blue"}, version(arrival=2)),
        ("data", Patch({"size": "M"}), version(1, arrival=3)),
    )
    assert registers.ties == {"data.color"}


def test_an_older_document_does_not_clear_the_tie_of_a_newer_patch():
    registers = row(
        ("data", Patch({"color": "red"}), version(2, arrival=1)),
        ("data", Patch({"color": "blue"}), version(2, arrival=2)),
        ("data", {"color": "green", "size": "S"}, version(1, arrival=3)),
    )
    assert (registers.ties, registers.values["data"]) == ({"data.color"}, {"color": "blue", "size": "S"})


def test_equal_documents_with_equal_times_are_not_a_tie_beside_a_newer_patch():
    registers = row(
        ("data", Patch({"color": "blue"}), version(2, arrival=1)),
        ("data", {"color": "red"}, version(1, arrival=2)),
        ("data", {"color": "red"}, version(1, arrival=3)),
    )
    assert not registers.ties


# ── patches and whole documents ───────────────────────────────────────────────────────────────────────────────


def test_a_patch_keeps_the_members_that_it_does_not_name():
    registers = row(("data", {"color": "red", "size": "S"}, version(1)), ("data", Patch({"size": "M"}), version(2)))
    assert registers.values["data"] == {"color": "red", "size": "M"}


def test_a_late_patch_does_not_change_a_newer_document():
    registers = row(("data", {"color": "red"}, version(2)))
    assert registers.merge("data", Patch({"size": "M"}), version(1)) is Outcome.STALE
    assert registers.values["data"] == {"color": "red"}


def test_a_late_document_fills_members_without_newer_news_only():
    registers = row(("data", Patch({"size": "M"}), version(2)))
    assert registers.merge("data", {"color": "red", "size": "S"}, version(1)) is Outcome.APPLIED
    assert registers.values["data"] == {"color": "red", "size": "M"}


def test_a_newer_document_removes_the_members_that_it_does_not_have():
    registers = row(("data", Patch({"size": "M"}), version(1)), ("data", {"color": "red"}, version(2)))
    assert registers.values["data"] == {"color": "red"}


def test_a_newer_null_removes_all_members():
    registers = row(("data", Patch({"size": "M"}), version(1)), ("data", None, version(2)))
    assert registers.values["data"] is None


@pytest.mark.parametrize("no_object", [None, [1], "text", 7])
def test_members_survive_an_older_value_that_is_not_an_object(no_object):
    patch, whole = ("data", Patch({"size": "M"}), version(2)), ("data", no_object, version(1))
    assert row(patch, whole).values["data"] == row(whole, patch).values["data"] == {"size": "M"}


def test_two_patches_with_the_same_time_tie_only_in_members_that_differ():
    registers = row(
        ("data", Patch({"color": "red", "size": "S"}), version(arrival=1)),
        ("data", Patch({"color": "red", "size": "M"}), version(arrival=2)),
    )
    assert registers.ties == {"data.size"}


def test_an_empty_patch_is_not_news():
    assert Registers().merge("data", Patch({}), version()) is Outcome.UNCHANGED


# ── status and children ───────────────────────────────────────────────────────────────────────────────────────


def test_an_active_row_has_no_time_of_deactivation():
    stand = row_status(row(living(1), ("name", "Lamp", version(2))), None)
    assert (stand.active, stand.changed_at, stand.deactivated_at) == (True, version(2).moment, None)


def test_an_inactive_row_has_the_time_of_its_deactivation():
    stand = row_status(row(("active", False, version(1, rank=Rank.DELETE)), ("name", "Lamp", version(2))), None)
    assert (stand.active, stand.deactivated_at) == (False, version(1).moment)


def test_a_child_is_deactivated_with_its_parent_at_the_parent_s_time():
    stand = row_status(row(living(1)), version(2, rank=Rank.DELETE))
    assert (stand.active, stand.deactivated_at, stand.changed_at) == (False, version(2).moment, version(2).moment)


def test_a_child_with_newer_news_stays_active():
    assert row_status(row(living(3)), version(2, rank=Rank.DELETE)).active


def test_a_child_with_the_time_of_the_list_that_lacks_it_stays_active():
    assert row_status(row(living(2, arrival=1)), version(2, rank=Rank.ABSENT, arrival=2)).active


def test_a_child_deleted_before_its_parent_keeps_its_own_time():
    own = row(("active", False, version(1, rank=Rank.DELETE)))
    assert row_status(own, version(2, rank=Rank.DELETE)).deactivated_at == version(1).moment


def test_the_newest_loss_of_children_counts():
    registers = Registers()
    outcomes = [registers.lose_children("variants", version(second)) for second in (2, 1, 2, 3)]
    assert outcomes == [Outcome.UNCHANGED, Outcome.STALE, Outcome.UNCHANGED, Outcome.UNCHANGED]
    assert registers.children_gone == {"variants": version(3)}


def test_the_outcome_of_a_delivery_is_the_strongest_of_its_parts():
    assert strongest([Outcome.STALE, Outcome.APPLIED, Outcome.UNCHANGED]) is Outcome.APPLIED
    assert strongest([Outcome.APPLIED, Outcome.TIE]) is Outcome.TIE
    assert strongest([]) is Outcome.UNCHANGED


# ── any news ──────────────────────────────────────────────────────────────────────────────────────────────────

VALUES = st.sampled_from(["red", "green", None])
OBJECTS = st.dictionaries(st.sampled_from(MEMBERS), VALUES, max_size=3)
COLUMNS = st.fixed_dictionaries(
    {"active": st.booleans()},
    optional={
        "name": VALUES,
        "price": st.sampled_from([Decimal("1.0"), Decimal("2.50"), None]),
        "data": OBJECTS | OBJECTS.map(Patch) | st.sampled_from([None, [1]]),
    },
)
DELETE = st.just({"active": False})
#: The news of one delivery about one row: second, rank, columns.
NEWS = st.tuples(st.integers(0, 3), st.just(Rank.UPDATE), COLUMNS) | st.tuples(
    st.integers(0, 3), st.just(Rank.DELETE), DELETE
)


@st.composite
def histories(draw, news=NEWS):
    """Draw the news of several deliveries with their versions, and an order in which each arrives at least once."""
    numbered = [
        (columns, version(second, rank=rank, arrival=arrival))
        for arrival, (second, rank, columns) in enumerate(draw(st.lists(news, min_size=1, max_size=7)))
    ]
    repeated = numbered + draw(st.lists(st.sampled_from(numbered), max_size=4))
    return numbered, draw(st.permutations(repeated))


def taken(deliveries):
    registers = Registers()
    for columns, since in deliveries:
        for column, value in columns.items():
            registers.merge(column, value, since)
    return registers


@examples(60)
@given(histories(), st.none() | st.builds(version, st.integers(0, 3), rank=st.sampled_from(Rank), arrival=st.just(99)))
def test_any_order_and_any_duplication_leaves_the_same_row(history, gone):
    one, other = (taken(deliveries) for deliveries in history)
    assert one.values == other.values
    assert one.versions == other.versions
    assert row_status(one, gone) == row_status(other, gone)


@examples(60)
@given(histories())
def test_merging_all_columns_at_once_does_what_merging_one_after_the_other_does(history):
    one_by_one, at_once = Registers(), Registers()
    for columns, since in history[1]:
        outcomes = [one_by_one.merge(column, value, since) for column, value in columns.items()]
        assert strongest(at_once.merge_all(columns, since)) is strongest(outcomes)
        assert at_once == one_by_one
        assert dump(at_once) == dump(one_by_one)


def of_other_code(value):
    """Other values of the same form, as a handler with other code may give."""
    if isinstance(value, bool):
        return st.booleans()
    if isinstance(value, Patch):
        return st.fixed_dictionaries(dict.fromkeys(value.members, VALUES)).map(Patch)
    return OBJECTS | st.sampled_from([None, [1]]) if isinstance(value, (dict, list)) else VALUES


@st.composite
def replays(draw):
    """Draw the news of several deliveries, that of other code with the same versions, and an order of replays."""
    first, _ = draw(histories())
    again = []
    for columns, since in first:
        other = {name: draw(of_other_code(value)) for name, value in columns.items()}
        again.append((columns if since.rank == Rank.DELETE else other, since))
    return first, again, draw(st.permutations(again + draw(st.lists(st.sampled_from(again), max_size=3))))


@examples(60)
@given(replays())
def test_replays_with_other_code_leave_the_row_that_the_other_code_would_have_left(replayed):
    first, again, order = replayed
    registers = taken(first)
    for columns, since in order:
        registers.merge_all(columns, since, corrects=True)
    assert registers.values == taken(again).values
    assert registers.versions == taken(again).versions


def test_a_replay_with_the_same_code_is_unchanged():
    registers = row(living(1), ("name", "Lamp", version(1)), ("data", {"size": 1}, version(1)))
    same = {"active": True, "name": "Lamp", "data": {"size": 1}}
    assert strongest(registers.merge_all(same, version(1), corrects=True)) is Outcome.UNCHANGED


@pytest.mark.parametrize(
    ("column", "corrected"), [("name", "Tent"), ("data", {"size": 2}), ("data", Patch({"size": 2}))], ids=repr
)
def test_a_correction_shows_in_the_stored_versions(column, corrected):
    registers = row(living(1), ("name", "Lamp", version(1)), ("data", {"size": 1}, version(1)))
    before = dump(registers)
    assert registers.merge(column, corrected, version(1), corrects=True) is Outcome.APPLIED
    assert dump(registers) != before
    shown = {name: value for name, value in registers.values.items() if name != "active"}
    assert load(shown, dump(registers)) == registers


@pytest.mark.parametrize("corrections", ["1.5", '"5"', "true", "null", "1e400"])
def test_a_number_of_corrections_that_is_no_whole_number_is_refused(corrections):
    stored = dump(row(living(1)))
    with pytest.raises(ValueError, match="they are JSON of another shape"):
        load({}, f'{stored[:-1]},"corrections":{corrections}}}')


def test_a_correction_leaves_newer_news_alone():
    registers = row(living(1), ("name", "Lamp", version(1)), ("name", "Kettle", version(2)))
    assert registers.merge("name", "Tent", version(1), corrects=True) is Outcome.STALE
    assert registers.values["name"] == "Kettle"


def test_later_news_of_a_whole_row_has_one_outcome():
    registers = Registers()
    lamp = {"active": True, "name": "Lamp"}
    assert registers.merge_all(lamp, version(1)) == [Outcome.APPLIED]
    assert registers.merge_all(lamp, version(2)) == [Outcome.UNCHANGED]
    assert registers.merge_all(lamp | {"name": "Kettle"}, version(3)) == [Outcome.APPLIED]


@examples(60)
@given(histories())
def test_any_order_and_any_duplication_marks_the_same_ties(history):
    one, other = (taken(each).ties for each in history)
    assert one == other


@examples(60)
@given(st.lists(st.builds(version, st.integers(0, 3), rank=st.sampled_from(Rank)), min_size=1).flatmap(st.permutations))
def test_any_order_of_lost_children_ends_with_the_newest(losses):
    registers = Registers()
    for loss in losses:
        registers.lose_children("variants", loss)
    assert registers.children_gone["variants"] == max(losses)


@examples(60)
@given(histories(), st.none() | st.just(version(2, rank=Rank.DELETE)))
def test_a_stored_row_is_loaded_unchanged(history, gone):
    registers = taken(history[1])
    if gone is not None:
        registers.lose_children("variants", gone)
    shown = {name: value for name, value in registers.values.items() if name != "active"}
    assert load(shown, dump(registers)) == registers


@examples(60)
@given(histories(), st.integers(0, 10))
def test_storing_a_row_between_two_pieces_of_news_changes_nothing(history, position):
    news = history[1]
    first = taken(news[:position]) if position else Registers()
    if "active" not in first.versions:
        return
    stored = load({name: first.values.get(name) for name in ("name", "price", "data")}, dump(first))
    for columns, since in news[position:]:
        for column, value in columns.items():
            stored.merge(column, value, since)
    whole = taken(news)
    assert stored.versions == whole.versions
    assert {name: stored.values[name] for name in whole.values} == whole.values


#: JSON that resembles stored versions.
RESEMBLING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.just("active"),
    lambda inside: (
        st.lists(inside, max_size=4)
        | st.dictionaries(st.sampled_from(["own", "at", "ties", "gone", "corrections", "x"]), inside, max_size=4)
    ),
    max_leaves=12,
)


@examples(60)
@given(st.text(max_size=20) | RESEMBLING.map(json.dumps))
def test_any_text_is_either_versions_with_a_status_or_refused_with_what_is_wrong(text):
    try:
        found = load({"name": "Lamp"}, text)
    except ValueError as error:
        assert str(error) in ("they are empty", "they are not JSON", "they are JSON of another shape")  # noqa: PT017
    else:
        assert row_status(found, None).active is found.values["active"]
        assert load({"name": "Lamp"}, dump(found)) == found


@examples(60)
@given(histories())
def test_what_was_written_is_read_again(history):
    registers = taken(history[0])
    if "active" in registers.versions:
        held = {name: value for name, value in registers.values.items() if name != "active"}
        assert load(held, dump(registers)) == registers


@pytest.mark.parametrize("moment", [FIRST_MOMENT, LAST_MOMENT])
def test_news_of_the_first_and_the_last_moment_is_read_again(moment):
    at = version(0)._replace(time=microseconds(moment))
    registers = Registers()
    registers.merge_all({"name": "Lamp", "active": True}, at)
    assert load({"name": "Lamp"}, dump(registers)) == registers


def test_a_member_that_somebody_took_out_of_a_document_by_hand_stops_no_news():
    registers = Registers(
        {"data": {"size": 1}, "active": True},
        {"active": version(1), "data": version(1), "data.colour": version(9)},
    )
    assert registers.merge("data", {"size": 2}, version(5)) is Outcome.APPLIED
    assert registers.values["data"] == {"size": 2}
