"""A console with data: simulated systems send to an installation, and everything happens that a page can show.

There are deliveries in every state, a late one, refused requests, findings, faults, a finished run and a planned one,
and a row that differs from its source.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import followed
from hostile_texts import HOSTILE_BODIES, HOSTILE_TEXTS, as_body, hostile_event
from ports import free_port
from senders import sent
from serving import SECRET_KEY, Served, serving, wait_until
from sqlalchemy import delete, insert, select
from waiting import TIMEOUT, wait_for_a_later_date

from receiver.api.tokens import Scope
from receiver.findings.tables import TALLIES
from receiver.sessions.links import Links
from receiver.sessions.roles import Role
from simulator.systems import SYSTEMS
from simulator.testing import Simulated, SimulatedSystem

#: Events in the random history of each simulated system.
EVENTS = 12

MINUTE = timedelta(minutes=1)

#: The invented past: how often the history is repeated, and the time between repetitions.
REMEMBERED, REMEMBERED_EVERY = 40, 6 * MINUTE

#: The SKU that the journeys search for, and the table and source of its row.
SKU, TABLE, SOURCE = "4711", "products", "iimmpact"


@dataclass
class ConsoleStock:
    """An installation, and the ids of the things in it that tests open."""

    served: Served
    systems: dict[str, SimulatedSystem]
    #: Deliveries by role: `first`, `newest`, `late`, `dead`, `ignored`, `unreadable`.
    deliveries: dict[str, str] = field(default_factory=dict)
    #: Runs by state: `planned`, `reconciled`; and `differing`, a plan that would change rows.
    runs: dict[str, str] = field(default_factory=dict)
    #: Table, source and external id of rows; `contradicted` differs from its source.
    rows: dict[str, tuple[str, str, str]] = field(default_factory=dict)

    @property
    def sources(self) -> list[str]:
        return sorted(self.systems)

    @property
    def newest_change(self) -> str:
        return str(self.ask("/api/v1/changes?newest=true&limit=1")["items"][0]["seq"])

    @property
    def faults(self) -> dict[str, str]:
        """Return the ids of the faults by their causes."""
        return {each["cause"]: each["id"] for each in self.ask("/api/v1/faults")["items"]}

    @property
    def findings(self) -> dict[str, str]:
        """Return the ids of the findings by their rules."""
        return {each["rule"]: each["id"] for each in self.ask("/api/v1/findings")["items"]}

    @property
    def refused(self) -> dict[str, str]:
        """Return the ids of the newest and the oldest kept refused request."""
        kept = [each["id"] for each in self.ask("/api/v1/refused")["items"]]
        return {"newest": kept[0], "oldest": kept[-1]}

    @property
    def site(self) -> str:
        return str(self.served.client.base_url).rstrip("/")

    def link(self, role: Role) -> str:
        """Make a sign-in link as `hookmirror console-link` prints it."""
        secret = Links([SECRET_KEY]).issue(f"{role}-1", role, now=datetime.now(UTC))
        return f"{self.site}/console/sign-in?link={quote(secret)}"

    def tell(self, content: Any, *, source: str = SOURCE, secret: str | None = None) -> str:
        """Post one authentic webhook, wait for its end, and return its id."""
        secret = secret or self.systems[source].system.secrets()[0]
        whole = content if isinstance(content, bytes) else json.dumps(content).encode()
        delivery = self.served.send(source, whole, secret=secret)
        self.settle()
        return delivery

    def refuse(self, content: bytes, text: str) -> None:
        """Post a request that does not verify, with the text in the kept headers as far as HTTP permits."""
        name = "".join(letter for letter in text if " " <= letter <= "~")[:200].strip()
        headers = {"X-Webhook-Signature": f"sha256={'0' * 64}", "User-Agent": name or "-", "Content-Type": name or "-"}
        assert self.served.post(SOURCE, content, headers).status_code in (400, 401)

    def settle(self) -> None:
        """Wait until each delivery has ended or has failed at least one attempt."""
        untried = "ended_at IS NULL AND (attempts = 0 OR state = 'processing')"
        wait_until(lambda: self.served.count("deliveries", untried) == 0, "the worker")

    def plan(self, **query: str) -> str:
        """Plan a run, wait until it is planned, and return its id."""
        run = self._post("/api/v1/runs", query)["run"]
        self.wait_for(run, "planned")
        return str(run)

    def start(self, run: str, reason: str) -> None:
        """Start a planned run and wait for its end."""
        self._post(f"/api/v1/runs/{run}/start", {"reason": reason})
        self.wait_for(run, "done")

    def wait_for(self, run: str, state: str) -> None:
        wait_until(lambda: self.ask(f"/api/v1/runs/{run}")["state"] == state, f"run {run} to be {state}")

    def examine(self) -> None:
        """Keep the refused requests, write the tallies and evaluate the rules now, instead of some time later."""
        self.served.app._keeper.flush()
        self.count()
        self.served.app._watch.evaluate()

    def count(self) -> None:
        """Write the tallies."""
        self.served.app._watch.tally()

    def ask(self, path: str) -> Any:
        answer = self.served.get(path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def _post(self, path: str, query: dict[str, str]) -> Any:
        query_text = "&".join(f"{name}={value}" for name, value in query.items())
        answer = self.served.get(f"{path}?{query_text}".replace(" ", "%20"), scope=Scope.OPERATE, method="POST")
        assert answer.status_code in (200, 202), answer.text
        return answer.json()


@contextmanager
def hostile_console(database_url: str) -> Iterator[ConsoleStock]:
    """Serve an installation whose senders have written hostile texts in every field that they control."""
    simulated = Simulated()
    try:
        # No server listens at that address: the test needs only the system's secret and API.
        system = simulated.start(SOURCE, to="http://127.0.0.1:9/hooks")
        settings = {"with_worker": True, "console": True, "sources": {SOURCE: system.settings}}
        with serving(database_url, **settings) as served:
            stock = ConsoleStock(served, {SOURCE: system})
            _tell_hostile(stock)
            yield stock
    finally:
        simulated.close()


def _tell_hostile(stock: ConsoleStock) -> None:
    for name, text in HOSTILE_TEXTS.items():
        stock.deliveries[name] = stock.tell(as_body(hostile_event(text)))
        stock.deliveries[f"{name} unhandled"] = stock.tell(as_body(hostile_event(text, verb=text)))
        stock.refuse(as_body(hostile_event(text)), text)
    for name, content in HOSTILE_BODIES.items():
        stock.deliveries[name] = stock.tell(content)
        stock.refuse(content, name)
    rows = stock.ask(f"/api/v1/catalog/{TABLE}")["items"]
    stock.rows = {row["external_id"]: (TABLE, SOURCE, row["external_id"]) for row in rows}
    stock.runs["planned"] = stock.plan(source=SOURCE)
    stock.examine()


@contextmanager
def console_stock(database_url: str, *, seed: int = 1) -> Iterator[ConsoleStock]:
    """Serve an installation with data until the end of the block. The same seed makes the same history."""
    port, simulated = free_port(), Simulated()
    try:
        systems = {
            name: simulated.start(name, to=f"http://127.0.0.1:{port}/hooks/{name}", seed=seed) for name in SYSTEMS
        }
        sources = {name: system.settings for name, system in systems.items()}
        more = {"console": True, "public_url": f"http://127.0.0.1:{port}"}
        with serving(database_url, with_worker=True, port=port, sources=sources, **more) as served:
            stock = ConsoleStock(served, systems)
            _tell(stock)
            yield stock
    finally:
        simulated.close()


def _tell(stock: ConsoleStock) -> None:
    _live(stock)
    _remember(stock)
    _contradict(stock)
    _break(stock)
    stock.runs["reconciled"] = stock.plan(kind="reconcile", source="sigma")
    stock.start(stock.runs["reconciled"], "the first look at the catalog")
    stock.runs["planned"] = stock.plan(state="dead", source=SOURCE)
    wait_for_a_later_date(stock.systems[SOURCE].api_url)
    stock.runs["differing"] = stock.plan(kind="reconcile", source=SOURCE)
    followed.add(stock.served.beside)
    stock.examine()


def _live(stock: ConsoleStock) -> None:
    """Play a few minutes of an ordinary day."""
    for system in stock.systems.values():
        system.live(EVENTS)
    for system in stock.systems.values():
        system.wait(TIMEOUT)
    stock.settle()


def _remember(stock: ConsoleStock) -> None:
    """Repeat the tallies over the last hours, as if the same events had happened every few minutes."""
    stock.count()
    with stock.served.beside.write() as connection:
        counted = [dict(row) for row in connection.execute(select(TALLIES)).mappings()]
        connection.execute(delete(TALLIES))
        for number in range(1, REMEMBERED + 1):
            shifted = [each | {"at": each["at"] - number * REMEMBERED_EVERY} for each in counted]
            # Vary the numbers, as between day and night.
            share = 1 + number % 7
            connection.execute(insert(TALLIES), [each | {"number": each["number"] * share} for each in shifted])


def _contradict(stock: ConsoleStock) -> None:
    """Make a product with a late delivery, and change it at its source without a webhook."""
    shop = stock.systems[SOURCE]
    lamp = shop.create(kind="product", product_code=SKU, display_name="Lamp")
    stock.rows["contradicted"] = (TABLE, SOURCE, lamp.external_id)
    # A sender that repeats the first of two messages would make it the later one.
    shop.wait(TIMEOUT)
    shop.update(lamp, display_name="Bright lamp")
    shop.wait(TIMEOUT)
    stock.settle()
    newest, first = stock.ask(f"/api/v1/deliveries?source={SOURCE}&entity=product:{SKU}")["items"]
    stock.deliveries |= {"first": first["id"], "newest": newest["id"]}
    data = shop.system.resources[lamp.family].data
    now = datetime.now(UTC)
    stock.deliveries["late"] = stock.tell(event_about(SKU, data | {"display_name": "Old lamp"}, now - 15 * MINUTE))
    shop.system.alter(lamp.family, now, display_name="Brightest lamp")


def _break(stock: ConsoleStock) -> None:
    """Make the faults of a bad day: ignored, dead and unreadable deliveries, and refused requests."""
    now = datetime.now(UTC)
    stock.deliveries["ignored"] = stock.tell(event_about("P1", {"color": "red"}, now, verb="painted"))
    for number in range(3):
        told = {"display_name": "Lamp", "is_active": "perhaps"}
        stock.deliveries["dead"] = stock.tell(event_about(f"P{number}", told, now))
    stock.deliveries["unreadable"] = stock.tell(b'{"type": "product.updated", \xff\x00')
    for number in range(12):
        content, headers = sent("indexed", b'{"number": %d}' % number, "a secret that was changed there")
        assert stock.served.post("indexed", content, headers).status_code == 401
    wait_until(lambda: stock.served.count("refused") == 12, "the keeper")


def event_about(identifier: str, data: Any, at: datetime, *, verb: str = "updated") -> dict[str, Any]:
    """The body that iimmpact posts about a product."""
    told = at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {"type": f"product.{verb}", "resource": "products", "id": identifier, "timestamp": told, "data": data}
