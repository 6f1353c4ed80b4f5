"""Rules about signatures: a secret changed at the sender, a sender that still uses the old secret, or a stranger."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from datetime import timedelta

from receiver.findings.counting import SECRET_USED
from receiver.findings.finding import Finding
from receiver.findings.situation import Situation, SourceFacts, total
from receiver.findings.tallies import Tallied
from receiver.logs.wording import counted
from receiver.moments import clock_time

#: The error codes that a wrong secret causes.
WRONG = frozenset({"signature_wrong", "not_decryptable", "app_key_wrong"})

#: The least number of wrong signatures, and the age of the last one up to which they count as continuing.
FEW_WRONG, LATELY = 3, timedelta(minutes=30)

#: Among right signatures, the least number of wrong ones, and the period within which they count.
SOME, STILL_WRONG = 5, timedelta(minutes=10)

#: The share of wrong signatures up to which they are likely a stranger's.
STRANGER = 0.05


def secret_changed(situation: Situation) -> Iterator[Finding]:
    """All signatures of a source were right until a certain minute, and have been wrong since."""
    for name in situation.sources:
        wrong, history = _all_wrong(situation, name), situation.signatures.get(name)
        if not wrong:
            continue
        since, good = wrong[0].at, (history.good_at or history.last_good) if history else None
        if history and history.wrong_from:
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
            f"{counted(kept, 'refused request')} {'is' if kept == 1 else 'are'} kept, and verified again then.",
            {"refused": total(wrong), "kept": kept, "link": f"/api/v1/refused?source={name}"},
        )


def some_signatures_wrong(situation: Situation) -> Iterator[Finding]:
    """A source sends right and wrong signatures in the same period, and its secret was not simply changed."""
    for name in situation.sources:
        wrong, good = _since_secrets(situation, name, "refused", WRONG), _since_secrets(situation, name, "verified")
        if total(wrong) < SOME or wrong[-1].at <= situation.now - STILL_WRONG or _all_wrong(situation, name):
            continue
        if not any(wrong[0].at <= each.at for each in good) or not any(each.at < wrong[-1].at for each in good):
            continue
        share = total(wrong) / (total(wrong) + total(good))
        yield Finding(
            "some_signatures_wrong",
            name,
            wrong[0].at,
            f"{share:.0%} of the webhooks for {name} have a wrong signature, {_likely(share)}",
            "Compare the webhooks that the sender has registered for this address: each must use a secret in the "
            "settings. If all do, a stranger is trying: the log line `refused a webhook` names the stranger's address.",
            {"refused": total(wrong), "verified": total(good), "link": f"/api/v1/refused?source={name}"},
        )


def sender_not_switched(situation: Situation) -> Iterator[Finding]:
    """Only an older secret verifies the webhooks of a source, never the newest."""
    for name, facts in situation.sources.items():
        newest, *older = _tallied_secrets(situation, facts)
        by_older = sorted((each for some in older for each in some), key=lambda each: each.at)
        if not _is_rotating(facts) or newest or total(by_older) < SOME:
            continue
        yield Finding(
            "sender_not_switched",
            name,
            by_older[0].at,
            f"the sender of {name} still signs with an older secret, and never with the newest",
            "Change the secret at the sender, and keep the older one in the settings until it has done so.",
            {"verified_by_older": total(by_older), "link": f"/api/v1/tallies?source={name}&kind=verified"},
        )


def _all_wrong(situation: Situation, name: str) -> Sequence[Tallied]:
    """The wrong signatures since the last right one, if they show that the secret was changed; otherwise none."""
    wrong, history = _wrong_since_last_good(situation, name), situation.signatures.get(name)
    if total(wrong) < FEW_WRONG or wrong[-1].at < situation.now - LATELY or (history and history.wrong_before):
        return []
    return wrong


def _since_secrets(situation: Situation, name: str, kind: str, details: Collection[str] | None = None) -> list[Tallied]:
    """The tallies since the source got its present secrets, which may accept webhooks that earlier secrets refused."""
    since = situation.secrets_since.get(name)
    return [each for each in situation.tallied(name, kind, details) if since is None or each.at > since]


def _wrong_since_last_good(situation: Situation, name: str) -> Sequence[Tallied]:
    history = situation.signatures.get(name)
    good = history.last_good if history else None
    return [each for each in situation.tallied(name, "refused", WRONG) if good is None or each.at > good]


def _tallied_secrets(situation: Situation, facts: SourceFacts) -> list[list[Tallied]]:
    """The webhooks that each secret verified since the source got its present secrets, the newest secret first."""
    if not facts.marks:
        return [situation.tallied(facts.name, "verified", {str(place)}) for place in range(max(facts.secrets, 1))]
    return [_since_secrets(situation, facts.name, SECRET_USED, {mark}) for mark in facts.marks]


def _is_rotating(facts: SourceFacts) -> bool:
    return facts.secrets > 1 and not facts.has_named_secrets


def _likely(share: float) -> str:
    if share < STRANGER:
        return "which looks like a stranger, or one stale registration at the sender"
    return "so a part of the sender seems to sign with another secret"
