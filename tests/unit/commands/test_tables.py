"""How commands show values: short objects whole, and long ones cut with a sign."""

from __future__ import annotations

from decimal import Decimal

from receiver.commands.tables import CUT, LONGEST_JSON, LONGEST_MEMBER, cell, tell_cut


def test_a_short_object_is_shown_whole():
    assert cell({"a": [1, Decimal("2.50")]}) == '{"a":[1,2.50]}'


def test_a_long_object_is_cut_member_by_member_and_shows_all_names():
    shown = cell({"name": "Lamp", "data": {"text": "x" * 5_000}, "price": "1.50"})
    assert shown.startswith('{"name":"Lamp","data":{"text":"xxx')
    assert "…" in shown
    assert shown.endswith('"price":"1.50"}')
    assert len(shown) < 2 * LONGEST_MEMBER + 60


def test_an_object_of_many_members_ends_with_the_sign_of_a_cut():
    shown = cell({f"member {number}": number for number in range(1_000)})
    assert (len(shown), shown[-1]) == (LONGEST_JSON, "…")


def test_only_after_a_cut_the_command_says_where_the_whole_value_is(capsys):
    tell_cut([{"a": 1}, "x" * 10_000, None])
    assert capsys.readouterr().out == ""
    tell_cut([{"a": "x" * 10_000}])
    assert capsys.readouterr().out == f"{CUT}\n"
