"""Counts answered webhooks in the metrics."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from receiver.inbox.arrival import Accepted, Arrival
from receiver.inbox.states import State
from receiver.metrics import few_names, metrics


def count_answers(answered: Sequence[tuple[Arrival, Accepted]]) -> None:
    """Count committed bodies and all their events in the metrics."""
    # The answer to a whole bundle is accepted if any of its events is new.
    firsts = [(arrival, answer.items[0] if answer.items else answer) for arrival, answer in answered]
    metrics.count_accepted([(arrival.source, arrival.secret, arrival.mark, each.status) for arrival, each in firsts])
    _count_ended(firsts)
    for arrival, answer in answered:
        if arrival.others:
            metrics.count_items([(arrival.source, item.status) for item in answer.items[1:]])
            _count_ended(zip(arrival.others, answer.items[1:], strict=True))


def _count_ended(kept: Iterable[tuple[Arrival, Accepted]]) -> None:
    """Count the deliveries of a committed batch that ended on arrival, without duplicates."""
    pending = State.PENDING
    for arrival, answer in kept:
        if arrival.state is not pending and answer.status == "accepted":
            few_names.count_ended_on_arrival(arrival.source, arrival.state, arrival.unhandled)
