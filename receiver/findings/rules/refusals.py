"""Rules about requests refused for other reasons than signatures: a wrong address, a large body, a failing database."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from receiver.findings.counting import MISSPELT_SOURCE, TOO_LARGE, UNKNOWN_SOURCE
from receiver.findings.finding import Finding
from receiver.findings.situation import Situation, total
from receiver.ingest.paths import HOOKS_PATH
from receiver.logs.wording import counted
from receiver.moments import clock_time

#: The least number of webhooks for a misspelt source; fewer may be chance.
FEW_MISSPELT = 3

#: Fewest webhooks for a name like no source's, and the least time between first and last, that come from a sender.
FEW_UNKNOWN, KEEPS_COMING = 10, timedelta(minutes=10)

#: The least number of 503s, and the period within which they count.
FEW_503, STILL_503 = 3, timedelta(minutes=10)

#: The largest `max_body_bytes` that the finding advises, in bytes.
LARGEST_ADVISED = 64 * 1024 * 1024


def misspelt_source(situation: Situation) -> Iterator[Finding]:
    """Webhooks arrive for an unknown source whose name resembles a known one."""
    for name in situation.sources:
        tallies = situation.tallied(name, MISSPELT_SOURCE)
        if total(tallies) < FEW_MISSPELT:
            continue
        asked = tallies[-1].detail
        address = asked if asked.startswith("/") else f"{HOOKS_PATH}{asked}"
        addresses = len({each.detail for each in tallies})
        where = f"the address {address!r}, which is unknown"
        if addresses > 1:
            where = f"{addresses} unknown addresses, the last of them {address!r}"
        yield Finding(
            "misspelt_source",
            name,
            tallies[0].at,
            f"{counted(total(tallies), 'webhook')} came to {where}: was {HOOKS_PATH}{name} meant?",
            f"Correct the URL at the sender: it ends in /hooks/{name}. Or name the source so in the settings.",
            {"refused": total(tallies), "asked_for": asked, "link": "/api/v1/tallies?kind=misspelt"},
        )


def unknown_source(situation: Situation) -> Iterator[Finding]:
    """Webhooks keep coming for one name that is unlike the name of any source.

    Strangers try many names, each a few times at once. A sender comes back with the same name.
    """
    for name in sorted({each.detail for each in situation.tallied("", UNKNOWN_SOURCE)}):
        tallies = situation.tallied("", UNKNOWN_SOURCE, {name})
        if total(tallies) < FEW_UNKNOWN or tallies[-1].at - tallies[0].at < KEEPS_COMING:
            continue
        yield Finding(
            "unknown_source",
            "",
            tallies[0].at,
            f"{counted(total(tallies), 'webhook')} came to {HOOKS_PATH}{name} since "
            f"{clock_time(tallies[0].at, situation.now)}, and the settings have no source {name!r}",
            f"If the sender is yours, add a table [sources.{name}] to the settings, and run `hookmirror reload`. If it "
            "was yours, remove the address at the sender. If you do not know the name, a stranger is trying addresses, "
            "and nothing is lost: acknowledge this finding.",
            {"refused": total(tallies), "asked_for": name, "link": f"/api/v1/tallies?kind={UNKNOWN_SOURCE}"},
            about=name,
        )


def body_too_large(situation: Situation) -> Iterator[Finding]:
    """Bodies of a source exceed `max_body_bytes`."""
    for name in situation.sources:
        # A body that the present limit admits needs nothing but its reconcile.
        tallies = [each for each in situation.tallied(name, TOO_LARGE) if int(each.detail) > situation.max_body_bytes]
        if not tallies:
            continue
        largest = max(int(each.detail) for each in tallies)
        advised = _power_of_two_from(largest)
        mend = f"Raise `max_body_bytes` to {advised}, and run `hookmirror reload`."
        if largest > LARGEST_ADVISED:
            mend = "Configure the sender to send less at once, because such a body is larger than any sensible limit."
        yield Finding(
            "body_too_large",
            name,
            tallies[0].at,
            f"{counted(total(tallies), 'body', 'bodies')} of {name} with more than {situation.max_body_bytes:,} bytes, "
            f"{largest:,} at most, {'was' if total(tallies) == 1 else 'were'} refused",
            f"{mend} Reconcile afterwards, because senders do not retry after a 413.",
            {"refused": total(tallies), "largest": largest, "link": f"/api/v1/tallies?source={name}&kind=refused"},
        )


def cannot_be_stored(situation: Situation) -> Iterator[Finding]:
    """Webhooks are answered with 503, because the database, the acceptor process or a dialect's code fails."""
    tallies = situation.tallied(None, "refused", {"unavailable"})
    if total(situation.tallied(None, "refused", {"unavailable"}, within=STILL_503)) < FEW_503:
        return
    since = tallies[0].at
    ended = total(situation.tallied(None, "acceptor_ended", within=STILL_503))
    why = "because the database was unreachable, full or slow, or an error prevented an answer"
    mend = (
        "Read the log of the server: it tells an error of the database from one in a dialect's code. Check whether "
        "the database answers, whether its disk has room, and which session holds locks."
    )
    if ended:
        why = f"and the acceptor process ended or did not start {counted(ended, 'time')} in the last ten minutes"
        mend = (
            "The log of the server has the exit code of the acceptor process, what the process wrote before, and why "
            "another one did not start. The code -9 usually means that the system killed it, because memory ran out. "
            f"If that does not explain it: {mend[0].lower()}{mend[1:]}"
        )
    yield Finding(
        "cannot_be_stored",
        "",
        since,
        f"{counted(total(tallies), 'webhook')} got a 503 since {clock_time(since, situation.now)}, {why}",
        f"{mend} Senders retry; `hookmirror reconcile` repairs rows whose webhooks they gave up.",
        {"refused": total(tallies), "acceptor_ended": ended, "link": "/api/v1/tallies?kind=refused"},
    )


def _power_of_two_from(size: int) -> int:
    return 1 << (max(size, 1) - 1).bit_length()
