"""Processor time of an event in a body of a hundred events, compared with an event in a body of its own."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pydantic import AwareDatetime, BaseModel

from benchmarks import postgresql, processor
from benchmarks.senders import SECRET
from benchmarks.servers import running
from handlers.catalog import Product
from receiver import Dialect, Envelope, Event, HmacSha256, Mirror, each
from receiver.database.database import Database
from receiver.dialects.sources import Source, build_source
from receiver.inbox.inbox import Inbox
from receiver.settings.settings import SourceSettings
from receiver.verify.request import WebhookRequest
from receiver.worker.worker import Worker

#: Events of one body, bodies of one round, and rounds. The two kinds of bodies take turns.
EVENTS, BODIES, ROUNDS = 100, 40, 4

#: Connections, as in the other measurements of acks.
CONNECTIONS = 64

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)

#: The sources, each named for its dialect.
NAMES = ("singles", "bundles")


class _Change(BaseModel):
    id: str
    product: str
    at: AwareDatetime
    kind: str
    name: str
    note: str


def _read_change(change: _Change) -> Envelope:
    return Envelope(
        event_type=change.kind,
        entity=("product", change.product),
        occurred_at=change.at,
        data={"name": change.name},
        dedup_key=change.id,
    )


def _dialect(name: str) -> Dialect:
    dialect = Dialect(name, verify=HmacSha256(header="X-Signature"))

    @dialect.on("product.updated")
    def upsert(event: Event[dict[str, Any]], mirror: Mirror) -> None:
        mirror.upsert(Product, event.entity_id, name=event.data["name"])

    return dialect


singles, bundles = map(_dialect, NAMES)

singles.envelope(_read_change)


@bundles.envelope
def _read_all(body: dict[str, Any]) -> Any:
    return each(body["changes"], _read_change)


def report() -> list[str]:
    """Report microseconds for each event, the median of the rounds, and their ratio."""
    lines = []
    with ExitStack() as stack:
        for database in ("SQLite", "PostgreSQL"):
            folder = Path(stack.enter_context(TemporaryDirectory()))
            url = stack.enter_context(postgresql.fresh_database()) if database == "PostgreSQL" else None
            rounds = list(_rounds(folder, url or f"sqlite:///{folder / 'hookmirror.db'}"))
            for place, what in enumerate(("accepted", "worked on")):
                alone, together = (
                    sorted(used[name][place] for used in rounds)[len(rounds) // 2] / (EVENTS * BODIES) * 1e6
                    for name in NAMES
                )
                lines.append(
                    f"{database}, {what}: {alone:.0f} µs for an event with a body of its own, "
                    f"{together:.0f} µs in a body of {EVENTS}: {together / alone:.2f} times as much"
                )
    return lines


def _rounds(folder: Path, database_url: str) -> Iterator[dict[str, tuple[float, float]]]:
    """Yield for each round the seconds of processor time to accept and to work on its events, by kind of body."""
    config = folder / "settings.toml"
    config.write_text(
        'dialects = ["benchmarks.bundles:singles", "benchmarks.bundles:bundles"]\n'
        + "".join(f'[sources.{name}]\nsecrets = ["{SECRET}"]\n' for name in NAMES)
    )
    dialects = {"singles": singles, "bundles": bundles}
    sources = {name: build_source(SourceSettings(name=name, secrets=[SECRET]), dialects) for name in dialects}
    with (
        running("hookmirror", folder, "--no-worker", database_url=database_url, config=config) as (url, process),
        closing(Database(database_url)) as database,
    ):
        worker = Worker(Inbox(database), sources)
        for number in range(ROUNDS):
            first = number * EVENTS * BODIES
            changes = [_change(each) for each in range(first, first + EVENTS * BODIES)]
            used = {}
            for name in NAMES if number % 2 else NAMES[::-1]:
                requests = _requests(sources[name], changes)
                before = processor.seconds(process)
                asyncio.run(_send(url, requests))
                used[name] = processor.seconds(process) - before, _work(worker)
            yield used
        worker.close()


def _change(number: int) -> dict[str, str]:
    return {
        "id": f"e{number:08d}",
        "product": f"P{number % 2_000}",
        "at": (NOON + timedelta(seconds=number)).isoformat(),
        "kind": "product.updated",
        "name": f"Lamp {number}",
        "note": "x" * 150,
    }


def _requests(source: Source, changes: Sequence[dict[str, str]]) -> list[bytes]:
    """Make complete, signed requests."""
    documents: list[Any] = list(changes)
    if source.name == "bundles":
        documents = [{"changes": changes[start : start + EVENTS]} for start in range(0, len(changes), EVENTS)]
    return [_signed(source, json.dumps(document).encode()) for document in documents]


def _signed(source: Source, body: bytes) -> bytes:
    sealed, headers = source.dialect.verifier.sign(WebhookRequest(body), source.credentials)
    lines = [f"POST /hooks/{source.name} HTTP/1.1", "Host: receiver", f"Content-Length: {len(sealed)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + sealed


async def _send(url: str, requests: Sequence[bytes]) -> None:
    """Send the requests over 64 connections; each sends its next request after an answer."""
    waiting = iter(requests)

    async def connection() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        for request in waiting:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200"), head
            length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
            await reader.readexactly(int(length.partition(b":")[2]))
        writer.close()

    await asyncio.gather(*(connection() for _ in range(CONNECTIONS)))


def _work(worker: Worker) -> float:
    began = time.process_time()
    while worker.work():
        pass
    return time.process_time() - began
