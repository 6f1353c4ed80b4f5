"""The rotation of a source's secret as a list of steps. The database shows which steps are done."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import Connection

from receiver.api.findings import FindingShown
from receiver.api.sources import SecretUse, WholeSource
from receiver.console.filters import duration
from receiver.console.visit import Visit
from receiver.findings import tallies
from receiver.findings.counting import SECRET_USED
from receiver.inbox.refused import totals
from receiver.logs.wording import counted
from receiver.runs.refused import verified_since
from receiver.worker.processes import running, settings_read

#: The rules whose findings a rotation mends.
ROTATION_RULES = frozenset({"secret_changed", "sender_not_switched"})


class RotationStep(NamedTuple):
    """One step of a rotation."""

    says: str
    is_done: bool


def rotation_steps(visit: Visit, finding: FindingShown) -> list[RotationStep]:
    """The steps for the source of this finding since it began; empty for a finding that no rotation mends."""
    if finding.rule not in ROTATION_RULES or finding.source not in visit.sources:
        return []
    source = visit.ask(WholeSource, "show_source", source=finding.source)
    with visit.database.read() as connection:
        steps = [
            _read(connection, finding.since, visit.now),
            _verified(connection, source, finding.since, visit.now),
            *_kept(connection, finding),
        ]
    before = [each for each in source.secrets if _is_second(each)]
    return [*steps, *(_old(each, source.secrets_since or visit.now, visit.now) for each in before)]


def _is_second(secret: SecretUse) -> bool:
    return secret.configured and secret.position == "1"


def _read(connection: Connection, since: datetime, now: datetime) -> RotationStep:
    read = [said["read_at"] for row in running(connection, now) if (said := settings_read(row)) is not None]
    new = sum(datetime.fromisoformat(each) >= since for each in read)
    if not read:
        return RotationStep("No process can read its settings while it runs: restart them with the new secret.", False)
    has = "has" if len(read) == 1 else "have"
    says = f"{new} of {counted(len(read), 'process', 'processes')} {has} read the settings since then."
    return RotationStep(says, new == len(read))


def _verified(connection: Connection, source: WholeSource, since: datetime, now: datetime) -> RotationStep:
    used = tallies.totals(connection, [source.source], (SECRET_USED,), since, now)
    newest = {mark for each in source.secrets if each.position == "0" for mark in (each.mark, *each.former_marks)}
    number = sum(each.number for each in used if each.detail in newest)
    told = f"verified {counted(number, 'webhook')}" if number else "verified nothing"
    return RotationStep(f"The newest secret has {told} since then.", number > 0)


def _kept(connection: Connection, finding: FindingShown) -> Iterator[RotationStep]:
    number = sum(each.number for each in totals(connection) if each.source == finding.source)
    if finding.rule == "secret_changed" or number:
        accepted = verified_since(connection, finding.source, finding.since)
        told = f"{counted(number, 'refused request is', 'refused requests are')} kept, to be verified again"
        done = f"; {counted(accepted, 'was', 'were')} accepted since then" if accepted else ""
        yield RotationStep(f"{told if number else 'No refused request is left'}{done}.", not number)


def _old(secret: SecretUse, since: datetime, now: datetime) -> RotationStep:
    """The last step; `since` is when the source got its present secrets, so that the older one became the older."""
    if secret.last_at is None and now - since >= tallies.MINUTES_KEPT:
        return RotationStep("The secret before it verified nothing within the last two weeks: remove it.", False)
    if secret.last_at is None:
        age = duration(max(now - since, timedelta()))
        told = f"The secret before it verified nothing so far, and is the older one for {age}"
        return RotationStep(f"{told}: keep it until that is two weeks.", False)
    ago = duration(now - secret.last_at)
    return RotationStep(
        f"The secret before it verified its last webhook {ago} ago: remove it once it is silent.", False
    )
