"""Signature histories: what the rules about signatures need to know of the hours before the last one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import Connection

from receiver.dialects.sources import Source
from receiver.findings import tallies
from receiver.findings.counting import LATE, SECRET_USED
from receiver.findings.rules.signatures import LATELY, SOME, WRONG
from receiver.findings.secret_uses import secrets_since, was_used
from receiver.findings.silences import newest_arrival
from receiver.findings.situation import SignatureHistory
from receiver.findings.tallies import HOUR, MINUTE, MINUTES_KEPT, DetailTotal, Tallied
from receiver.inbox import refused
from receiver.verify.secret_marks import all_marks, present_marks

#: The period before the last right signature in which wrong ones are counted.
BEFORE_GOOD = timedelta(days=1)


class SignaturePast(NamedTuple):
    """These parts of a situation."""

    signatures: Mapping[str, SignatureHistory]
    secrets_since: Mapping[str, datetime]
    secret_uses: Mapping[str, Mapping[str, DetailTotal]]


def read_signatures(
    connection: Connection,
    sources: Mapping[str, Source],
    recent: Sequence[Tallied],
    kept: Collection[str],
    now: datetime,
) -> SignaturePast:
    """Read the past of the sources with wrong signatures or several secrets. `kept` are those with kept requests."""
    of_a_day = tallies.details(connection, list(sources), "refused", now - LATELY, now)
    in_a_day, in_an_hour = _wrong_numbers(of_a_day), _wrong_numbers(each for each in recent if each.kind == "refused")
    suspects = (in_a_day.keys() | set(kept)) & sources.keys()
    rotating = {name for name, each in sources.items() if len(each.credentials.secrets) > 1}
    since = secrets_since(connection, {name: sources[name] for name in suspects | rotating}, now)
    histories = {}
    for name in suspects:
        history = _history(connection, name, since.get(name), now)
        if in_an_hour[name] < SOME <= in_a_day[name]:
            history = _with_hours(connection, name, history, since.get(name), now)
        histories[name] = history
    unused = (rotating & since.keys()) - set(_with_newest(sources, recent, since))
    superseded = [name for name in unused if not sources[name].credentials.has_names]
    # How often the older secrets were used matters only if the newest never was.
    switching = [name for name in superseded if not _has_used_newest(connection, sources[name], since[name], now)]
    uses = {name: _uses(connection, sources[name], since[name], now) for name in switching}
    return SignaturePast(histories, since, uses)


def _wrong_numbers(refusals: Iterable[Tallied | DetailTotal]) -> Counter[str]:
    """The numbers of wrong signatures among these refusals, by source."""
    numbers: Counter[str] = Counter()
    for each in refusals:
        if each.detail in WRONG:
            numbers[each.source] += each.number
    return numbers


def _history(connection: Connection, name: str, secrets_from: datetime | None, now: datetime) -> SignatureHistory:
    good = tallies.last(connection, name, "verified", now)
    before = tallies.number_of(connection, name, "refused", sorted(WRONG), good - BEFORE_GOOD, good) if good else 0
    good_at = _last_good(connection, name, good) if good else newest_arrival(connection, name)
    after = good or good_at or now - MINUTES_KEPT
    counting_from = max(after, secrets_from) if secrets_from else after
    # What is still kept from before the present secrets was verified with them as well, and failed. Of what was
    # refused before them and is not kept, nothing is known.
    kept = refused.kept_since(connection, name, WRONG, good_at or after)
    refusals = tallies.details(connection, [name], "refused", counting_from, now)
    wrong = [each for each in refusals if each.detail in WRONG]
    return SignatureHistory(
        *(good, before, good_at, kept.first),
        wrong=max(sum(each.number for each in wrong), kept.number),
        wrong_first=min((*(each.first for each in wrong), *filter(None, (kept.first,))), default=None),
        wrong_last=max((*(each.last for each in wrong), *filter(None, (kept.last,))), default=None),
    )


def _with_hours(
    connection: Connection, name: str, history: SignatureHistory, secrets_from: datetime | None, now: datetime
) -> SignatureHistory:
    """Add the hours of the last day, for a source with few wrong signatures in the last hour."""
    after = now - LATELY if secrets_from is None else max(now - LATELY, secrets_from + MINUTE)
    hours = sorted(tallies.by_kind(connection, [name], ("refused", "verified"), after, now, width=HOUR))
    wrong = [each for each in hours if each.kind == "refused" and each.detail in WRONG]
    return replace(history, wrong_hours=wrong, good_hours=[each for each in hours if each.kind == "verified"])


def _last_good(connection: Connection, name: str, tallied: datetime) -> datetime | None:
    """The arrival of the newest delivery; None if it is older than the tally, which then counted a duplicate."""
    at = newest_arrival(connection, name)
    return at if at is not None and tallied - LATE <= at < tallied + MINUTE else None


def _with_newest(
    sources: Mapping[str, Source], recent: Sequence[Tallied], since: Mapping[str, datetime]
) -> Iterator[str]:
    """The sources whose newest secret has verified a webhook lately."""
    for each in recent:
        if each.kind != SECRET_USED or each.source not in since or each.at <= since[each.source]:
            continue
        if any(each.detail in marks[:1] for marks in all_marks(sources[each.source].credentials)):
            yield each.source


def _has_used_newest(connection: Connection, source: Source, since: datetime, now: datetime) -> bool:
    """Whether the newest secret was used, by its mark by any of the keys."""
    newest = [marks[0] for marks in all_marks(source.credentials)]
    return any(was_used(connection, source.name, mark, since, now) for mark in newest)


def _uses(connection: Connection, source: Source, since: datetime, now: datetime) -> dict[str, DetailTotal]:
    """The uses of each secret by its mark by the newest key."""
    present, uses = present_marks(source.credentials), dict[str, DetailTotal]()
    for each in tallies.details(connection, [source.name], SECRET_USED, since, now):
        mark = present.get(each.detail, each.detail)
        uses[mark] = each if mark not in uses else _joined(uses[mark], each)
    return uses


def _joined(one: DetailTotal, other: DetailTotal) -> DetailTotal:
    first, last = min(one.first, other.first), max(one.last, other.last)
    return one._replace(number=one.number + other.number, first=first, last=last)
