"""Past hours: the hourly sums of charts. A process reads the sums that cannot change only once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import Connection

from receiver.findings import tallies
from receiver.findings.counting import TALLIES_WAIT
from receiver.findings.tallies import HOUR, Tallied

#: The time after its end for which an hour may still change: a process writes the minutes of an outage of the database
#: afterwards, and counts by its own clock.
SETTLING = TALLIES_WAIT + timedelta(minutes=10)

#: The most charts whose hours are kept.
MOST_CHARTS = 64


class _Kept(NamedTuple):
    #: The hours are complete from `first` on and before `until`.
    first: datetime
    until: datetime
    hours: Mapping[datetime, Sequence[Tallied]]


class PastHours:
    """Hourly sums of one database. Threads may share them; at worst, two threads read the same hours."""

    def __init__(self) -> None:
        self._charts: OrderedDict[tuple[object, ...], _Kept] = OrderedDict()

    def by_kind(
        self, connection: Connection, sources: Sequence[str], kinds: Sequence[str], first: datetime, now: datetime
    ) -> list[Tallied]:
        """As `tallies.by_kind`, with a width of one hour. `first` is the beginning of an hour."""
        chart = (*sources, "", *kinds)
        kept = self._charts.pop(chart, _Kept(first, first, {}))
        # Hours from before the clock was set back were read before they came.
        if not kept.first <= first <= kept.until <= now:
            kept = _Kept(first, first, {})
        hours = {hour: sums for hour, sums in kept.hours.items() if hour >= first}
        newest: dict[datetime, list[Tallied]] = {}
        for each in tallies.by_kind(connection, sources, kinds, kept.until, now, width=HOUR):
            newest.setdefault(each.at, []).append(each)
        settled = max(tallies.beginning(now - SETTLING, HOUR), kept.until)
        hours |= {hour: sums for hour, sums in newest.items() if hour < settled}
        self._charts[chart] = _Kept(first, settled, hours)
        while len(self._charts) > MOST_CHARTS:
            self._charts.popitem(last=False)
        return [each for sums in (hours | newest).values() for each in sums]
