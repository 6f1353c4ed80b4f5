"""Handlers that hang, crash their process or use up its memory end as dead, and all other deliveries are processed."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import tempfile
from collections.abc import Mapping
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import httpx
import pytest
from databases import PostgresqlServer, SqliteFile
from deployment import Deployment
from forking import shared_forking
from killing import DATABASES
from ledger import Ledger
from observing import until

SECRET = "TestSecretOf32CharactersForTests"

#: A dialect whose handler does what the entity's id says.
DEADLY = """
import os, re, signal, time
from pydantic import AwareDatetime, BaseModel
from handlers.catalog import Product
from receiver import Dialect, Envelope, Event, HmacSha256, Mirror

shop = Dialect("shop", verify=HmacSha256(header="X-Webhook-Signature"))

class Body(BaseModel):
    type: str
    id: str
    timestamp: AwareDatetime

@shop.envelope
def read(body: Body) -> Envelope:
    return Envelope(event_type=body.type, entity=("product", body.id), occurred_at=body.timestamp, data=None)

@shop.on("product.updated")
def upsert(event: Event, mirror: Mirror) -> None:
    match event.entity_id:
        case "EXITS":
            os._exit(66)
        case "CRASHES":  # in this thread: another one would take the signal of the process a moment later
            signal.raise_signal(signal.SIGSEGV)
        case "KILLED":  # as the system does when memory runs out
            os.kill(os.getpid(), signal.SIGKILL)
        case "GREEDY":
            bytearray(1 << 31)
        case "HANGS":
            time.sleep(3600)
        case "HANGS-INSIDE":
            mirror.session
            time.sleep(3600)
        case "SPINS":  # and never lets go of the interpreter
            re.match(r"(a+)+$", "a" * 64 + "b")
    mirror.upsert(Product, event.entity_id, name=event.entity_id)
"""

SETTINGS = f"""
dialects = ["deadly:shop"]

[sources.shop]
secrets = ["{SECRET}"]
"""


def signed(entity: str) -> tuple[bytes, dict[str, str]]:
    body = json.dumps({"type": "product.updated", "id": entity, "timestamp": "2026-03-04T12:00:00Z"}).encode()
    seal = "sha256=" + hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    return body, {"X-Webhook-Signature": seal, "Content-Type": "application/json"}


async def ends(name: str, entities: list[str], *, limits: Mapping[str, int] | None = None) -> dict[str, dict]:
    """Run two worker processes on deliveries about these entities, and return how each ended, by entity."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hookmirror-plug-")))
        (folder / "deadly.py").write_text(DEADLY)
        forking = await asyncio.to_thread(shared_forking)
        database = SqliteFile(folder) if name == "sqlite" else PostgresqlServer()
        stack.callback(database.remove)
        await asyncio.to_thread(database.start)
        # An ordinary delivery may lose an attempt beside a deadly one, and another while its worker stands still.
        settings = {"lease_seconds": 2, "max_attempts": 3, "batch_size": 5}
        deployment = Deployment(
            forking, folder, database.url, SETTINGS, endpoints=1, workers=2, settings=settings, limits=limits
        )
        await asyncio.to_thread(deployment.migrate)
        ledger = Ledger(database.url)
        await stack.enter_async_context(deployment)
        client = await stack.enter_async_context(deployment.client())
        for entity in entities:
            body, headers = signed(entity)
            await until(partial(accepted, client, body, headers), "an ack")

        async def all_ended() -> bool:
            return not await asyncio.to_thread(ledger.open)

        await until(all_ended, "the end of all", seconds=180)
        items = (await client.get("/api/v1/deliveries", params={"limit": "200"})).json()["items"]
        return {item["entity"].removeprefix("product:"): item for item in items}


async def accepted(client: httpx.AsyncClient, body: bytes, headers: Mapping[str, str]) -> bool:
    answer = await client.post("/hooks/shop", content=body, headers=headers)
    assert answer.status_code in (200, 503), answer.text
    return answer.status_code == 200


def around(*deadly: str) -> list[str]:
    """Put the deadly entities among ordinary ones."""
    before, after = [f"A{number}" for number in range(8)], [f"B{number}" for number in range(8)]
    return [*before, *deadly, *after]


@pytest.mark.parametrize("database", DATABASES)
@pytest.mark.parametrize(
    "deadly",
    [
        pytest.param(["EXITS", "CRASHES", "KILLED", "HANGS"], id="ends-or-hangs"),
        pytest.param(["HANGS-INSIDE"], id="hangs-in-the-transaction", marks=pytest.mark.long),
        pytest.param(["SPINS"], id="holds-the-interpreter", marks=pytest.mark.long),
    ],
)
def test_a_delivery_whose_handler_ends_or_hangs_the_process_ends_as_dead_and_no_other_does(database, deadly):
    found = asyncio.run(ends(database, around(*deadly)))
    states = {entity: item["state"] for entity, item in found.items()}
    assert {entity for entity, state in states.items() if state == "dead"} == set(deadly)
    assert {state for entity, state in states.items() if entity not in deadly} == {"processed"}
    reasons = {item["reason"] for item in found.values() if item["state"] == "dead"}
    assert reasons == {"The worker stopped or hung during this attempt."}


@pytest.mark.long
def test_a_handler_that_asks_for_too_much_memory_fails_its_own_attempt_and_no_other():
    found = asyncio.run(ends("sqlite", around("GREEDY"), limits={"RLIMIT_AS": 1 << 31}))
    greedy = found.pop("GREEDY")
    assert greedy["state"] == "dead"
    assert "MemoryError" in greedy["reason"]
    assert {item["state"] for item in found.values()} == {"processed"}
