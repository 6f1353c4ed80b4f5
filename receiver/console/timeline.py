"""The timeline of a row: its changes, newest first, and the deliveries about it that changed nothing."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from receiver.api.provenance import LostValue, WhyRow
from receiver.codec import is_same
from receiver.inbox.ids import arrived
from receiver.moments import EPOCH
from receiver.search.changes import Change

#: Most entries of a timeline on a page.
MOST_ENTRIES = 50


class ChangedColumn(NamedTuple):
    """A column before and after a change."""

    name: str
    before: Any
    after: Any


class TimelineEntry(NamedTuple):
    """A change of the row, or news about it that lost or is not in force."""

    at: datetime
    #: One or two words, such as `update` or `stale`.
    what: str
    columns: list[ChangedColumn]
    delivery: str | None
    run: str | None = None
    #: The number in the change feed; None for an entry that is not a change.
    seq: int | None = None
    #: A further remark, or empty.
    says: str = ""


def timeline(history: list[Change], why: WhyRow | None) -> list[TimelineEntry]:
    """All entries about a row, newest first. A page shows at most `MOST_ENTRIES`."""
    entries = [_of_change(each) for each in history]
    if why is not None:
        entries += [*_of_losses(why), *_not_in_force(why)]
    return sorted(entries, key=lambda entry: entry.at, reverse=True)


def _of_change(change: Change) -> TimelineEntry:
    columns = [*_changed_columns(change)]
    return TimelineEntry(change.recorded_at, change.operation, columns, change.delivery_id, change.run, change.seq)


def _changed_columns(change: Change) -> Iterator[ChangedColumn]:
    """Columns, and members of documents, whose values changed."""
    for name in dict.fromkeys((*change.after, *change.before)):
        before, after = change.before.get(name), change.after.get(name)
        if isinstance(before, dict) and isinstance(after, dict):
            for member in {**before, **after}:
                if not is_same(before.get(member), after.get(member)):
                    yield ChangedColumn(f"{name}.{member}", before.get(member), after.get(member))
        elif not is_same(before, after):
            yield ChangedColumn(name, before, after)


def _of_losses(why: WhyRow) -> Iterator[TimelineEntry]:
    """Yield an entry for values that came too late or lost a tie. Overtaken values are among the changes."""
    by_delivery: dict[tuple[str, str], list[tuple[str, LostValue]]] = {}
    for column in why.columns:
        if column.lost is not None and column.lost.how != "overtaken":
            by_delivery.setdefault((column.lost.delivery, column.lost.how), []).append((column.column, column.lost))
    for (delivery, how), lost in by_delivery.items():
        # A document's members have lines of their own.
        documents = {name.partition(".")[0] for name, _ in lost if "." in name}
        told = [ChangedColumn(name, None, each.value) for name, each in lost if name not in documents]
        yield TimelineEntry(arrival_of(delivery), str(how), told, delivery, says="It was not the newest news.")


def _not_in_force(why: WhyRow) -> Iterator[TimelineEntry]:
    for each in why.not_in_force:
        yield TimelineEntry(arrival_of(each.id), str(each.state), [], each.id, says=each.reason or "")


def arrival_of(delivery: str) -> datetime:
    """The time at which the delivery with this id arrived."""
    return EPOCH + timedelta(microseconds=arrived(int(delivery)))
