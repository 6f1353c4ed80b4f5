"""The tables in which commands show lists."""

from __future__ import annotations

from receiver.commands.pagination import LONGEST_TEXT, show_list
from receiver.commands.tables import CUT


class Answering:
    """A client whose server has one page."""

    def __init__(self, *items):
        self.items = items

    def ask(self, *_):
        return {"items": self.items, "next": None}


def shown(capsys, *items, **how):
    how = {"limit": 20, "as_json": False, "columns": ("id", "name"), **how}
    show_list(Answering(*items), "/", {}, **how)
    return capsys.readouterr().out.splitlines()


def test_further_columns_have_texts_numbers_and_flags_and_one_value_at_least(capsys):
    known = {"id": "A1", "name": "Lamp", "empty": None, "left_at": "x"}
    values = {"colour": None, "weight": "1.50", "count": 0, "new": False, "data": None}
    both = ({**known, **values}, {**known, **values, "colour": "red", "data": {"a": 1}})
    table = shown(capsys, *both, besides=("left_at",))
    assert [line.split() for line in table] == [
        ["ID", "NAME", "COLOUR", "WEIGHT", "COUNT", "NEW"],
        ["A1", "Lamp", "–", "1.50", "0", "false"],
        ["A1", "Lamp", "red", "1.50", "0", "false"],
    ]
    assert shown(capsys, both[0])[0].split() == ["ID", "NAME"]
    assert shown(capsys, besides=()) == ["None."]


def test_a_long_text_is_cut_with_a_note_and_a_reason_is_not(capsys):
    long = "x" * (LONGEST_TEXT + 1)
    _, line, note = shown(capsys, {"id": long, "name": "Lamp"})
    assert line.split() == [f"{long[: LONGEST_TEXT - 1]}…", "Lamp"]
    assert note == CUT
    _, whole = shown(capsys, {"id": long[1:], "reason": long}, columns=("id", "reason"))
    assert whole.split() == [long[1:], long]
