"""The rules: pure functions from a situation to findings. Each names a likely cause with its evidence, not a proof."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from receiver.findings.finding import Finding
from receiver.findings.rules import following, refusals, signatures, silence, wiring, work
from receiver.findings.situation import Situation

Rule = Callable[[Situation], Iterable[Finding]]

#: All rules, in the order in which their findings are shown.
RULES: tuple[Rule, ...] = (
    work.nobody_works,
    work.row_held,
    refusals.cannot_be_stored,
    silence.all_sources_silent,
    signatures.secret_changed,
    work.one_cause,
    work.api_fails,
    silence.source_silent,
    refusals.misspelt_source,
    refusals.unknown_source,
    refusals.body_too_large,
    signatures.some_signatures_wrong,
    signatures.signatures_stale,
    signatures.sender_not_switched,
    wiring.no_handler,
    wiring.handler_appeared,
    wiring.dated_in_the_future,
    work.run_stands_still,
    wiring.reconcile_fails,
    wiring.mirror_differs,
    following.follower_fails,
)


def findings(situation: Situation) -> Iterator[Finding]:
    """Evaluate all rules."""
    for rule in RULES:
        yield from rule(situation)
