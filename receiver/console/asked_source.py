"""The answer of a source that was asked for one row, and the explanation of each difference."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from receiver.api.actions import Action, ActionPage
from receiver.api.provenance import WhyRow
from receiver.console.visit import Visit
from receiver.reconcile.ask import MENDED
from receiver.runs.asking import ASK, REPAIR
from receiver.search.changes import Change


class DifferingColumn(NamedTuple):
    """A column whose value at the source differs. Both values are text, and long ones are cut."""

    name: str
    here: str | None
    there: str | None


class Explanation(NamedTuple):
    """Why the mirror and the source differ, or do not."""

    says: str
    #: The delivery that this explanation is about; None if it is about no single delivery.
    delivery: str | None = None
    #: Whether the webhook seems never to have been accepted, so that the page links to the refused requests.
    never_accepted: bool = False


class AnsweredQuestion(NamedTuple):
    """A question to the source, and its answer."""

    at: datetime
    who: str
    #: How long the source took.
    milliseconds: int
    known_there: bool
    changed_there: datetime | None
    differing: list[DifferingColumn]
    causes: list[Explanation]
    #: What a repair did; None if nothing was repaired.
    repair: str | None
    #: Whether the mirror's row is damaged, so that a repair is wanted even where the values are equal.
    is_damaged: bool

    @property
    def may_repair(self) -> bool:
        return (bool(self.differing) or self.is_damaged) and self.repair is None


def answered_question(
    visit: Visit, action_id: int | None, why: WhyRow | None, history: Sequence[Change]
) -> AnsweredQuestion | None:
    """The answer that the action of this id recorded about the visited row; None if it recorded none."""
    action = None if action_id is None else _action(visit, action_id)
    if action is None or any(action.arguments.get(name) != text for name, text in visit.path.items()):
        return None
    result = action.result
    differing = [
        DifferingColumn(each["column"], readable(each["here"]), readable(each["there"]))
        for each in result.get("differ", ())
    ]
    return AnsweredQuestion(
        at=action.at,
        who=action.who,
        milliseconds=result.get("milliseconds", 0),
        known_there=result.get("known_there", True),
        changed_there=_moment(result.get("changed_there")),
        differing=differing,
        causes=_causes(result, differing, why, history),
        repair=_repair(result) if action.what == REPAIR else None,
        is_damaged=why is not None and why.damage is not None,
    )


def _action(visit: Visit, action_id: int) -> Action | None:
    page = visit.ask(ActionPage, "list_actions", before=str(action_id + 1), limit="1")
    found = page.items[0] if page.items else None
    return found if found is not None and found.id == str(action_id) and found.what in (ASK, REPAIR) else None


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _repair(result: dict[str, Any]) -> str:
    left, rows = result.get("left"), result.get("rows", 0)
    if left == "newer":
        return "Not repaired: the mirror has news as new as this answer, or newer. Ask again."
    if left == "delivery":
        return "Not repaired: a delivery about this row arrived while the source was asked. Ask again."
    if result.get("mended"):
        return MENDED
    if not rows:
        return "There was nothing to repair."
    return f"Repaired: {rows} {'row' if rows == 1 else 'rows'} changed."


def _causes(
    result: dict[str, Any], differing: Sequence[DifferingColumn], why: WhyRow | None, history: Sequence[Change]
) -> list[Explanation]:
    if not result.get("known_here", True):
        says = "The mirror has never had this row: no webhook about it was accepted."
        return [Explanation(says, never_accepted=True)]
    if not differing:
        newest = f", number {history[0].seq} of the change feed" if history else ""
        says = f"The mirror says the same. A program that shows another value has not read the last change{newest}."
        return [Explanation(says)]
    told = [*_told_by_deliveries(differing, why)]
    if told:
        return told
    says = "No delivery has the source's values: the webhook was never sent, or never accepted."
    return [Explanation(says, never_accepted=True)]


def _told_by_deliveries(differing: Sequence[DifferingColumn], why: WhyRow | None) -> list[Explanation]:
    """Deliveries that had the source's values, or may have had them: they lost, are dead, or were ignored."""
    if why is None:
        return []
    names = {each.name: each.there for each in differing}
    found = [
        Explanation(f"A delivery had its value of {each.column}, and lost ({each.lost.how}).", each.lost.delivery)
        for each in why.columns
        if each.lost is not None and each.column in names and str(each.lost.value) == names[each.column]
    ]
    found += [
        Explanation(f"A delivery about this row is {each.state}: {each.reason or 'no reason is known'}", each.id)
        for each in why.not_in_force
    ]
    return found


def readable(text: str) -> str | None:
    """A value for people, given as JSON text that may have been cut."""
    try:
        value = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text
    return value if value is None or isinstance(value, str) else text
