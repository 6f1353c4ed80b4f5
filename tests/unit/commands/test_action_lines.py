"""`hookmirror actions`: one line says who did what to which thing, and why."""

from __future__ import annotations

from typing import Any

import pytest

from receiver.commands.actions import _line


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
        (action("plan replay", arguments={"reason": "x" * 2_000}), f"plan replay (reason {'x' * 60}…)"),
    ],
    ids=["follower", "dead change", "filters", "run", "long"],
)
def test_a_line_names_the_thing_concerned(given, line):
    assert _line(given) == f"2026-11-28 23:53:22Z  ops-1 (command)  {line}"
