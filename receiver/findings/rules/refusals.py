"""Rules about what is refused for another reason than its signature: a wrong address, a large body, our own trouble."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from receiver.findings.counting import TOO_LARGE
from receiver.findings.finding import Finding
from receiver.findings.situation import Situation, total
from receiver.logs.wording import counted
from receiver.moments import clock_time

#: So many webhooks for a name like a source's are no chance.
FEW_MISSPELT = 3

#: 503s that are going on: so many, within so long.
FEW_503, STILL_503 = 3, timedelta(minutes=10)

#: Bytes of the largest `max_body_bytes` that is advised.
LARGEST_ADVISED = 64 * 1024 * 1024


def misspelt_source(situation: Situation) -> Iterator[Finding]:
    """Webhooks come for a source that there is not, with a name like that of one that there is."""
    for name in situation.sources:
        tallies = situation.tallied(name, "misspelt")
        if total(tallies) < FEW_MISSPELT:
            continue
        asked = tallies[-1].detail
        yield Finding(
            "misspelt_source",
            name,
            tallies[0].at,
            f"{counted(total(tallies), 'webhook')} came for a source {asked!r} that there is not: was {name} meant?",
            f"Correct the URL at the sender: it ends in /hooks/{name}. Or name the source so in the settings.",
            {"refused": total(tallies), "asked_for": asked, "link": "/api/v1/tallies?kind=misspelt"},
        )


def body_too_large(situation: Situation) -> Iterator[Finding]:
    """Bodies of a source are larger than what is read."""
    for name in situation.sources:
        tallies = situation.tallied(name, TOO_LARGE)
        if not tallies:
            continue
        largest = max(int(each.detail) for each in tallies)
        advised = _power_of_two_from(largest)
        mend = f"Raise `max_body_bytes` to {advised}, and run `hookmirror reload`."
        if largest > LARGEST_ADVISED:
            mend = "Let the sender send less at once: so large a body fits no sensible bound."
        yield Finding(
            "body_too_large",
            name,
            tallies[0].at,
            f"{counted(total(tallies), 'body', 'bodies')} of {name} had more than {situation.max_body_bytes:,} bytes, "
            f"{largest:,} at most, and were refused",
            f"{mend} Senders take a 413 for final, so reconcile afterwards.",
            {"refused": total(tallies), "largest": largest, "link": f"/api/v1/tallies?source={name}&kind=refused"},
        )


def cannot_be_stored(situation: Situation) -> Iterator[Finding]:
    """Webhooks are answered with 503, because the database does not keep them."""
    tallies = situation.tallied(None, "refused", {"unavailable"})
    if total(situation.tallied(None, "refused", {"unavailable"}, within=STILL_503)) < FEW_503:
        return
    since = tallies[0].at
    yield Finding(
        "cannot_be_stored",
        "",
        since,
        f"{counted(total(tallies), 'webhook')} got a 503 since {clock_time(since, situation.now)}, because the "
        "database was away, full or slow",
        "Look at the database: whether it answers, has room on its disk, and who holds locks there. Senders come back; "
        "`hookmirror reconcile` finds what they gave up.",
        {"refused": total(tallies), "link": "/api/v1/tallies?kind=refused"},
    )


def _power_of_two_from(size: int) -> int:
    return 1 << (max(size, 1) - 1).bit_length()
