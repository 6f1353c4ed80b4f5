"""Columns of a user's table with names that parameters or statements use, which a handler fills."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

from receiver import Dialect, Envelope, Event, Mirror, MirrorRow, Unsigned, time_field
from receiver.testing import Webhooks

NOON = datetime(2026, 3, 8, 12, tzinfo=UTC)

visiting = Dialect("visiting", verify=Unsigned())


class Visit(MirrorRow, table=True):
    __tablename__ = "visits_of_these_tests"

    at: datetime | None = time_field()
    table: str | None = None
    self: str | None = None
    values: str | None = None
    order: str | None = None


@visiting.envelope
def read(body: dict[str, Any]) -> Envelope:
    return Envelope(
        event_type="visit.updated", entity=("visit", body["id"]), occurred_at=NOON, data=None, dedup_key=body["id"]
    )


@visiting.compose
def write(event_type: str, entity_id: str, at: datetime, data: Any) -> Any:
    return {"id": entity_id}


@visiting.on("visit.updated")
def upsert_visit(event: Event[None], mirror: Mirror) -> None:
    values = {"at": event.occurred_at + timedelta(days=1), "values": "V"}
    mirror.upsert(Visit, event.entity_id, values, at=event.occurred_at, table="T4", self="S", order="O")


def test_a_column_with_the_name_of_a_parameter_or_of_a_keyword_can_be_filled(tmp_path, mirror_url):
    with closing(Webhooks(tmp_path, {"shop": visiting}, database_url=mirror_url)) as kit:
        kit.send("shop", "visit.updated", id="V1", at=NOON)
        kit.drain()
        row = kit.row(Visit, "V1")
        assert (row.at, row.table, row.self, row.values, row.order) == (NOON + timedelta(days=1), "T4", "S", "V", "O")
        assert row.changed_at == NOON
