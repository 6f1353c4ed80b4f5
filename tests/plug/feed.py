"""A follower of the change feed that polls throughout the kills and checks the changes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any

import httpx
from proxy import Proxy

from receiver import codec
from simulator.oracle import Key

#: Seconds between two polls of a feed without new changes, and changes asked for in one request.
LOOK, PAGE = 0.05, 500


class Consumer:
    """Rebuilds the mirror from the feed alone, like a program that keeps a copy of its own."""

    def __init__(self, balancer: Proxy, headers: Mapping[str, str]) -> None:
        self._url = f"http://127.0.0.1:{balancer.port}"
        self._headers = headers
        self._finishing = asyncio.Event()
        #: The numbers of the changes in the order in which they came.
        self.seen: list[int] = []
        #: The rows that the changes describe, by source.
        self.rows: dict[str, dict[Key, dict[str, Any]]] = {}
        #: Changes whose `before` differs from the row that the earlier changes describe.
        self.breaks: list[str] = []

    async def run(self) -> None:
        """Poll until `finish` is called, and then to the end of the feed."""
        async with httpx.AsyncClient(base_url=self._url, headers=self._headers, timeout=10, trust_env=False) as client:
            while True:
                last_look = self._finishing.is_set()
                page = None
                with contextlib.suppress(httpx.TransportError):
                    answer = await client.get("/api/v1/changes", params={"after": self._last, "limit": PAGE})
                    if answer.status_code == 200:
                        page = codec.decode(answer.content)["items"]
                for change in page or ():
                    self._take(change)
                if page == [] and last_look:
                    return
                if not page:
                    await asyncio.sleep(LOOK)

    def finish(self) -> None:
        self._finishing.set()

    def wrong(self, source: str, mirror: Mapping[Key, Mapping[str, Any]]) -> list[str]:
        """Describe the rows of this source that differ from the changes."""
        told = self.rows.get(source, {})
        return [
            f"{key}: {row} is told by the feed as {told.get(key)}"
            for key, row in mirror.items()
            if key not in told or any(row.get(column) != value for column, value in told[key].items())
        ] + [f"{key} is in the feed alone" for key in told.keys() - mirror.keys()]

    @property
    def _last(self) -> int:
        return self.seen[-1] if self.seen else 0

    def _take(self, change: Mapping[str, Any]) -> None:
        self.seen.append(change["seq"])
        key = (change["table"], change["external_id"])
        row = self.rows.setdefault(change["source"], {}).setdefault(key, {})
        if any(row.get(column) != value for column, value in change["before"].items()):
            self.breaks.append(f"change {change['seq']}: before {change['before']}, known {row}")
        row.update(change["after"])
