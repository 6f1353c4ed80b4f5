"""Settlements whose effect is prepared before the write lock of SQLite: the same result as when all of it is computed
under the lock, whatever other transactions write in between."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shopping import drain
from sqlalchemy import text
from telling import NOON, delete, patch, read, take_snapshot, update
from templates import file_with_tables

from examples import examples
from handlers.catalog import Product
from receiver import Dialect, Event, HmacSha256, Mirror
from receiver.codec import decode, encode
from receiver.database.database import Database
from receiver.dialects.sources import Source, build_source
from receiver.inbox.arrival import Arrival
from receiver.inbox.inbox import Inbox
from receiver.mirror.rows import Key, Write
from receiver.mirror.unit_of_work import UnitOfWork
from receiver.mirror.versions import load
from receiver.settings.settings import SourceSettings
from receiver.worker.settlement import Settlement
from receiver.worker.worker import Worker

#: A time at which every delivery of these tests is due.
LATER = datetime(2100, 1, 1, tzinfo=UTC)

ANOTHER = "another worker"

Story = Sequence[tuple[str, str, int, Any]]


def count_with_sql(event: Event[Any], mirror: Mirror) -> None:
    """Name a product by the number of products, as handlers do that need SQL of their own."""
    known = mirror.session.execute(text("SELECT count(*) FROM products")).scalar_one()
    mirror.upsert(Product, event.entity_id, name=f"one of {known}")


def fail(_event: Event[Any], _mirror: Mirror) -> None:
    raise ValueError("not today")


def new_shop() -> Dialect:
    shop = Dialect("shop", verify=HmacSha256(header="X-Webhook-Signature"))
    shop.envelope(read)
    handlers = {
        "*.updated": update,
        "*.patched": patch,
        "*.deleted": delete,
        "product.snapshot": take_snapshot,
        "product.counted": count_with_sql,
        "product.failing": fail,
    }
    for event_type, handler in handlers.items():
        shop.on(event_type)(handler)
    return shop


@pytest.fixture(scope="module")
def source() -> Source:
    return build_source(SourceSettings(name="shop", secrets=["TestSecretOf32CharactersForTests"]), {"shop": new_shop()})


@dataclass(slots=True)
class Place:
    """A SQLite file with the inbox and the mirror, and workers on it."""

    source: Source
    inbox: Inbox
    batch_size: int = 100
    #: The number of effects that were computed, prepared ones included.
    computed: int = 0
    #: Further actions for the moments between preparing and locking.
    meanwhile: list[Callable[[Place], None]] = field(default_factory=list)

    @property
    def database(self) -> Database:
        return self.inbox.database

    def tell(self, story: Story) -> None:
        """Accept these events in this order."""
        for event_type, entity, second, data in story:
            at = (NOON + timedelta(seconds=second)).isoformat()
            body = encode({"type": event_type, "id": entity, "timestamp": at, "data": data})
            arriving = Arrival(source="shop", body=body, plain=None, headers={}, received_at=NOON, secret=0)
            arriving.know(self.source.read(body))
            self.inbox.accept([arriving])

    def write(self, statement: str, **parameters: Any) -> None:
        with self.database.write() as connection:
            connection.execute(text(statement), parameters)

    def all_of(self, table: str, *, but: Sequence[str] = ()) -> list[dict[str, Any]]:
        with self.database.read() as connection:
            rows = connection.execute(text(f"SELECT * FROM {table} ORDER BY 1, 2")).mappings()
            return [{name: value for name, value in row.items() if name not in but} for row in rows]

    def everything(self) -> dict[str, list[dict[str, Any]]]:
        """Read everything that settlements write, except names of workers and times of handlers."""
        return {
            "products": self.all_of("products"),
            "variants": self.all_of("variants"),
            "changes": self.all_of("changes"),
            "deliveries": self.all_of("deliveries", but=["claimed_by"]),
            "rounds": self.all_of("rounds"),
            "attempts": self.all_of("attempts", but=["worker", "handle_us", "settle_us", "traceback"]),
            "settlements": sorted(
                (
                    {name: group[name] for name in ("deliveries", "handler", "round", "number")}
                    for group in self._groups()
                ),
                key=lambda group: group["deliveries"],
            ),
        }

    def _groups(self) -> Iterator[dict[str, Any]]:
        """Yield the groups of successful attempts."""
        for row in self.all_of("settlements"):
            yield from decode(row["attempts"])

    def worker(self, **options: Any) -> Worker:
        return Worker(self.inbox, {"shop": self.source}, clock=lambda: LATER, jitter=lambda: 0.5, **options)

    @contextmanager
    def at_work(self, *, prepared: bool = True) -> Iterator[Worker]:
        """Make a worker that calls `meanwhile` before each lock; unless `prepared`, it drops its prepared effect."""
        with closing(self.worker(batch_size=self.batch_size)) as working:
            settlement = working._settlement
            prepare, compute = settlement._prepare, settlement._effect

            def prepare_and_act(*arguments: Any) -> Any:
                effect = prepare(*arguments)
                if self.meanwhile:
                    self.meanwhile.pop(0)(self)
                return effect if prepared else None

            def compute_and_count(*arguments: Any, **options: Any) -> Any:
                self.computed += 1
                return compute(*arguments, **options)

            settlement._prepare, settlement._effect = prepare_and_act, compute_and_count  # type: ignore[method-assign]
            yield working


@pytest.fixture
def open_place(source):
    """Return a context manager that opens a copy of a file, by default of one with empty tables."""

    @contextmanager
    def opened(folder: Path, file: Path | None = None) -> Iterator[Place]:
        own = folder / "own.db"
        shutil.copy(file or file_with_tables(), own)
        with closing(Database(f"sqlite:///{own}")) as database:
            yield Place(source, Inbox(database))

    return opened


@pytest.fixture
def place(tmp_path, open_place) -> Iterator[Place]:
    with open_place(tmp_path) as place:
        yield place


# ── when the prepared effect counts ───────────────────────────────────────────────────────────────────────────────


def test_an_effect_is_computed_once_before_the_lock(place):
    place.tell([("product.updated", "P1", 1, {"name": "Lamp"}), ("variant.updated", "V1", 1, {"parent": "P1"})])
    with place.at_work() as worker:
        assert drain(worker) == 2
    assert place.computed == 1
    assert [row["external_id"] for row in place.all_of("products")] == ["P1"]


def by_another_worker(event_type: str, entity: str, second: int, data: Any = None) -> Callable[[Place], None]:
    """Return an action: an event arrives, and another worker settles it."""

    def act(place: Place) -> None:
        place.tell([(event_type, entity, second, data)])
        with closing(place.worker()) as other:
            assert drain(other) == 1

    return act


def reclaim_one(place: Place) -> None:
    """Take the delivery of P1 from its worker, as if its lease had ended."""
    place.write("UPDATE deliveries SET claimed_by = :who WHERE entity_id = 'P1' AND state = 'processing'", who=ANOTHER)


def forget_row(place: Place) -> None:
    place.write("DELETE FROM products WHERE external_id = 'P1'")


def correct_row(place: Place) -> None:
    """Replace the name of P1, as a replay of its delivery with other code does."""
    with place.database.write() as connection:
        stored = connection.execute(text("SELECT versions FROM products WHERE external_id = 'P1'")).scalar_one()
        version = load({}, stored).versions["name"]
        correction = Write(Key(Product, "shop", "P1"), version, {"active": True, "name": "Tipi"}, corrects=True)
        rows = UnitOfWork(connection)
        rows.load([correction])
        rows.apply([correction], delivery_id=version.arrival)
        rows.save()


#: The subjects of a test's batch: news of a row, of a child, and a parent that loses its children.
ROW = [("product.updated", "P1", 5, {"name": "Lamp"})]
CHILD = [("variant.updated", "V1", 5, {"parent": "P1"})]
LOSS = [("product.deleted", "P1", 5, None)]

MEANWHILE = {
    "a row that was not there": (CHILD, by_another_worker("product.snapshot", "P2", 6, ["V1"])),
    "newer news of a child": (LOSS, by_another_worker("variant.updated", "V0", 6, {"name": "blue"})),
    "a parent's tombstone": (CHILD, by_another_worker("product.deleted", "P1", 6)),
    "an older tombstone of the parent": (CHILD, by_another_worker("product.deleted", "P1", 4)),
    "another child of a lost parent": (LOSS, by_another_worker("variant.updated", "V2", 4, {"parent": "P1"})),
    "a child that left its lost parent": (LOSS, by_another_worker("variant.updated", "V0", 4, {"parent": "P2"})),
    "a row removed by hand": (ROW, forget_row),
    "a row that a replay corrected": (ROW, correct_row),
    "a delivery that another worker holds now": (ROW, reclaim_one),
}


@pytest.mark.parametrize("what", MEANWHILE)
def test_an_effect_is_computed_anew_under_the_lock_after(what, place, tmp_path, open_place):
    story, act = MEANWHILE[what]
    before = [("product.updated", "P1", 1, {"name": "Tent"}), ("variant.updated", "V0", 1, {"parent": "P1"})]
    found = []
    for prepared in (True, False):
        folder = tmp_path / str(prepared)
        folder.mkdir()
        with open_place(folder) as place:
            place.tell(before)
            with closing(place.worker()) as worker:
                drain(worker)
            place.tell(story)
            place.meanwhile = [act]
            with place.at_work(prepared=prepared) as worker:
                assert worker.work() == 1
            assert place.computed == 2
            found.append(without_ids(place.everything()))
    assert found[0] == found[1]


def without_ids(everything: dict[str, list[dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    """Leave out the ids of deliveries, which are other ones in each file, and the versions, which hold them."""
    drawn = {"id", "delivery_id", "versions", "dedup_key", "body_id", "deliveries"}
    return {
        table: [{name: value for name, value in row.items() if name not in drawn} for row in rows]
        for table, rows in everything.items()
    }


def test_handlers_with_sessions_run_under_the_lock_only(place):
    place.tell([("product.updated", "P1", 1, {}), ("product.counted", "P2", 1, None)])
    with place.at_work() as worker:
        assert drain(worker) == 2
    assert place.computed == 1
    assert [row["name"] for row in place.all_of("products")] == [None, "one of 0"]


def test_acks_need_not_wait_while_an_effect_is_computed(place, monkeypatch):
    """A worker that computes under the lock would hold up the accept, which happens while it computes."""
    place.tell([("product.updated", "P1", 1, {"name": "Lamp"})])
    apply = Settlement._apply

    def apply_beside_an_accept(*arguments: Any) -> Any:
        with closing(Database(place.database.engine.url.render_as_string())) as beside:
            Place(place.source, Inbox(beside)).tell([("product.updated", "P2", 1, {"name": "Tent"})])
        return apply(*arguments)

    monkeypatch.setattr(Settlement, "_apply", apply_beside_an_accept)
    with place.at_work() as worker:
        assert worker.work() == 1
    assert len(place.all_of("deliveries")) == 2


# ── any story ─────────────────────────────────────────────────────────────────────────────────────────────────────

NAMES = st.sampled_from(["Lamp", "Tent", "Ball"])
PRODUCTS, VARIANTS = st.sampled_from(["P1", "P2"]), st.sampled_from(["V1", "V2", "V3"])
COLUMNS = st.fixed_dictionaries({}, optional={"name": NAMES, "price": st.sampled_from(["1.50", "2"])})
MEMBERS = st.dictionaries(st.sampled_from(["a", "b"]), st.integers(0, 2), min_size=1)


def event(event_type: str, entity: Any, data: Any) -> Any:
    # Few different times, so that there are ties.
    return st.tuples(st.just(event_type), entity, st.integers(0, 5), data)


#: The events by which workers meet: those about one entity are never settled by two workers at once.
FAMILY_EVENTS = st.one_of(
    event("product.deleted", PRODUCTS, st.none()),
    event("product.snapshot", PRODUCTS, st.lists(VARIANTS, unique=True)),
    event("variant.updated", VARIANTS, st.fixed_dictionaries({"parent": PRODUCTS}, optional={"name": NAMES})),
)
OTHER_EVENTS = st.one_of(
    event("product.updated", PRODUCTS, COLUMNS),
    event("product.patched", PRODUCTS, MEMBERS),
    event("variant.updated", VARIANTS, COLUMNS),
    event("variant.patched", VARIANTS, MEMBERS),
    event("variant.deleted", VARIANTS, st.none()),
    event("product.failing", PRODUCTS, st.none()),
)
EVENTS = st.one_of(FAMILY_EVENTS, OTHER_EVENTS)
SESSIONS = event("product.counted", PRODUCTS, st.none())


def let_another_worker_pass(place: Place) -> None:
    with closing(place.worker(batch_size=2)) as other:
        other.work()


def take_the_first(place: Place) -> None:
    """Take the first delivery in progress from its worker, as if its lease had ended."""
    first = "(SELECT min(id) FROM deliveries WHERE state = 'processing')"
    place.write(f"UPDATE deliveries SET claimed_by = :who WHERE id = {first}", who=ANOTHER)


def forget_a_variant(place: Place) -> None:
    place.write("DELETE FROM variants WHERE external_id = 'V1'")


def do_nothing(_place: Place) -> None: ...


#: The rows that are there in the beginning.
BEGINNING = [
    ("product.updated", "P1", 0, {"name": "Lamp"}),
    ("product.updated", "P2", 0, {"name": "Tent"}),
    ("variant.updated", "V1", 0, {"parent": "P1"}),
    ("variant.updated", "V2", 0, {"parent": "P2"}),
]

ACTIONS = st.sampled_from([let_another_worker_pass, do_nothing, take_the_first, forget_a_variant])


def test_rows_feed_and_outcomes_are_those_of_computing_under_the_lock_whatever_happens_meanwhile(open_place, tmp_path):
    beginning = tmp_path / "beginning.db"
    with open_place(tmp_path) as place, closing(place.worker()) as worker:
        place.tell(BEGINNING)
        drain(worker)
        copy_of(place, beginning)

    @examples(7)
    @given(
        story=st.lists(EVENTS, min_size=4, max_size=14),
        with_sql=st.lists(SESSIONS, max_size=1),
        actions=st.lists(st.one_of(st.just(let_another_worker_pass), ACTIONS), min_size=4, max_size=12),
        batch_size=st.sampled_from([1, 2, 4, 100]),
    )
    def holds(story, with_sql, actions, batch_size):
        with TemporaryDirectory() as folder:
            with open_place(Path(folder), beginning) as place:
                place.tell([*story, *with_sql])
                file = copy_of(place, Path(folder) / "told.db")
            found = [outcome(open_place, file, actions, batch_size, prepared=prepared) for prepared in (True, False)]
        assert found[0] == found[1]

    holds()


def copy_of(place: Place, file: Path) -> Path:
    with closing(sqlite3.connect(place.database.engine.url.database)) as connection:
        connection.execute("VACUUM INTO ?", [str(file)])
    return file


def outcome(open_place: Any, file: Path, actions: Sequence[Any], batch_size: int, *, prepared: bool) -> Any:
    """Settle all deliveries of the file in a copy of it, and return everything that was written."""
    with TemporaryDirectory() as own, open_place(Path(own), file) as place:
        place.batch_size, place.meanwhile = batch_size, list(actions)
        with place.at_work(prepared=prepared) as worker:
            drain(worker)
            place.inbox.reclaim(now=LATER, dead=[ANOTHER], max_attempts=10)
            drain(worker)
        return place.everything()
