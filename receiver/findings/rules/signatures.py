"""Rules about signatures: a secret changed at the sender, a sender that still uses the old secret, or a stranger."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from datetime import timedelta

from receiver.findings.finding import Finding
from receiver.findings.situation import SignatureHistory, Situation, SourceFacts, total
from receiver.findings.tallies import DetailTotal, Tallied
from receiver.logs.wording import counted
from receiver.moments import clock_time

#: The error codes that a wrong secret causes.
WRONG = frozenset({"signature_wrong", "not_decryptable", "app_key_wrong"})

#: The error code of a right signature that is too old, or from the future.
NOT_FRESH = frozenset({"signature_stale"})

#: The least number of wrong signatures, and the age of the last one up to which they count as continuing if none of
#: them is kept: a sender may send a few webhooks a day.
FEW_WRONG, LATELY = 3, timedelta(days=1)

#: Among right signatures, the least number of wrong ones, and the period within which they count.
SOME, STILL_WRONG = 5, timedelta(minutes=10)

#: At a sender with few webhooks, the least number of hours of a day with wrong signatures among right ones, and the age
#: of the last of them up to which they count. A stranger's burst lasts an hour at most.
SOME_HOURS, STILL_WRONG_HOURS = 5, timedelta(hours=6)

#: The share of wrong signatures up to which they are likely a stranger's.
STRANGER = 0.05


def secret_changed(situation: Situation) -> Iterator[Finding]:
    """All signatures of a source were right until a certain minute, and have been wrong since."""
    for name in situation.sources:
        history = _all_wrong(situation, name)
        if history is None or history.wrong_first is None:
            continue
        since, good = history.wrong_first, history.good_at or history.last_good
        if history.wrong_from:
            since = min(since, history.wrong_from)
        before = f"the last good one came at {clock_time(good, situation.now)}" if good else "none was ever right"
        kept = situation.kept.get(name, 0)
        yield Finding(
            "secret_changed",
            name,
            since,
            f"every signature of {name} fails since {clock_time(since, situation.now)}, and {before}: "
            "was the secret changed at the sender?",
            f"Put the sender's new secret first in `secrets` of {name}, and run `hookmirror reload`. "
            f"{counted(kept, 'refused request is', 'refused requests are')} kept, and verified again then.",
            {"refused": history.wrong, "kept": kept, "link": f"/api/v1/refused?source={name}"},
        )


def some_signatures_wrong(situation: Situation) -> Iterator[Finding]:
    """A source sends right and wrong signatures in the same period, and its secret was not simply changed."""
    for name in situation.sources:
        wrong, good = _mixture(situation, name)
        if not wrong or _all_wrong(situation, name):
            continue
        share = _share(wrong, good)
        yield Finding(
            "some_signatures_wrong",
            name,
            wrong[0].at,
            f"{share:.0%} of the webhooks for {name} have a wrong signature, {_likely(share)}",
            "Compare the webhooks that the sender has registered for this address: each must use a secret in the "
            "settings. If all do, a stranger is trying: the log line `refused a webhook` names the stranger's address.",
            {"refused": total(wrong), "verified": total(good), "link": f"/api/v1/refused?source={name}"},
        )


def signatures_stale(situation: Situation) -> Iterator[Finding]:
    """Signatures of a source are right, and the times that they cover too far from the arrival."""
    for name in situation.sources:
        stale, good = situation.tallied(name, "refused", NOT_FRESH), situation.tallied(name, "verified")
        least = SOME if good else FEW_WRONG
        if total(stale) < least or stale[-1].at <= situation.now - STILL_WRONG or _share(stale, good) < STRANGER:
            continue
        yield Finding(
            "signatures_stale",
            name,
            stale[0].at,
            f"{_share(stale, good):.0%} of the webhooks for {name} with a right signature are refused, because the "
            "time that they sign is too far from their arrival",
            "Compare the clocks of both sides: the log line `refused a webhook` has both times. If the sender repeats "
            "a webhook with its first signature, let `within` in the dialect's `verify` be the time for which it "
            "retries, and restart. These requests are not kept: reconcile afterwards. If they do not come from the "
            "sender, a stranger repeats recorded webhooks, and their refusal loses nothing.",
            {"refused": total(stale), "verified": total(good), "link": f"/api/v1/tallies?source={name}&kind=refused"},
        )


def sender_not_switched(situation: Situation) -> Iterator[Finding]:
    """Only an older secret verifies the webhooks of a source, never the newest."""
    for name, facts in situation.sources.items():
        newest, *older = _uses_of_secrets(situation, facts)
        by_older = [each for each in older if each is not None]
        number = sum(each.number for each in by_older)
        if not _is_rotating(facts) or newest is not None or number < SOME:
            continue
        yield Finding(
            "sender_not_switched",
            name,
            min(each.first for each in by_older),
            f"the sender of {name} still signs with an older secret, and never with the newest",
            "Change the secret at the sender, and keep the older one in the settings until it has done so.",
            {"verified_by_older": number, "link": f"/api/v1/tallies?source={name}&kind=verified"},
        )


def _all_wrong(situation: Situation, name: str) -> SignatureHistory | None:
    """The history of a source whose wrong signatures show that the secret was changed; otherwise None."""
    history = situation.signatures.get(name)
    if history is None or history.wrong < FEW_WRONG or history.wrong_before or history.wrong_last is None:
        return None
    # A kept request that came before the last right signature says nothing about the present.
    is_kept = history.wrong_from is not None and bool(situation.kept.get(name))
    return history if is_kept or history.wrong_last >= situation.now - LATELY else None


def _mixture(situation: Situation, name: str) -> tuple[Sequence[Tallied], Sequence[Tallied]]:
    """The wrong and the right signatures of a period in which both came: the last hour, or else the last day."""
    wrong, good = _since_secrets(situation, name, "refused", WRONG), _since_secrets(situation, name, "verified")
    if total(wrong) >= SOME:
        return (wrong, good) if wrong[-1].at > situation.now - STILL_WRONG and _are_mixed(wrong, good) else ((), ())
    history = situation.signatures.get(name)
    wrong, good = (history.wrong_hours, history.good_hours) if history is not None else ((), ())
    if len({each.at for each in wrong}) < SOME_HOURS or wrong[-1].at <= situation.now - STILL_WRONG_HOURS:
        return (), ()
    return (wrong, good) if _are_mixed(wrong, good) and _share(wrong, good) >= STRANGER else ((), ())


def _are_mixed(wrong: Sequence[Tallied], good: Sequence[Tallied]) -> bool:
    """Whether some right signatures came after the first wrong one, and some before the last."""
    return any(wrong[0].at <= each.at for each in good) and any(each.at < wrong[-1].at for each in good)


def _share(wrong: Sequence[Tallied], good: Sequence[Tallied]) -> float:
    return total(wrong) / (total(wrong) + total(good))


def _since_secrets(
    situation: Situation, name: str, kind: str, details: Collection[str] | None = None
) -> Sequence[Tallied]:
    """The tallies since the source got its present secrets, which may accept webhooks that earlier secrets refused."""
    since = situation.secrets_since.get(name)
    return [each for each in situation.tallied(name, kind, details) if since is None or each.at > since]


def _uses_of_secrets(situation: Situation, facts: SourceFacts) -> list[DetailTotal | None]:
    """The webhooks that each secret verified, the newest secret first; None for one that verified none.

    With marks, these are all since the source got its present secrets, otherwise those of the last hour.
    """
    if facts.marks:
        uses = situation.secret_uses.get(facts.name, {})
        return [uses.get(mark) for mark in facts.marks]
    return [_in_last_hour(situation, facts.name, str(place)) for place in range(max(facts.secrets, 1))]


def _in_last_hour(situation: Situation, name: str, place: str) -> DetailTotal | None:
    some = situation.tallied(name, "verified", {place})
    return DetailTotal(name, place, total(some), some[0].at, some[-1].at) if some else None


def _is_rotating(facts: SourceFacts) -> bool:
    return facts.secrets > 1 and not facts.has_named_secrets


def _likely(share: float) -> str:
    if share < STRANGER:
        return "which looks like a stranger, or one stale registration at the sender"
    return "so a part of the sender seems to sign with another secret"
