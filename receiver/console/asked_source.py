"""The answer of a source that was asked for one row, and the explanation of each difference."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

import msgspec

from receiver.api.actions import Action, ActionPage
from receiver.api.deliveries import DeliveryPage
from receiver.api.delivery_shapes import Delivery
from receiver.api.provenance import LostValue, NotInForce, WhyColumn, WhyRow
from receiver.codec import describe_shape
from receiver.console.visit import Visit
from receiver.errors import BadRequest
from receiver.inbox.states import State
from receiver.logs.wording import counted
from receiver.moments import in_utc
from receiver.provenance.traces import Defeat
from receiver.reconcile.ask import MENDED
from receiver.runs.asking import ASK, REPAIR, shortened_answer
from receiver.search.changes import Change

#: The most deliveries that are examined about a row that the mirror does not have.
MOST_ABOUT_IT = "20"

NEVER_ACCEPTED = "The mirror has never had this row: no webhook about it was accepted."

IF_OF_ANOTHER = "If that is another entity with the same id, no webhook about this row was accepted."


class DifferingColumn(NamedTuple):
    """A column whose value at the source differs. Both values are text, and long ones are cut."""

    name: str
    here: str | None
    there: str | None


class RecordedColumn(msgspec.Struct, frozen=True):
    """A differing column as an action records it, with both values as JSON text that may have been cut."""

    column: str
    here: str
    there: str


class RecordedAnswer(msgspec.Struct, frozen=True):
    """The answer of a source as an action records it."""

    differ: list[RecordedColumn] = []
    milliseconds: int = 0
    known_there: bool = True
    known_here: bool = True
    changed_there: datetime | None = None
    #: Of a repair: the number of changed rows, the reason why nothing was written, and whether a damaged row was.
    rows: int = 0
    left: str | None = None
    mended: bool = False


describe_shape(RecordedAnswer)


class Explanation(NamedTuple):
    """The reason why the mirror and the source differ, or agree."""

    says: str
    #: The delivery that this explanation is about; None if it is about no single delivery.
    delivery: str | None = None
    #: Whether the webhook seems never to have been accepted, so that the page links to the refused requests.
    never_accepted: bool = False


class AnsweredQuestion(NamedTuple):
    """A question to the source, and its answer."""

    at: datetime
    who: str
    #: The duration of the source's answer.
    milliseconds: int
    known_there: bool
    changed_there: datetime | None
    differing: list[DifferingColumn]
    causes: list[Explanation]
    #: The result of a repair; None without one.
    repair: str | None
    #: The time of the newest change of the row after the answer; None without one. With one, there are no causes.
    changed_since: datetime | None
    #: Whether the mirror's row is damaged, so that a repair is useful even if the values are equal.
    is_damaged: bool

    @property
    def may_repair(self) -> bool:
        is_wanted = (bool(self.differing) or self.is_damaged) and self.repair is None
        return is_wanted and self.changed_since is None


def answered_question(
    visit: Visit, action_id: int | None, why: WhyRow | None, history: Sequence[Change]
) -> AnsweredQuestion | None:
    """The answer about the visited row that the action of this id recorded; None without one."""
    action = None if action_id is None else _action(visit, action_id)
    if action is None or any(action.arguments.get(name) != text for name, text in visit.path.items()):
        return None
    try:
        result = msgspec.convert(action.result, RecordedAnswer)
        changed_there = None if result.changed_there is None else in_utc(result.changed_there)
    except (msgspec.ValidationError, ValueError):
        # The action was edited by hand.
        return None
    differing = [DifferingColumn(each.column, readable(each.here), readable(each.there)) for each in result.differ]
    is_repair = action.what == REPAIR
    changed_since = None if is_repair else _changed_after(action.at, history)
    return AnsweredQuestion(
        at=action.at,
        who=action.who,
        milliseconds=result.milliseconds,
        known_there=result.known_there,
        changed_there=changed_there,
        differing=differing,
        causes=[] if is_repair or changed_since else _causes(visit, result, differing, why, history),
        repair=_repair(result) if is_repair else None,
        changed_since=changed_since,
        is_damaged=why is not None and why.damage is not None,
    )


def _changed_after(moment: datetime, history: Sequence[Change]) -> datetime | None:
    """The time of the newest change, newest first, if it was recorded after this moment."""
    return history[0].recorded_at if history and history[0].recorded_at > moment else None


def _action(visit: Visit, action_id: int) -> Action | None:
    page = visit.ask(ActionPage, "list_actions", before=str(action_id + 1), limit="1")
    found = page.items[0] if page.items else None
    return found if found is not None and found.id == str(action_id) and found.what in (ASK, REPAIR) else None


def _repair(result: RecordedAnswer) -> str:
    if result.left == "newer":
        return "Not repaired: the mirror has news as new as this answer, or newer. Ask again."
    if result.left == "delivery":
        return "Not repaired: a delivery about this row arrived while the source was asked. Ask again."
    if result.mended:
        return MENDED
    if not result.rows:
        return "There was nothing to repair."
    return f"Repaired: {counted(result.rows, 'row')} changed."


def _causes(
    visit: Visit,
    result: RecordedAnswer,
    differing: Sequence[DifferingColumn],
    why: WhyRow | None,
    history: Sequence[Change],
) -> list[Explanation]:
    if not result.known_here:
        return _without_news(visit)
    if not differing:
        newest = f", number {history[0].seq} of the change feed" if history else ""
        says = f"The mirror agrees. A program that shows another value has not read the last change{newest}."
        return [Explanation(says)]
    if why is None:
        says = "Why they differ is not known, because the deliveries about the row could not be run again."
        return [Explanation(says)]
    return [*_told_by_deliveries(differing, why)] or [_told_by_none(why)]


def _without_news(visit: Visit) -> list[Explanation]:
    """Why the mirror has no news of the row: the deliveries about it brought none, or no webhook was accepted."""
    source, external_id = visit.path["source"], visit.path["external_id"]
    try:
        found = visit.ask(DeliveryPage, "list_deliveries", source=source, entity=external_id, limit=MOST_ABOUT_IT)
    except BadRequest:
        # The source has no data any more, or no stored id is as long as this one.
        return [Explanation(NEVER_ACCEPTED, never_accepted=True)]
    if found.items:
        return [*_told_by_namesakes(found.items), Explanation(IF_OF_ANOTHER, never_accepted=True)]
    if found.next is not None:
        says = (
            "The mirror has never had this row. Not all deliveries could be examined for one about it: reload the page."
        )
        return [Explanation(says)]
    return [Explanation(NEVER_ACCEPTED, never_accepted=True)]


def _told_by_namesakes(deliveries: Sequence[Delivery]) -> list[Explanation]:
    """Deliveries about entities with the row's id: those that were never processed, or the newest of the others.

    The entity may be of another kind, since the kind of a table's rows is known to the handlers only.
    """
    told = [
        _explained(f"A delivery about the {_kind_of(each)} with this id is {each.state}", each.reason, each.id)
        for each in deliveries
        if each.state is not State.PROCESSED
    ]
    newest = deliveries[0]
    about = f"The newest delivery about the {_kind_of(newest)} with this id"
    says = f"{about} was processed, and brought no news of this row"
    return told or [_explained(says, None, newest.id)]


def _told_by_deliveries(differing: Sequence[DifferingColumn], why: WhyRow) -> list[Explanation]:
    """Deliveries that had the source's values, or may have had them: they lost, are dead, or were ignored."""
    there = {each.name: each.there for each in differing}
    found = [
        Explanation(_lost(each, each.lost), each.lost.delivery)
        for each in why.columns
        if each.lost is not None and each.column in there and _is_answered(each.lost, there[each.column])
    ]
    return [*found, *map(_not_in_force, why.not_in_force)]


def _is_answered(lost: LostValue, there: str | None) -> bool:
    """Whether the value that lost is the one that the source answered, as far as the action has kept it."""
    return not lost.absent and readable(shortened_answer(lost.value)) == there


def _not_in_force(delivery: NotInForce) -> Explanation:
    return _explained(f"A delivery about this row is {delivery.state}", delivery.reason, delivery.id)


def _explained(says: str, reason: str | None, delivery: str) -> Explanation:
    return Explanation(f"{says}: {reason}" if reason else f"{says}.", delivery)


def _kind_of(delivery: Delivery) -> str:
    return "entity" if delivery.entity is None else delivery.entity.partition(":")[0]


def _told_by_none(why: WhyRow) -> Explanation:
    number = sum(each.deliveries for each in why.not_run)
    says = "No delivery has the source's values: the webhook was never sent, or never accepted."
    if number:
        says = (
            f"No delivery that could be run again has the source's values, and {counted(number, 'delivery')} could not "
            "be run: either these had them, or the webhook was never sent, or never accepted."
        )
    return Explanation(says, never_accepted=True)


def _lost(column: WhyColumn, lost: LostValue) -> str:
    """Why the source's value of a column is not in force, although a delivery brought it."""
    said = f"A delivery brought the source's {column.column}, as of {lost.changed_at:%Y-%m-%d %H:%M:%S} UTC, and lost "
    if lost.how is Defeat.TIE:
        return f"{said}against a value of the same time that arrived later."
    against = f"{column.changed_at:%Y-%m-%d %H:%M:%S} UTC, the time of the present value"
    if lost.how is Defeat.OVERTAKEN:
        return f"{said}its place to later news, as of {against}."
    return f"{said}because it is older than {against}."


def readable(text: str) -> str | None:
    """A value for people, given as JSON text that may have been cut."""
    try:
        value = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text
    return value if value is None or isinstance(value, str) else text
