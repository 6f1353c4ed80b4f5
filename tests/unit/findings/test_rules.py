"""Each rule makes its finding when it should, and none for quiet or bursty sources, downtime or a clock that jumps."""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from receiver.findings.counting import RUNNING, TOO_LARGE, UNKNOWN_SOURCE, WATCHED
from receiver.findings.faults import Fault
from receiver.findings.finding import Finding
from receiver.findings.rules import findings
from receiver.findings.rules.silence import usual_gap
from receiver.findings.situation import (
    Followed,
    LockedDeliveries,
    Reconciled,
    RunningProcess,
    SignatureHistory,
    Silence,
    Situation,
    SourceFacts,
    Start,
    StillRun,
    Unhandled,
)
from receiver.findings.tallies import DetailTotal, Tallied, beginning
from receiver.metrics.few_names import OTHERS

#: This day is a Wednesday.
NOW = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)

SHOP, PIM = SourceFacts("shop"), SourceFacts("pim")
WORKER = RunningProcess("worker here:1 (hookmirror 0.1.0)", works=True, serves=False)
ENDPOINT = RunningProcess("endpoint here:2 (hookmirror 0.1.0)", works=False, serves=True)

WELL = Situation(
    NOW,
    sources={"shop": SHOP, "pim": PIM},
    recent=[
        Tallied(NOW - minute * MINUTE, "", kind, "", 1) for minute in range(59, 0, -1) for kind in (RUNNING, WATCHED)
    ],
    processes=[WORKER, ENDPOINT],
)


def tally(kind: str, *minutes: int, source: str = "shop", detail: str = "", number: int = 1) -> list[Tallied]:
    """Make a tally for each of these numbers of minutes ago."""
    return [Tallied(NOW - minute * MINUTE, source, kind, detail, number) for minute in minutes]


def with_tallies(*more: Sequence[Tallied], **changes: object) -> Situation:
    recent = sorted([*WELL.recent, *(each for some in more for each in some)], key=lambda each: each.at)
    return replace(WELL, recent=recent, **changes)


def the_finding(situation: Situation) -> Finding:
    (finding,) = findings(situation)
    assert not finding.says.endswith(".")
    assert finding.mend.endswith((".", "`."))
    assert finding.since <= situation.now
    return finding


def rules_of(situation: Situation) -> list[str]:
    return [finding.rule for finding in findings(situation)]


def test_without_trouble_there_is_no_finding():
    assert rules_of(WELL) == []
    assert rules_of(with_tallies(tally("accepted", *range(60)), tally("verified", *range(60), detail="0"))) == []


# ── signatures ────────────────────────────────────────────────────────────────────────────────────────────────────

WRONG = {"detail": "signature_wrong"}


class ReadTallies(list[Tallied]):
    """Tallies that count how often all of them are read."""

    reads = 0

    def __iter__(self) -> Iterator[Tallied]:
        self.reads += 1
        return super().__iter__()


def test_the_rules_read_the_tallies_once_and_not_for_each_source():
    names = [f"shop-{number}" for number in range(50)]
    recent = ReadTallies([*WELL.recent, *(each for name in names for each in tally("accepted", 1, source=name))])
    situation = replace(WELL, recent=recent, sources={name: SourceFacts(name) for name in names})
    assert rules_of(situation) == []
    assert recent.reads == 1


def wrong(*minutes: int, number: int = 1, good: datetime | None = None, before: int = 0) -> SignatureHistory:
    """Make a history with wrong signatures these numbers of minutes ago, the first ones first."""
    first, last = (NOW - minute * MINUTE for minute in (minutes[0], minutes[-1]))
    return SignatureHistory(good, before, wrong=number * len(minutes), wrong_first=first, wrong_last=last)


def used(source: str, mark: str, number: int, *, ago: int) -> dict[str, dict[str, DetailTotal]]:
    """Make the uses of one secret, the first of them so many minutes ago."""
    return {source: {mark: DetailTotal(source, mark, number, NOW - ago * MINUTE, NOW)}}


def test_a_secret_changed_at_the_sender_is_found_with_its_minute_and_the_kept_requests():
    good = NOW - 20 * MINUTE
    finding = the_finding(
        with_tallies(
            tally("verified", 30, 20, detail="0"),
            signatures={"shop": wrong(18, 10, 2, number=10, good=good)},
            kept={"shop": 30},
        )
    )
    assert (finding.rule, finding.source, finding.since) == ("secret_changed", "shop", NOW - 18 * MINUTE)
    assert "since 11:42 UTC" in finding.says
    assert "11:40 UTC" in finding.says
    assert "30 refused requests are kept" in finding.mend
    assert finding.evidence["refused"] == 30


def test_a_changed_secret_is_told_with_the_times_of_arrival_and_not_of_counting():
    good, first = NOW - 22 * MINUTE, NOW - 19 * MINUTE
    counted = wrong(17, 10, 2, number=10, good=NOW - 20 * MINUTE)
    finding = the_finding(replace(WELL, signatures={"shop": replace(counted, good_at=good, wrong_from=first)}))
    assert finding.since == first
    assert "fails since 11:41 UTC, and the last good one came at 11:38 UTC" in finding.says


def test_a_secret_that_never_verified_is_found():
    finding = the_finding(replace(WELL, signatures={"shop": wrong(3, 2, 1)}))
    assert finding.rule == "secret_changed"
    assert "none was ever right" in finding.says


def test_a_stranger_beside_a_quiet_sender_is_not_a_changed_secret():
    history = wrong(*range(59, 0, -1), good=NOW - 5 * HOUR, before=40)
    situation = with_tallies(tally("refused", *range(1, 60), **WRONG), signatures={"shop": history})
    assert rules_of(situation) == []


def test_one_or_two_wrong_signatures_are_not_a_finding():
    assert rules_of(replace(WELL, signatures={"shop": wrong(3, 2, good=NOW - 9 * MINUTE)})) == []


def test_a_changed_secret_is_found_at_a_sender_with_few_webhooks_a_day_until_a_day_after_the_last():
    """Every webhook of the last three days was refused, of which there is one in nine hours."""
    day = 24 * 60
    history = wrong(*range(3 * day, 500, -540), good=NOW - 4 * DAY)
    finding = the_finding(replace(WELL, signatures={"shop": history}))
    assert (finding.rule, finding.since, finding.evidence["refused"]) == ("secret_changed", NOW - 3 * DAY, 8)
    silent = wrong(3 * day, 2 * day, day + 1)
    assert rules_of(replace(WELL, signatures={"shop": silent})) == []
    assert rules_of(replace(WELL, signatures={"shop": silent}, kept={"shop": 1})) == [], "none since the last right one"
    kept_since = {"shop": replace(silent, wrong_from=NOW - 3 * DAY)}
    assert rules_of(replace(WELL, signatures=kept_since, kept={"shop": 1})) == ["secret_changed"]


def test_a_few_wrong_signatures_among_many_right_ones_look_like_a_stranger():
    finding = the_finding(
        with_tallies(
            tally("verified", *range(60), number=100, detail="0"),
            tally("refused", 20, 10, 3, number=2, **WRONG),
            signatures={"shop": SignatureHistory(NOW, 6)},
        )
    )
    assert finding.rule == "some_signatures_wrong"
    assert "stranger" in finding.says


def test_many_wrong_signatures_among_right_ones_look_like_a_part_of_the_sender():
    finding = the_finding(
        with_tallies(
            tally("verified", *range(60), number=10, detail="0"),
            tally("refused", *range(60), number=5, **WRONG),
            signatures={"shop": SignatureHistory(NOW, 300)},
        )
    )
    assert "part of the sender" in finding.says


def hourly(*hours: int, kind: str = "refused", detail: str = "signature_wrong", number: int = 1) -> list[Tallied]:
    return [Tallied(NOW - hour * HOUR, "", kind, detail, number) for hour in hours]


def rules_with_hours(wrong_hours: list[Tallied], good_hours: list[Tallied]) -> list[str]:
    history = SignatureHistory(NOW - HOUR, 9, wrong_hours=wrong_hours, good_hours=good_hours)
    return rules_of(replace(WELL, signatures={"shop": history}))


def test_wrong_signatures_in_many_hours_of_a_day_are_found_at_a_sender_with_few_webhooks():
    good = hourly(*range(23, 0, -2), kind="verified", detail="0", number=2)
    assert rules_with_hours(hourly(22, 17, 12, 8, 3), good) == ["some_signatures_wrong"]
    assert rules_with_hours(hourly(22, 17, 12, 3), good) == []
    assert rules_with_hours(hourly(22, 20, 18, 12, 7), good) == [], "the sender was corrected"
    assert rules_with_hours(hourly(3, number=50), good) == [], "a stranger at once"
    assert rules_with_hours(hourly(22, 17, 12, 8, 3), hourly(22, kind="verified", number=200)) == [], "strangers"
    assert rules_with_hours(hourly(12, 11, 10, 8, 3), hourly(22, kind="verified")) == [], "none was right since"


def test_the_finding_about_a_corrected_secret_ends():
    situation = with_tallies(
        tally("refused", 50, 40, 30, number=10, **WRONG),
        tally("verified", *range(25), detail="0"),
        signatures={"shop": SignatureHistory(NOW, 30)},
    )
    assert rules_of(situation) == []


def test_a_changed_secret_is_not_found_a_second_time_as_a_mixture_of_signatures():
    situation = with_tallies(
        tally("verified", *range(30, 60), detail="0"),
        # One came late, while the webhooks of the changed secret were refused already.
        tally("refused", 31, 20, 10, 2, number=5, **WRONG),
        signatures={"shop": wrong(20, 10, 2, number=5, good=NOW - 30 * MINUTE)},
    )
    assert rules_of(situation) == ["secret_changed"]


def test_what_earlier_secrets_refused_is_no_mixture_of_signatures():
    mixed = (
        tally("verified", *range(60), detail="0"),
        tally("refused", 9, 8, 7, number=5, **WRONG),
    )
    history = {"shop": SignatureHistory(NOW, 15)}
    assert rules_of(with_tallies(*mixed, signatures=history)) == ["some_signatures_wrong"]
    # The settings with the sender's new secret were read six minutes ago, and nothing was refused since.
    read = {"shop": NOW - 6 * MINUTE}
    assert rules_of(with_tallies(*mixed, signatures=history, secrets_since=read)) == []


STALE = {"detail": "signature_stale"}


def test_right_signatures_with_times_too_far_from_their_arrival_are_found():
    finding = the_finding(with_tallies(tally("refused", 30, 20, 5, **STALE)))
    assert (finding.rule, finding.since) == ("signatures_stale", NOW - 30 * MINUTE)
    assert finding.says.startswith("100% of the webhooks for shop with a right signature are refused")
    assert "Compare the clocks" in finding.mend
    assert "reconcile" in finding.mend
    assert "If they do not come from the sender, a stranger repeats recorded webhooks" in finding.mend
    mixed = [tally("verified", *range(20), detail="0"), tally("refused", 30, 20, 10, 5, 1, **STALE)]
    assert the_finding(with_tallies(*mixed)).says.startswith("20% of the webhooks")


def test_wrong_signatures_do_not_count_among_the_right_ones_that_are_refused():
    wrong = tally("refused", 20, 10, number=50, detail="signature_wrong")
    mixed = with_tallies(wrong, tally("refused", 20, 10, 5, **STALE))
    (finding,) = [each for each in findings(mixed) if each.rule == "signatures_stale"]
    assert finding.says.startswith("100% of the webhooks for shop with a right signature")


def test_few_or_past_stale_signatures_are_not_a_finding():
    assert rules_of(with_tallies(tally("refused", 30, 5, **STALE))) == [], "two"
    assert rules_of(with_tallies(tally("refused", 30, 20, 11, **STALE))) == [], "the cause was mended"
    verified = tally("verified", *range(60), number=10, detail="0")
    assert rules_of(with_tallies(verified, tally("refused", *range(6), **STALE))) == [], "late retries"


def test_a_sender_that_still_uses_the_old_secret_is_found():
    situation = with_tallies(tally("verified", *range(10), detail="1"), sources={"shop": SourceFacts("shop", 2)})
    assert the_finding(situation).rule == "sender_not_switched"
    switched = with_tallies(
        tally("verified", *range(10), detail="1"),
        tally("verified", 1, detail="0"),
        sources={"shop": SourceFacts("shop", 2)},
    )
    assert rules_of(switched) == []


def test_an_old_secret_counts_against_the_sender_until_the_newest_one_verifies():
    rotated = replace(WELL, sources={"shop": SourceFacts("shop", 2, marks=("new", "old"))})
    old, new = used("shop", "old", 5, ago=5_000), used("shop", "new", 1, ago=70)
    finding = the_finding(replace(rotated, secret_uses=old))
    assert (finding.rule, finding.since) == ("sender_not_switched", NOW - 5_000 * MINUTE)
    assert rules_of(replace(rotated, secret_uses=used("shop", "old", 4, ago=5_000))) == []
    assert rules_of(replace(rotated, secret_uses={"shop": old["shop"] | new["shop"]})) == []


def test_secrets_of_different_webhook_records_are_not_a_rotation():
    named = SourceFacts("shop", 2, has_named_secrets=True)
    assert rules_of(with_tallies(tally("verified", *range(10), detail="1"), sources={"shop": named})) == []


# ── addresses, bodies, 503 ────────────────────────────────────────────────────────────────────────────────────────


def test_a_misspelt_address_is_found_with_the_intended_name():
    finding = the_finding(with_tallies(tally("misspelt", 9, 5, 1, detail="shopp")))
    assert finding.rule == "misspelt_source"
    assert finding.says == "3 webhooks came to the address '/hooks/shopp', which is unknown: was /hooks/shop meant?"
    assert "/hooks/shop" in finding.mend


def test_misspelt_addresses_are_counted_and_the_last_one_is_named():
    finding = the_finding(
        with_tallies(tally("misspelt", 9, 5, detail="shopp"), tally("misspelt", 1, detail="/hook/shop"))
    )
    assert (
        finding.says == "3 webhooks came to 2 unknown addresses, the last of them '/hook/shop': was /hooks/shop meant?"
    )


def test_an_address_outside_of_hooks_is_reported_as_it_was_requested():
    finding = the_finding(with_tallies(tally("misspelt", 9, 5, 1, detail="/hook/shop")))
    assert "'/hook/shop'" in finding.says


def test_two_webhooks_to_a_misspelt_address_are_not_a_finding():
    assert rules_of(with_tallies(tally("misspelt", 9, 5, detail="shopp"))) == []


def test_a_sender_that_keeps_posting_to_an_unknown_source_is_found():
    finding = the_finding(with_tallies(tally(UNKNOWN_SOURCE, *range(0, 20, 2), source="", detail="erp")))
    assert (finding.rule, finding.source, finding.evidence["asked_for"]) == ("unknown_source", "", "erp")
    assert finding.says == "10 webhooks came to /hooks/erp since 11:42 UTC, and the settings have no source 'erp'"
    assert "[sources.erp]" in finding.mend


def test_strangers_who_try_names_are_not_a_finding():
    names = (tally(UNKNOWN_SOURCE, minute, source="", detail=f"name {minute}", number=9) for minute in range(60))
    assert rules_of(with_tallies(*names)) == [], "each name a few times"
    assert rules_of(with_tallies(tally(UNKNOWN_SOURCE, 4, 3, source="", detail="erp", number=500))) == [], "at once"


def test_the_finding_names_a_likely_event_type():
    ignored = Unhandled("shop", "prodct.updated", 4, NOW - HOUR, NOW, likely="product.updated")
    finding = the_finding(replace(WELL, unhandled=[ignored]))
    assert finding.says.endswith("no handler takes this event type: was product.updated meant?")
    assert finding.mend.startswith("If product.updated was meant, correct the event type at the sender.")


def test_a_body_that_is_too_large_is_found_with_the_bound_that_would_take_it():
    finding = the_finding(with_tallies(tally(TOO_LARGE, 5, detail="1500000"), tally(TOO_LARGE, 2, detail="3000000")))
    assert finding.rule == "body_too_large"
    assert "`max_body_bytes` to 4194304" in finding.mend


def test_a_body_that_the_raised_limit_admits_is_no_finding_any_more():
    refused = with_tallies(tally(TOO_LARGE, 5, detail="3000000"))
    assert rules_of(replace(refused, max_body_bytes=4_194_304)) == []


def test_an_absurdly_large_body_is_not_a_finding():
    finding = the_finding(with_tallies(tally(TOO_LARGE, 5, detail=str(10**19))))
    assert "send less" in finding.mend


def test_503s_are_found_while_they_go_on_and_not_an_hour_later():
    unavailable = {"detail": "unavailable", "source": ""}
    assert the_finding(with_tallies(tally("refused", 8, 5, 2, **unavailable))).rule == "cannot_be_stored"
    assert rules_of(with_tallies(tally("refused", 50, 45, 40, number=100, **unavailable))) == []


def test_503s_while_the_acceptor_process_ended_name_it_first_and_then_other_causes():
    unavailable = tally("refused", 8, 5, 2, detail="unavailable", source="")
    finding = the_finding(with_tallies(unavailable, tally("acceptor_ended", 8, 5, source="")))
    assert "the acceptor process ended or did not start 2 times" in finding.says
    assert finding.mend.index("exit code") < finding.mend.index("its disk has room")


def test_503s_are_not_blamed_on_an_acceptor_process_that_ended_before_them():
    unavailable = tally("refused", 8, 5, 2, detail="unavailable", source="")
    finding = the_finding(with_tallies(unavailable, tally("acceptor_ended", 40, source="")))
    assert "acceptor" not in finding.says + finding.mend
    assert finding.evidence["acceptor_ended"] == 0


def test_503s_without_an_ended_process_name_the_database_and_the_log():
    finding = the_finding(with_tallies(tally("refused", 8, 5, 2, detail="unavailable", source="")))
    assert "the database was unreachable, full or slow, or an error" in finding.says
    assert "its disk has room" in finding.mend


def test_requests_ended_by_a_limit_for_strangers_are_not_a_finding():
    assert rules_of(with_tallies(tally("refused", *range(60), number=9, source="", detail="limited"))) == []


# ── silence ───────────────────────────────────────────────────────────────────────────────────────────────────────


def every(gap: timedelta, until: datetime, *, days: int = 14) -> list[datetime]:
    first = until - days * DAY
    return [first + step * gap for step in range(int(days * DAY / gap) + 1)]


def test_a_source_that_is_silent_far_longer_than_usual_is_found():
    silence = Silence(every(5 * MINUTE, NOW - HOUR), 60)
    finding = the_finding(replace(WELL, silences={"shop": silence}))
    assert (finding.rule, finding.since) == ("source_silent", NOW - HOUR)
    assert "usually silent for 5 minutes" in finding.says


def test_a_source_that_is_usually_silent_at_this_hour_is_not_a_finding():
    """The sender works from 8 to 11 only."""
    arrivals = [at for at in every(5 * MINUTE, NOW - HOUR) if 8 <= at.hour < 11]
    assert rules_of(replace(WELL, silences={"shop": Silence(arrivals, 61)})) == []


def test_a_weekend_is_compared_with_weekends():
    sunday = NOW + 4 * DAY
    arrivals = [at for at in every(5 * MINUTE, sunday - 42 * HOUR) if at.weekday() < 5]
    situation = replace(_at(sunday), silences={"shop": Silence(arrivals, 42 * 60)})
    assert rules_of(situation) == []


def test_minutes_without_an_endpoint_are_not_silence():
    """As after a night without a running process, or when the clock was set forward by a day."""
    silence = Silence(every(5 * MINUTE, NOW - DAY), 2)
    assert rules_of(replace(WELL, silences={"shop": silence})) == []


def test_no_silence_is_found_right_after_the_processes_came_back():
    unsteady = replace(WELL, recent=WELL.recent[-2:], silences={"shop": Silence(every(MINUTE, NOW - HOUR), 60)})
    assert rules_of(unsteady) == []


def test_the_silence_of_a_source_with_little_history_is_not_a_finding():
    few = [NOW - 2 * DAY + hour * HOUR for hour in range(10)]
    new = every(MINUTE, NOW - HOUR, days=14)[-600:]
    assert usual_gap(few, NOW) is None
    assert usual_gap(new, NOW) is None


def test_the_silence_of_all_sources_is_one_finding():
    silences = {"shop": Silence(every(5 * MINUTE, NOW - HOUR), 60), "pim": Silence(every(7 * MINUTE, NOW - HOUR), 60)}
    finding = the_finding(replace(WELL, silences=silences))
    assert (finding.rule, finding.source) == ("all_sources_silent", "")


def test_one_silent_source_beside_an_active_one_is_a_finding_about_that_source():
    situation = replace(WELL, silences={"shop": Silence(every(5 * MINUTE, NOW - HOUR), 60)})
    assert the_finding(situation).source == "shop"


def test_a_silence_that_was_found_lasts_when_too_little_history_is_left_to_find_it():
    since = NOW - 6 * DAY
    finding = the_finding(
        replace(WELL, silences={"shop": Silence(every(DAY, since), 6 * 1_440)}, silent_since={"shop": since})
    )
    assert (finding.rule, finding.source, finding.since) == ("source_silent", "shop", since)
    assert finding.says == "nothing has come from shop since 2026-02-26 12:00 UTC, for longer than usual"


def test_a_silence_that_was_found_lasts_through_the_hours_at_which_the_source_is_usually_silent():
    """The sender works from 8 to 11 only."""
    arrivals = [at for at in every(5 * MINUTE, NOW - 26 * HOUR) if 8 <= at.hour < 11]
    silent = replace(WELL, silences={"shop": Silence(arrivals, 26 * 60)})
    assert rules_of(silent) == []
    assert rules_of(replace(silent, silent_since={"shop": arrivals[-1]})) == ["source_silent"]


def test_the_silence_of_all_sources_lasts_without_any_history():
    since = {"": NOW - 20 * DAY}
    finding = the_finding(replace(WELL, silences={name: Silence((), 0) for name in WELL.sources}, silent_since=since))
    assert (finding.rule, finding.source, finding.since) == ("all_sources_silent", "", since[""])


def test_a_silence_that_was_found_before_that_of_all_sources_lasts_beside_it():
    silences = {"shop": Silence(every(5 * MINUTE, NOW - DAY), 1_440), "pim": Silence(every(MINUTE, NOW - HOUR), 60)}
    situation = replace(WELL, silences=silences, silent_since={"shop": NOW - DAY})
    assert rules_of(situation) == ["all_sources_silent", "source_silent"]


def _at(now: datetime) -> Situation:
    return replace(WELL, now=now, recent=[each._replace(at=each.at + (now - NOW)) for each in WELL.recent])


def _bursts(seed: int) -> list[datetime]:
    """Make imports at random times: three a day on average, each with some hundred deliveries in 15 minutes."""
    rng = random.Random(seed)
    at, arrivals = NOW - 21 * DAY, set()
    while at < NOW:
        at += timedelta(hours=rng.expovariate(1 / 8))
        arrivals |= {beginning(at + rng.uniform(0, 15) * MINUTE, MINUTE) for _ in range(rng.randint(5, 300))}
    return sorted(each for each in arrivals if each <= NOW)


def _looks(arrivals: Sequence[datetime]) -> Iterator[Situation]:
    """Evaluate the rules for every hour of the last week."""
    for hour in range(7 * 24, 0, -1):
        now = NOW - hour * HOUR
        known = arrivals[bisect_right(arrivals, now - 14 * DAY) : bisect_right(arrivals, now)]
        yield replace(_at(now), silences={"shop": Silence(known, int((now - known[-1]) / MINUTE))})


def test_quiet_and_bursty_sources_cause_no_false_alarm():
    """No finding opens in five weeks of sources that send at random times."""
    opened = 0
    for seed in range(5):
        before: set[str] = set()
        for situation in _looks(_bursts(seed)):
            now = set(rules_of(situation))
            opened += len(now - before)
            before = now
    assert opened == 0


@pytest.mark.parametrize("gap", [DAY, 7 * HOUR, HOUR, 10 * MINUTE, MINUTE])
def test_a_source_with_a_steady_rhythm_never_causes_a_false_alarm(gap: timedelta):
    assert {rule for situation in _looks(every(gap, NOW, days=21)) for rule in rules_of(situation)} == set()


# ── the work ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_backlog_without_a_worker_is_found():
    finding = the_finding(replace(WELL, processes=[ENDPOINT], oldest_due_seconds=90.0))
    assert "no worker runs" in finding.says
    assert rules_of(replace(WELL, processes=[ENDPOINT], oldest_due_seconds=10.0)) == []


def test_a_worker_that_hangs_is_found():
    finding = the_finding(with_tallies(tally("hung", 1, source="")))
    assert "hangs" in finding.says


def test_a_growing_backlog_beside_workers_is_found_with_its_figures():
    still = the_finding(replace(WELL, oldest_due_seconds=400.0))
    assert "no delivery has ended" in still.says
    busy = the_finding(with_tallies(tally("ended", 3, 2, 1, number=900), oldest_due_seconds=400.0))
    assert "more deliveries arrive" in busy.says
    assert still.id == busy.id


def test_a_backlog_right_after_the_clock_was_set_forward_is_not_a_finding():
    jumped = replace(WELL, now=NOW + DAY, processes=[], oldest_due_seconds=DAY.total_seconds())
    assert rules_of(jumped) == []


def test_deliveries_that_wait_for_a_lock_for_more_than_a_minute_need_a_person():
    reason = "Another session of the database holds a row of `products`. Find it with `SELECT 1`, and end it."
    held = LockedDeliveries("shop", 2, 17, NOW - timedelta(seconds=61), reason)
    finding = the_finding(replace(WELL, locked=[held]))
    assert (finding.rule, finding.source, finding.evidence["delivery"]) == ("row_held", "shop", "17")
    assert finding.says == (
        "2 deliveries of shop wait, the first since 11:58 UTC: another session of the database holds a row of "
        "`products`"
    )
    assert finding.mend == "Find it with `SELECT 1`, and end it."
    assert rules_of(replace(WELL, locked=[replace(held, since=NOW - timedelta(seconds=60))])) == []


def test_a_run_whose_feeder_has_not_renewed_its_lease_is_found_while_workers_run():
    still = [StillRun(81, "reconcile", ["shop"], NOW - 2 * MINUTE)]
    finding = the_finding(replace(WELL, still_runs=still))
    assert (finding.rule, finding.source, finding.evidence["run"]) == ("run_stands_still", "shop", "81")
    assert finding.says == "run 81, a reconcile of shop, has made no progress since before 11:58 UTC"
    assert rules_of(replace(WELL, still_runs=[replace(still[0], until=NOW - timedelta(seconds=59))])) == []
    assert rules_of(replace(WELL, still_runs=still, processes=[])) == []
    assert rules_of(replace(WELL, still_runs=still, now=NOW + DAY)) == []


def fault(
    cause: str = "data.price: not a number", *, dead: int = 0, waiting: int = 0, ago: int = 10, attempts: int = 1
) -> Fault:
    first, until = NOW - ago * MINUTE, NOW + HOUR if waiting else None
    return Fault("shop", cause, dead, waiting, first, NOW, 7, cause, until=until, attempts=attempts if waiting else 0)


def test_a_failing_api_is_found_with_the_time_of_the_next_try():
    finding = the_finding(replace(WELL, faults=[fault("/items of the source's API answered 503.", waiting=4)]))
    assert finding.rule == "api_fails"
    assert "4 deliveries wait" in finding.says
    assert "13:00 UTC" in finding.says


def test_an_api_that_is_left_alone_is_found_whatever_its_dialect_says():
    failing = replace(fault("shop.fetch raised ConnectError: refused", waiting=1), fetching=True)
    assert the_finding(with_tallies(tally("api_rest", 2), faults=[failing])).rule == "api_fails"


def test_a_handler_that_fails_while_the_api_is_left_alone_is_a_finding_of_its_own_with_its_release():
    failing = fault("shop.upsert raised KeyError: …", waiting=3)
    starts = [Start(NOW - 12 * MINUTE, "0.3.0", True)]
    finding = the_finding(with_tallies(tally("api_rest", 2), faults=[failing], starts=starts))
    assert finding.rule == "one_cause"
    assert "just after release 0.3.0" in finding.says


def test_dead_deliveries_with_one_cause_are_one_finding():
    finding = the_finding(replace(WELL, faults=[fault(dead=412)]))
    assert finding.says.startswith("412 deliveries of shop are dead, all for one cause since 11:50 UTC")
    assert finding.evidence["dead"] == 412


def test_the_finding_about_a_fault_has_the_text_that_finds_its_deliveries_alone():
    found = the_finding(replace(WELL, faults=[fault("… is not a number of the shop", dead=2)]))
    assert found.evidence["reason_has"] == "is not a number of the shop"
    assert the_finding(replace(WELL, faults=[fault("…: …", dead=2)])).evidence["reason_has"] is None


def test_the_finding_about_a_fault_names_a_release_that_began_with_it():
    starts = [Start(NOW - 12 * MINUTE, "0.3.0", True), Start(NOW - 2 * DAY, "0.2.0", False)]
    assert "release 0.3.0" in the_finding(replace(WELL, faults=[fault(dead=3)], starts=starts)).says
    later = replace(WELL, faults=[fault(dead=3, ago=2)], starts=starts)
    assert "release" not in the_finding(later).says


def test_the_first_start_of_all_is_not_named_as_a_circumstance():
    starts = [Start(NOW - 12 * MINUTE, "0.3.0", False)]
    assert "release" not in the_finding(replace(WELL, faults=[fault(dead=3)], starts=starts)).says


def test_two_deliveries_that_wait_for_another_attempt_are_not_a_finding():
    assert rules_of(replace(WELL, faults=[fault(waiting=2)])) == []
    assert rules_of(replace(WELL, faults=[fault(waiting=3)])) == ["one_cause"]


def test_a_single_delivery_that_has_failed_five_times_is_a_finding_with_its_next_attempt():
    assert rules_of(replace(WELL, faults=[fault(waiting=1, attempts=4)])) == []
    finding = the_finding(replace(WELL, faults=[fault(waiting=1, attempts=5)]))
    assert finding.says == "1 delivery of shop fails for this cause since 11:50 UTC: data.price: not a number"
    assert finding.mend.endswith("then wait for its next attempt at 13:00 UTC, or try it now: `hookmirror retry 7`.")
    several = the_finding(replace(WELL, faults=[fault(waiting=3)]))
    assert several.mend.endswith("the first of them at 13:00 UTC, or try one of them now: `hookmirror retry 7`.")
    assert finding.evidence["attempts"] == 5


def test_a_single_delivery_that_an_api_fails_again_and_again_is_found_once():
    failing = fault("/items of the source's API answered 503.", waiting=1, attempts=9)
    assert rules_of(replace(WELL, faults=[failing])) == ["api_fails"]


# ── the wiring ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_event_type_without_a_handler_is_found():
    ignored = Unhandled("shop", "price.updated", 38, NOW - 3 * HOUR, NOW)
    finding = the_finding(replace(WELL, unhandled=[ignored]))
    assert "38 deliveries price.updated of shop were ignored since 09:00 UTC" in finding.says


@pytest.mark.parametrize(
    ("number", "says"),
    [
        (1, "1 delivery of shop was ignored since 09:00 UTC, because no handler takes its event type"),
        (2, "2 deliveries of shop were ignored since 09:00 UTC, because no handler takes their event types"),
    ],
)
def test_the_finding_names_no_event_type_of_deliveries_that_are_counted_together(number, says):
    ignored = Unhandled("shop", OTHERS, number, NOW - 3 * HOUR, NOW)
    assert the_finding(replace(WELL, unhandled=[ignored])).says.startswith(says)


def test_the_finding_offers_to_replay_ignored_deliveries_once_a_handler_takes_them():
    ignored = Unhandled("shop", "price updated", 1, NOW - 3 * HOUR, NOW, "shop.on_price")
    finding = the_finding(replace(WELL, unhandled=[ignored], wanted=[ignored]))
    assert finding.rule == "handler_appeared"
    assert finding.evidence["command"] == (
        "hookmirror replay --source shop --state ignored --event-type 'price updated'"
    )


def test_events_from_the_future_are_found():
    finding = the_finding(with_tallies(tally("misdated", 4)))
    assert "clock is wrong" in finding.says
    assert "--misdated" in finding.mend
    dated_back = {"shop": NOW + MINUTE}
    assert rules_of(replace(with_tallies(tally("misdated", 4)), dated_back=dated_back)) == []


def test_a_mirror_that_differs_from_its_source_is_found():
    finding = the_finding(replace(WELL, reconciles=[Reconciled("shop", NOW - HOUR, 1_000, 20, ["product.deleted"])]))
    assert finding.rule == "mirror_differs"
    assert "product.deleted" in finding.says
    assert finding.mend.endswith(", and reconcile on a schedule.")
    scheduled = {"shop": replace(SHOP, is_scheduled=True)}
    finding = the_finding(replace(WELL, sources=scheduled, reconciles=[Reconciled("shop", NOW - HOUR, 1_000, 20)]))
    assert finding.mend.endswith("Its schedule repairs what is lost until then.")


def test_a_reconcile_that_failed_is_found_with_its_reason():
    failed = Reconciled("shop", NOW - HOUR, 0, 0, trouble="The list of shop broke off.", run=81)
    finding = the_finding(replace(WELL, reconciles=[failed, replace(failed, source="no longer listened to")]))
    assert (finding.rule, finding.source, finding.evidence["run"]) == ("reconcile_fails", "shop", "81")
    assert (
        finding.says == "the reconcile of shop that its schedule began at 11:00 UTC failed: The list of shop broke off"
    )
    assert "`hookmirror reconcile shop`" in finding.mend


def test_a_difference_of_one_row_or_a_thousandth_is_not_a_finding():
    few = [Reconciled("shop", NOW, 100, 1), Reconciled("pim", NOW, 100_000, 100)]
    assert rules_of(replace(WELL, reconciles=few)) == []


def test_a_target_that_refuses_changes_is_found_at_once_and_one_that_accepts_none_after_a_while():
    refusing = Followed("the erp", dead=3, dead_since=NOW - MINUTE)
    finding = the_finding(replace(WELL, followers=[refusing]))
    assert finding.says.startswith("the target of the follower the erp has refused 3 changes since 11:59 UTC")
    assert "--retry-dead --name 'the erp'" in finding.mend
    assert "no process posts" not in finding.mend
    unserved = the_finding(replace(WELL, followers=[replace(refusing, is_served=False)]))
    assert unserved.mend.endswith("Start its `hookmirror follow` again, too, because no process posts its changes.")
    away = Followed("erp", trouble="It answered 502.", trouble_since=NOW - 9 * MINUTE)
    assert rules_of(replace(WELL, followers=[away, Followed("well")])) == []
    still_away = replace(away, trouble_since=NOW - 10 * MINUTE)
    assert (
        "accepted nothing since 11:50 UTC: It answered 502" in the_finding(replace(WELL, followers=[still_away])).says
    )


# ── all rules together ────────────────────────────────────────────────────────────────────────────────────────────


def test_the_id_of_a_finding_stays_the_same_while_its_numbers_grow():
    few, many = replace(WELL, faults=[fault(dead=3)]), replace(WELL, faults=[fault(dead=300)])
    assert the_finding(few).id == the_finding(many).id
    assert the_finding(few).says != the_finding(many).says


@pytest.mark.parametrize("jump", [HOUR, DAY, -HOUR, -DAY])
def test_a_clock_that_jumps_causes_no_finding(jump: timedelta):
    """The earlier tallies then have other times, and silence is only as long as it was watched."""
    situation = with_tallies(
        tally("accepted", *range(1, 60)), silences={"shop": Silence(every(MINUTE, NOW), 1)} if jump > HOUR else {}
    )
    assert rules_of(replace(situation, now=NOW + jump)) == []
