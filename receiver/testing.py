"""The test kit: a pytest fixture `webhooks` that signs like the real sender and shows the resulting rows.

    def test_late_update_does_not_revive(webhooks):
        webhooks.send("shop", "product.deleted", id="A1", at=noon)
        webhooks.send("shop", "product.updated", id="A1", at=noon - minute, data=LAMP)
        webhooks.drain()
        assert not webhooks.row(Product, "A1").active

The fixture uses the real endpoint, the real worker, and a SQLite file or a database on PostgreSQL. Only the network is
left out, and tests can move the time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlencode

import httpx
import pytest
from msgspec import to_builtins
from msgspec.structs import asdict
from sqlmodel import Session, select

from receiver import codec
from receiver.api.catalog import shapes_of
from receiver.api.delivery_shapes import show_delivery, show_whole_delivery
from receiver.database.database import Database
from receiver.database.temporary import database_of_its_own
from receiver.dialects.dialect import Dialect
from receiver.dialects.headers import repeatable_headers
from receiver.dialects.own_settings import adopt_own_settings
from receiver.dialects.purity import HOW_TO_BE_PURE, impurity
from receiver.dialects.replies import SenderReply
from receiver.dialects.sources import Source, build_source, find_dialects
from receiver.errors import Unreadable
from receiver.fixtures import EXPECTED, expected_of, fixture_files, headers_beside, refuse_unknown, without_news
from receiver.header_values import NO_HEADERS, joined_headers
from receiver.inbox.arrival import Accepted
from receiver.inbox.inbox import Inbox
from receiver.inbox.tables import DELIVERIES, State
from receiver.ingest.endpoint import Endpoint
from receiver.ingest.group_commit import GroupCommit
from receiver.ingest.incoming import Incoming
from receiver.ingest.paths import HOOKS_PATH
from receiver.ingest.replies import Reply
from receiver.mirror.rows import MirrorRow, sql_table, tables_by_name
from receiver.search import deliveries, rows
from receiver.settings.limits import Limits
from receiver.settings.settings import source_settings
from receiver.verify.request import WebhookRequest
from receiver.verify.verifiers import Credentials
from receiver.worker.worker import Worker

__all__ = [
    "EXPECTED",
    "TEST_APP_KEY",
    "TEST_SECRET",
    "Answer",
    "Webhooks",
    "database_of_its_own",
    "fixture_files",
    "hookmirror_database_url",
    "hookmirror_dialects",
    "webhooks",
]

Row = TypeVar("Row", bound=MirrorRow)

#: The secret of the sources in tests. It has 32 characters, so that it is a valid key phrase, too.
TEST_SECRET = "TestSecretOf32CharactersForTests"  # noqa: S105 (a secret of tests only)
TEST_APP_KEY = "test-app-key"


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a request."""

    status: int
    #: The parsed answer; empty if it is not a JSON object.
    body: dict[str, Any]
    headers: Mapping[str, str]
    #: The complete answer as text.
    text: str = ""
    #: The ids of the stored deliveries, one for each event of the body; empty if the webhook was refused.
    stored: tuple[str, ...] = ()

    @property
    def delivery(self) -> str:
        """The id of the stored delivery, or of the first of several. Raises `KeyError` for a refused webhook."""
        if not self.stored:
            raise KeyError("delivery")
        return self.stored[0]


class _Endpoint(Endpoint):
    """An endpoint that remembers the ids of stored deliveries, because a dialect's own reply does not name them."""

    stored: tuple[str, ...] = ()

    def ack(self, name: str, outcome: Accepted | SenderReply) -> Reply:
        if isinstance(outcome, Accepted):
            self.stored = tuple(str(each.delivery_id) for each in outcome.items or (outcome,))
        return super().ack(name, outcome)


class Webhooks:
    """Sends webhooks to an endpoint of its own, and reads the resulting mirror."""

    def __init__(self, folder: Path, dialects: Mapping[str, Dialect], *, database_url: str | None = None) -> None:
        self._dialects = dialects
        self._sources: dict[str, Source] = {}
        self.database = Database(database_url or f"sqlite:///{folder / 'hookmirror.db'}")
        self.database.create_tables()
        self.inbox = Inbox(self.database)
        self._moved = timedelta()
        self.worker = Worker(self.inbox, self._sources, clock=self.now, jitter=lambda: 0.5)
        self._group_commit = GroupCommit(self.inbox, prepare=self.inbox.prepare)
        self._group_commit.start()
        self._limits = limits = Limits()
        self._endpoint = _Endpoint(self._sources, self._group_commit.take, limits=limits, incoming=Incoming(limits))
        self._runner = asyncio.Runner()

    def close(self) -> None:
        self._runner.close()
        self._group_commit.stop()
        self.worker.close()
        self.database.close()

    # ── sources and time ──────────────────────────────────────────────────────────────────────────────────────

    def source(self, name: str, **settings: Any) -> Source:
        """Add a source with these settings (those of `[sources.<name>]`), or return an existing one.

        Without settings, a source has the dialect of its name and the test kit's own secret. Raises
        `ConfigurationError` for unknown settings.
        """
        if name not in self._sources or settings:
            dialect = self._dialects.get(settings.get("dialect") or name)
            usual = {} if dialect is None else _usual_settings(name, dialect, settings)
            table = source_settings(name, usual | settings)
            self._sources[name] = build_source(table, self._dialects, limits=self._limits)
            self._endpoint.renew(self._sources, self._limits)
        return self._sources[name]

    def now(self) -> datetime:
        """The worker's clock."""
        return datetime.now(UTC) + self._moved

    def advance(self, **time: float) -> None:
        """Move the worker's clock, by the arguments of `timedelta`: `advance(hours=1)`. Retries then become due."""
        self._moved += timedelta(**time)

    # ── sending ───────────────────────────────────────────────────────────────────────────────────────────────

    def send(
        self,
        source: str,
        event_type: str,
        *,
        id: str,  # noqa: A002 (the word that senders use)
        at: datetime | None = None,
        data: Any = None,
        headers: Mapping[str, str] = NO_HEADERS,
    ) -> Answer:
        """Send an event in a body that the dialect composes; `at` is now by default. Fails if it is refused."""
        dialect = self.source(source).dialect
        body, usual = dialect.write(event_type, id, at=at or self.now(), data=data), dialect.usual_headers(event_type)
        answer = self.send_body(source, body, headers=joined_headers(usual, headers))
        assert answer.stored, f"{event_type} was refused: {answer.status} {answer.text}"
        return answer

    def send_body(
        self,
        source: str,
        body: bytes,
        *,
        credentials: Credentials | None = None,
        headers: Mapping[str, str] = NO_HEADERS,
    ) -> Answer:
        """Sign or encrypt the body as the sender does, by default with the source's credentials, and post it.

        Fails if the envelope function reads the clock, or reads the same body in two ways.
        """
        listening = self.source(source)
        verifier, used = listening.dialect.verifier, credentials or listening.credentials
        signed = dict.fromkeys(getattr(verifier, "signed_headers", ()), "example")
        impure = impurity(listening.read, listening.dialect.as_kept(body, signed | dict(headers)))
        name = listening.dialect.name
        assert impure is None, f"The envelope of {name} depends on more than the body ({impure}): {HOW_TO_BE_PURE}."
        request = WebhookRequest(
            verifier.prepare(body, used),
            [(name.lower().encode(), value.encode()) for name, value in headers.items()],
            target=f"{HOOKS_PATH}{source}".encode(),
            public_url=used.public_url,
            at=datetime.now(UTC),
        )
        sealed, signature = verifier.sign(request, used)
        return self.post(source, sealed, joined_headers(headers, signature))

    def post(self, source: str, body: bytes, headers: Mapping[str, str] | Sequence[tuple[bytes, bytes]] = ()) -> Answer:
        """Post exactly these bytes with these headers, signed or not."""
        sent = list(headers.items()) if isinstance(headers, Mapping) else list(headers)
        return self._runner.run(self._request("POST", HOOKS_PATH + source, body, sent))

    def ask(
        self,
        source: str,
        method: str = "GET",
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send a challenge: a request without a body, with this query."""
        self.source(source)
        path = f"{HOOKS_PATH}{source}?{urlencode(query)}" if query else HOOKS_PATH + source
        return self._runner.run(self._request(method, path, b"", list((headers or {}).items())))

    # ── what became of it ─────────────────────────────────────────────────────────────────────────────────────

    def drain(self) -> int:
        """Work until no delivery is due, and return the number of attempts. The wait after a failure is not random."""
        return sum(iter(self.worker.work, 0))

    def row(self, table: type[Row], external_id: str, *, source: str | None = None) -> Row:
        """Read a row of the mirror. Fails without news about it; `source` is needed if several sources have it."""
        found = [row for row in self.rows(table, source=source) if row.external_id == external_id]
        assert found, without_news(table.__name__, external_id, self.deliveries())
        assert len(found) == 1, f"several sources have {table.__name__} {external_id!r}: give `source`"
        return found[0]

    def rows(self, table: type[Row], *, source: str | None = None) -> list[Row]:
        """All rows of a mirror table, tombstones included, in the order of their ids."""
        with Session(self.database.engine) as session:
            found = session.exec(select(table).order_by(sql_table(table).c.external_id)).all()
        return [row for row in found if source in (None, row.source)]

    def delivery(self, answer: Answer | str) -> dict[str, Any]:
        """One delivery as the API shows it: state, outcome, reason, attempts and so on."""
        delivery_id = answer if isinstance(answer, str) else answer.delivery
        found = deliveries.delivery(self.database, int(delivery_id))
        assert found is not None, f"there is no delivery {delivery_id}"
        shown: dict[str, Any] = to_builtins(show_whole_delivery(found), builtin_types=(datetime,), enc_hook=str)
        return shown

    def deliveries(self) -> list[dict[str, Any]]:
        """All deliveries in the order of their arrival."""
        with self.database.read() as connection:
            found = connection.execute(DELIVERIES.select().order_by(DELIVERIES.c.id)).mappings().all()
        return [asdict(show_delivery(row)) for row in found]

    # ── fixtures ──────────────────────────────────────────────────────────────────────────────────────────────

    def check_fixture(self, fixture: Path) -> None:
        """Send the body in the file `fixture`, and compare the mirror with the file beside it that ends in
        `.expected.json`: `{"state": "processed", "rows": [{"table", "external_id", "active", <columns> …}]}`.

        Raises `ConfigurationError` if one of the files does not exist, if the second has another form, or if it names
        an unknown state, table or column.
        """
        expected = expected_of(fixture)
        state = expected.get("state", State.PROCESSED)
        refuse_unknown("state", [state], State)
        source = fixture.parent.name
        headers = repeatable_headers(headers_beside(fixture), self.source(source).dialect.verifier)
        answer = self.send_body(source, fixture.read_bytes(), headers=headers)
        assert answer.stored, f"{fixture.name} was refused: {answer.status} {answer.text}"
        self.drain()
        delivery = self.delivery(answer)
        assert delivery["state"] == state, delivery["reason"] or f"{fixture.name} is {delivery['state']}"
        for wanted in expected["rows"]:
            columns = {name: value for name, value in wanted.items() if name != "table"}
            row = self._shown(source, wanted["table"], wanted["external_id"])
            refuse_unknown(f"column of {wanted['table']}", columns, row)
            found = {name: row[name] for name in columns}
            assert found == columns
            assert codec.is_equal(found, columns), f"a boolean stands for a number, or a number for one: {found}"

    def _shown(self, source: str, table: str, external_id: str) -> dict[str, Any]:
        kinds = tables_by_name()
        refuse_unknown("table", [table], kinds)
        row = rows.row(self.database, kinds[table], source, external_id)
        assert row is not None, without_news(table, external_id, self.deliveries())
        return dict(codec.decode(codec.encode(shapes_of(kinds[table]).show(row))))

    async def _request(self, method: str, path: str, body: bytes, headers: Any) -> Answer:
        self._endpoint.stored = ()
        transport = httpx.ASGITransport(self._endpoint)  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://receiver") as client:
            response = await client.request(method, path, content=body, headers=headers)
        content, text = _object(response.content), response.content.decode("utf-8", "replace")
        return Answer(response.status_code, content, response.headers, text, self._endpoint.stored)


def _object(content: bytes) -> dict[str, Any]:
    try:
        found = codec.decode(content)
    except Unreadable:
        return {}
    return found if isinstance(found, dict) else {}


def _usual_settings(name: str, dialect: Dialect, given: Mapping[str, Any]) -> dict[str, Any]:
    """The default settings of a source in a test: those that its verifier accepts."""
    own = adopt_own_settings(source_settings(name, {"settings": given.get("settings") or {}}), dialect.settings_model)
    everything: dict[str, Any] = {"secrets": [TEST_SECRET], "app_key": TEST_APP_KEY, "cipher": "aes-256-cbc"}
    urls: tuple[dict[str, Any], ...] = ({}, {"registered_url": "https://receiver.test/hooks/source"})
    signed = [{"secrets": [text]} | url for text in (TEST_SECRET, TEST_SECRET.encode().hex()) for url in urls]
    for usual in (everything, *signed, {"allow_unsigned": True}, {}):
        if dialect.verifier.check(replace(source_settings(name, usual).credentials(), own=own)) is None:
            return usual
    return everything


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini("hookmirror_dialects", "dialects for the `webhooks` fixture, each module:name", type="linelist")
    parser.addini("hookmirror_database_url", "a PostgreSQL server for the `webhooks` fixture; without it, SQLite files")


@pytest.fixture
def hookmirror_dialects(request: pytest.FixtureRequest) -> Mapping[str, Dialect]:
    """The dialects that `webhooks` knows, by name: installed ones, and those of the ini option of the same name."""
    return find_dialects(request.config.getini("hookmirror_dialects"), beside=request.config.rootpath)


@pytest.fixture
def hookmirror_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of the database of `webhooks`, which is new for each test: a SQLite file, or a database on the server in
    the ini option of the same name, which is dropped after the test.
    """
    server = request.config.getini("hookmirror_database_url")
    if not server:
        yield f"sqlite:///{tmp_path / 'hookmirror.db'}"
        return
    with database_of_its_own(server) as url:
        yield url


@pytest.fixture
def webhooks(
    tmp_path: Path, hookmirror_dialects: Mapping[str, Dialect], hookmirror_database_url: str
) -> Iterator[Webhooks]:
    """Sends webhooks and reads the resulting rows: see `Webhooks`."""
    kit = Webhooks(tmp_path, hookmirror_dialects, database_url=hookmirror_database_url)
    yield kit
    kit.close()
