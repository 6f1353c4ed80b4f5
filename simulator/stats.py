"""The statistics that a receiver keeps, from `GET /api/v1/stats`."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import httpx

from receiver import codec


@dataclass(frozen=True, slots=True)
class SourceStats:
    states: dict[str, int]
    outcomes: dict[str, int]
    #: Seconds from the last change at the source to its row in the mirror; None before the first.
    freshness: float | None
    #: The receiver's time of the counts.
    counted_at: str

    @property
    def open(self) -> int:
        """Deliveries that are not finished."""
        return self.states.get("pending", 0) + self.states.get("processing", 0)

    @property
    def finished(self) -> int:
        return sum(self.states.values()) - self.open


EMPTY = SourceStats({}, {}, None, "")


async def read_stats(client: httpx.AsyncClient) -> dict[str, SourceStats]:
    """Read the statistics of each source, by its name. Raises httpx.HTTPError."""
    answer = await client.get("/api/v1/stats")
    answer.raise_for_status()
    return {entry["source"]: source_stats(entry) for entry in codec.decode(answer.content)["sources"]}


async def recounted(client: httpx.AsyncClient) -> dict[str, SourceStats]:
    """Read statistics that the receiver counts after this call: it shares a large count for up to a minute.

    Raises httpx.HTTPError.
    """
    before, found = await read_stats(client), await read_stats(client)
    while any(stats.counted_at == before[name].counted_at for name, stats in found.items() if name in before):
        await asyncio.sleep(0.2)
        found = await read_stats(client)
    return found


def source_stats(entry: dict[str, Any]) -> SourceStats:
    freshness = entry.get("freshness_seconds")
    known = None if freshness is None else float(freshness)
    return SourceStats(entry["states"], entry["outcomes"], known, entry["counted_at"])
