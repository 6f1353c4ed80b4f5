"""Rules about silence: one sender has stopped, or no webhook reaches us at all.

The usual gap is that of the same hour on earlier days of the same kind: weekdays or weekends. Only minutes in which
an endpoint ran count: a night without one, or a clock set forward, is not a silence. Once found, a silence lasts until
something arrives, because the history of a silent source becomes too short to show what is usual.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from itertools import pairwise

from receiver.findings.finding import Finding
from receiver.findings.situation import Silence, Situation
from receiver.moments import clock_time

#: The least number of minutes with webhooks, and the least age of the first, before a usual gap is known.
FEWEST_ARRIVALS, SHORTEST_HISTORY = 20, timedelta(days=1)

#: The number of earlier days to compare, and the time before and after this hour.
SILENCE_DAYS, AROUND = 14, timedelta(hours=1)

#: A gap is a silence when it exceeds the usual one by this factor and by this number of minutes.
TIMES, MORE = 3, 10

SATURDAY = 5

#: The source of the finding about all sources.
ALL_SOURCES = ""

_NO_SILENCE = Silence((), 0)


def source_silent(situation: Situation) -> Iterator[Finding]:
    """One source has been silent for longer than is usual at this hour of the week, and still is."""
    all_silent = bool(list(all_sources_silent(situation)))
    for name in situation.sources:
        silence, found = situation.silences.get(name, _NO_SILENCE), situation.silent_since.get(name)
        usual = _exceeded(silence, situation)
        if found is None and (usual is None or all_silent):
            continue
        last = silence.arrivals[-1] if found is None else found
        longer = ", for longer than usual"
        if usual is not None:
            longer = f"; at this hour of the week it is usually silent for {_lasting(usual)} at most"
        yield Finding(
            "source_silent",
            name,
            last,
            f"nothing has come from {name} since {clock_time(last, situation.now)}{longer}",
            "At the sender, check the log of deliveries, and whether the webhook was paused or removed. Then run "
            f"`hookmirror reconcile {name}`.",
            {"minutes": silence.watched or None, "usual_minutes": usual, "link": f"/api/v1/deliveries?source={name}"},
        )


def all_sources_silent(situation: Situation) -> Iterator[Finding]:
    """All sources together have been silent for longer than they ever were, and still are."""
    if len(situation.sources) < 2:
        return
    together, found = _together(situation), situation.silent_since.get(ALL_SOURCES)
    usual = _exceeded(together, situation)
    if usual is None and found is None:
        return
    since = together.arrivals[-1] if found is None else found
    yield Finding(
        "all_sources_silent",
        ALL_SOURCES,
        since,
        f"nothing has come from any source since {clock_time(since, situation.now)}, so the network path to this "
        "endpoint is likely broken",
        "Check the proxy in front, its certificate, the DNS name and the firewall. Post to /hooks/<source> from "
        "outside with `hookmirror send --to`. Then reconcile.",
        {"minutes": together.watched or None, "usual_minutes": usual, "link": "/api/v1/stats"},
    )


def _together(situation: Situation) -> Silence:
    """The silence of all sources, if none has sent anything lately and at least two have before."""
    heard = [silence for silence in situation.silences.values() if silence.arrivals]
    if situation.sources.keys() - situation.silences.keys() or len(heard) < 2:
        return _NO_SILENCE
    arrivals = sorted({arrival for silence in heard for arrival in silence.arrivals})
    return Silence(arrivals, min(silence.watched for silence in heard))


def _exceeded(silence: Silence, situation: Situation) -> int | None:
    """The usual longest gap in minutes, if this silence is far longer; else None."""
    usual = usual_gap(silence.arrivals, situation.now)
    if usual is None or not situation.is_steady or silence.watched <= TIMES * usual + MORE:
        return None
    return usual


def usual_gap(arrivals: Sequence[datetime], now: datetime) -> int | None:
    """The longest gap in minutes at this hour of similar days; None while too little is known."""
    if len(arrivals) < FEWEST_ARRIVALS or now - arrivals[0] < SHORTEST_HISTORY:
        return None
    days = [now - timedelta(days=day) for day in range(1, SILENCE_DAYS + 1)]
    alike = [day for day in days if _is_weekend(day) == _is_weekend(now) and day - AROUND >= arrivals[0]]
    gaps = [_longest_gap(arrivals, day - AROUND, day + AROUND) for day in alike if day + AROUND <= arrivals[-1]]
    if len(gaps) < 2 or not any(day.weekday() == now.weekday() for day in alike):
        # With less than a week of history, every earlier gap counts as usual.
        gaps = [_longest_gap(arrivals, arrivals[0], arrivals[-1])]
    return max(gaps)


def _longest_gap(arrivals: Sequence[datetime], begin: datetime, end: datetime) -> int:
    """The longest gap, in minutes, that overlaps this period."""
    first = max(bisect_right(arrivals, begin) - 1, 0)
    last = min(bisect_left(arrivals, end), len(arrivals) - 1)
    some = arrivals[first : last + 1]
    gaps = (after - before for before, after in pairwise(some))
    return max((int(gap.total_seconds()) // 60 for gap in gaps), default=0)


def _is_weekend(moment: datetime) -> bool:
    return moment.weekday() >= SATURDAY


def _lasting(minutes: int) -> str:
    return f"{minutes} minutes" if minutes < 120 else f"{minutes // 60} hours"
