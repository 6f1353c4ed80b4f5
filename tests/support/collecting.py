"""Helpers for tests of dialects: run one event's handler and compute the rows that its writes leave."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import stamina
from msgspec.structs import replace

from receiver import Dialect, Event, Mirror
from receiver.codec import decode
from receiver.envelope import Bundle
from receiver.mirror.rows import Key, MirrorRow, Write, table_name
from receiver.mirror.versions import Registers, row_status
from receiver.settings.settings import SourceSettings

FIXTURES = Path(__file__).parents[2] / "fixtures"

Answer = Callable[[httpx.Request], httpx.Response]


def event_of(dialect: Dialect, body: bytes) -> Event[Any]:
    """Read the event that a body announces (the first of a bundle), with its data parsed for the handler."""
    read = dialect.read(body)
    envelope = read.item(0) if isinstance(read, Bundle) else read
    handler = dialect.handler_for(envelope.event_type)
    assert handler is not None, envelope.event_type
    assert envelope.entity is not None
    return Event(
        source=dialect.name,
        event_type=envelope.event_type,
        entity_kind=envelope.entity[0],
        entity_id=envelope.entity[1],
        occurred_at=envelope.occurred_at,
        data=handler.parse(envelope.data),
        delivery_id="1",
        attempt=1,
        received_at=datetime(2026, 1, 1, tzinfo=UTC),
    )


def writes_of(
    dialect: Dialect, body: bytes, *, arrival: int = 1, row: MirrorRow | None = None, **parts: Any
) -> list[Write]:
    """Run the handler on the event and return its writes.

    `parts` replace parts of the event; `row` is the row that the handler finds in the mirror under any key.
    """
    event = replace(event_of(dialect, body), **parts)
    handler = dialect.handler_for(event.event_type)
    assert handler is not None
    mirror = Mirror(
        source=dialect.name, occurred_at=event.occurred_at, arrival=arrival, earlier=[], read=lambda key, writes: row
    )
    handler.function(event, mirror)
    return mirror.writes


def rows_after(writes: Iterable[Write]) -> dict[tuple[str, str], dict[str, Any]]:
    """Compute the rows that the writes leave, by table and external id; children go with their parents."""
    registers: dict[Key, Registers] = defaultdict(Registers)
    for write in writes:
        if write.children_gone:
            registers[write.key].lose_children(table_name(write.children_gone), write.version)
        for column, value in write.columns.items():
            registers[write.key].merge(column, value, write.version)
    return {
        (table_name(key.table), key.external_id): _row(key, row, registers)
        for key, row in list(registers.items())
        if "active" in row.versions
    }


def _row(key: Key, row: Registers, registers: dict[Key, Registers]) -> dict[str, Any]:
    parent, parent_table = row.values.get("parent"), key.table.parent_table
    gone = None
    if parent is not None and parent_table is not None and Key(parent_table, key.source, parent) in registers:
        gone = registers[Key(parent_table, key.source, parent)].children_gone.get(table_name(key.table))
    stand = row_status(row, gone)
    return {
        **row.values,
        "active": stand.active,
        "changed_at": stand.changed_at,
        "deactivated_at": stand.deactivated_at,
    }


def columns_of(dialect: Dialect, body: Any, **more: Any) -> dict[str, Any]:
    """Return the columns of the one row that this body leaves."""
    (row,) = rows_after(writes_of(dialect, json_body(body), **more)).values()
    return row


def json_body(value: Any) -> bytes:
    return value if isinstance(value, bytes) else json.dumps(value).encode()


def fixture(dialect: str, name: str) -> Any:
    return json.loads((FIXTURES / dialect / f"{name}.json").read_bytes())


def fixture_bodies(dialect: str) -> list[str]:
    """List the names of a dialect's fixtures."""
    found = sorted((FIXTURES / dialect).glob("*.json"))
    return [path.name.removesuffix(".json") for path in found if not path.name.endswith(".expected.json")]


def leaves_what_it_must(dialect: Dialect, name: str) -> None:
    """Assert that a fixture's body leaves exactly the rows that its `.expected.json` describes."""
    body = (FIXTURES / dialect.name / f"{name}.json").read_bytes()
    expected = decode((FIXTURES / dialect.name / f"{name}.expected.json").read_bytes())
    if expected["state"] == "ignored":
        assert dialect.handler_for(dialect.read(body).event_type) is None
        assert expected["rows"] == []
        return
    rows = rows_after(writes_of(dialect, body))
    assert {(row["table"], row["external_id"]) for row in expected["rows"]} == rows.keys()
    for row in expected["rows"]:
        found = rows[row["table"], row["external_id"]]
        shown = {column: shown_as(found.get(column)) for column in row if column not in ("table", "external_id")}
        assert shown == {column: value for column, value in row.items() if column in shown}


def shown_as(value: Any) -> Any:
    """Convert a value to the form that the API returns."""
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    return value


def api(dialect: Dialect, answer: Answer, **settings: Any) -> httpx.Client:
    """Make the dialect's own client, with the function `answer` in place of the network."""
    table = {"name": dialect.name, "api_url": "http://api.test", "api_key": "key", "api_secret": "c2VjcmV0", **settings}
    client = dialect.client(SourceSettings(**table))
    assert client is not None
    client._transport = httpx.MockTransport(answer)
    return client


@contextmanager
def quick_retries(attempts: int) -> Iterator[None]:
    """Let walks ask up to `attempts` times, without a wait between attempts."""
    with stamina.set_testing(True, attempts=attempts):
        yield
