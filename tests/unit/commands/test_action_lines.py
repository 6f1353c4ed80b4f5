"""`hookmirror actions`: one line says who did what to which thing, and why."""

from __future__ import annotations

from typing import Any

import pytest

from receiver.commands.actions import _line
from receiver.runs.wording import argument_words


def action(what: str, **given: Any) -> dict[str, Any]:
    usual = {"at": "2026-11-28T23:53:22Z", "who": "ops-1", "via": "command", "what": what, "reason": None}
    return usual | {"arguments": {}, "run": None, "count": 0, "counts": "delivery"} | given


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (action("forget follower", arguments={"follower": "erp"}), "forget follower (follower erp)"),
        (
            action("drop dead change", arguments={"follower": "erp", "seq": 7}, count=1, counts="dead change"),
            "drop dead change (follower erp, 1 dead change)",
        ),
        (
            action("replay", arguments={"source": "shop", "event_type": "a.b", "conflict": False}, count=6),
            "replay (source shop, event type a.b, 6 deliveries)",
        ),
        (
            action("start run", arguments={"run": "3"}, run="3", count=1, reason="the parser\x1b was mended"),
            "start run (1 delivery, run 3): the parser\\x1b was mended",
        ),
        (action("reload settings", count=2, counts="process"), "reload settings (2 processes)"),
        (action("plan replay", arguments={"reason": "x" * 2_000}), f"plan replay (reason {'x' * 60}…)"),
    ],
    ids=["follower", "dead change", "filters", "run", "processes", "long"],
)
def test_a_line_names_the_thing_concerned(given, line):
    assert _line(given) == f"2026-11-28 23:53:22Z  ops-1 (command)  {line}"


@pytest.mark.parametrize(
    ("members", "words"),
    [
        (
            {"source": "shop", "event_type": "a.b", "conflict": False, "force": True},
            "source shop, event type a.b, force",
        ),
        ({"rows": {"products": {"update": 1200}}, "left": None}, "rows (products (update 1,200))"),
        ({"deliveries": [str(each) for each in range(8)]}, "deliveries 0, 1, 2, 3, 4 and 3 more"),
        ({"says": "x" * 100}, f"says {'x' * 60}…"),
        ({"damaged": "The stored text 'a' is not JSON." * 9}, "damaged: " + "The stored text 'a' is not JSON." * 9),
        ({}, ""),
    ],
)
def test_members_of_a_request_or_an_answer_are_words(members, words):
    assert ", ".join(argument_words(members)) == words
