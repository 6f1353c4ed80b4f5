"""Which deliveries are meant: what a person or a machine asks for, as conditions of SQL."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, Select, literal, text

from receiver.database.columns import Many, among
from receiver.inbox.tables import DELIVERIES, State


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryFilter:
    """Which deliveries; None leaves a part open."""

    source: str | None = None
    state: State | None = None
    event_type: str | None = None
    #: `id` or `kind:id`.
    entity: str | None = None
    ids: tuple[int, ...] | None = None


def filtered(statement: Select[Any], wanted: DeliveryFilter) -> Select[Any]:
    """The statement, for these deliveries only."""
    if wanted.source is not None:
        statement = statement.where(DELIVERIES.c.source == wanted.source)
    if wanted.state is not None:
        statement = statement.where(text(f"deliveries.state = '{wanted.state}'"))
    if wanted.event_type is not None:
        statement = statement.where(DELIVERIES.c.event_type == wanted.event_type)
    if wanted.entity is not None:
        kind, colon, entity_id = wanted.entity.partition(":")
        whole = DELIVERIES.c.entity_id == wanted.entity
        parts = (DELIVERIES.c.entity_id == entity_id) & (DELIVERIES.c.entity_kind == kind)
        # Said twice, because an index serves a list of ids, and not this alternative.
        named = DELIVERIES.c.entity_id.in_([wanted.entity, entity_id] if colon else [wanted.entity])
        statement = statement.where(named, whole | parts if colon else whole)
    if wanted.ids is not None:
        statement = statement.where(among(DELIVERIES.c.id, literal(list(wanted.ids), Many(BigInteger))))
    return statement
