"""Reconcile: the source's own list repairs what lost webhooks left, and never overrules newer webhooks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from email.utils import format_datetime
from typing import Any

import httpx
import pytest
from running import reconciled
from shopping import drain, named, tell_all
from systems import ON_BOTH, database_system  # noqa: F401

from handlers.catalog import Product, Variant
from receiver import ApiError, Event, Listed, Mirror, SourceSettings
from receiver.errors import ConfigurationError
from receiver.mirror.changes import after
from receiver.reconcile import Report, date_back

#: Shortly before the tests run, so that their news is clearly before or after a walk.
EARLIER = datetime.now(UTC) - timedelta(hours=1)


class SourceList:
    """The source's own list, filled by the test; `breaks` ends the walk in the middle."""

    def __init__(self) -> None:
        self.rows: list[Listed] = []
        self.breaks: Exception | None = None

    def __call__(self, api: httpx.Client):
        yield from self.rows
        if self.breaks:
            raise self.breaks

    def hold(self, *external_ids: str, name: str = "Lamp", active: bool = True) -> None:
        self.rows = [Listed(Product, external_id, {"name": name}, active) for external_id in external_ids]


@pytest.fixture
def listed(shop, kit) -> SourceList:
    """Give the source's list. The mirror begins with ten lamps, A0 to A9, from webhooks an hour ago."""
    rows = SourceList()

    @shop.connect
    def connect(source: SourceSettings) -> httpx.Client:
        return httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(200)))

    @shop.listing(Product)
    def walk(api: httpx.Client):
        return rows(api)

    kit.source("shop", api_url="http://api.test", secrets=["TestSecretOf32CharactersForTests"])
    tell_all(kit, (f"A{number}" for number in range(10)), at=EARLIER)
    rows.hold(*(f"A{number}" for number in range(10)))
    return rows


@pytest.fixture
def run(kit, listed):
    def run(**options) -> Report:
        return reconciled(kit, kit.source("shop"), **options)

    return run


def rows_at_once(monkeypatch, number: int) -> None:
    monkeypatch.setattr("receiver.reconcile.walk.REPAIRED_AT_ONCE", number)
    monkeypatch.setattr("receiver.reconcile.listing.LISTED_AT_ONCE", number)


def operations(report: Report) -> list[tuple[str, str]]:
    return [(change.operation, change.external_id) for change in report.repaired]


def feed(kit) -> int:
    return len(after(kit.database, 0, limit=1_000))


def active(kit) -> list[str]:
    return [row.external_id for row in kit.rows(Product) if row.active]


def test_a_right_mirror_is_not_changed(kit, run):
    before = feed(kit)
    report = run()
    assert (report.listed, operations(report), report.newer, report.braked) == (10, [], 0, {})
    assert feed(kit) == before


@ON_BOTH
def test_different_and_missing_rows_are_repaired_with_changes_in_the_feed(kit, listed, run):
    listed.rows[3] = Listed(Product, "A3", {"name": "Lantern"})
    listed.rows.append(Listed(Product, "NEW", {"name": "Torch"}))
    report = run()
    assert operations(report) == [("update", "A3"), ("insert", "NEW")]
    assert (kit.row(Product, "A3").name, kit.row(Product, "NEW").name) == ("Lantern", "Torch")
    newest = after(kit.database, 0, limit=1_000)[-2:]
    assert [(change["external_id"], change["delivery_id"]) for change in newest] == [("A3", None), ("NEW", None)]


@ON_BOTH
def test_rows_that_the_complete_list_lacks_are_deactivated(kit, listed, run):
    listed.hold(*(f"A{number}" for number in range(1, 10)))
    assert operations(run()) == [("deactivate", "A0")]
    assert kit.row(Product, "A0").deactivated_at is not None


def test_a_row_listed_as_switched_off_is_inactive(kit, listed, run):
    listed.rows[0] = Listed(Product, "A0", {"name": "Lamp"}, active=False)
    assert operations(run()) == [("deactivate", "A0")]


def test_a_tombstone_whose_revival_was_never_announced_is_repaired(kit, listed, run):
    kit.send("shop", "product.deleted", id="A0", at=EARLIER + timedelta(minutes=1))
    kit.drain()
    assert operations(run()) == [("reactivate", "A0")]
    assert kit.row(Product, "A0").active


def test_after_a_deactivation_only_newer_news_revives(kit, listed, run):
    listed.hold(*(f"A{number}" for number in range(1, 10)))
    run()
    kit.send("shop", "product.updated", id="A0", at=EARLIER + timedelta(minutes=1), data=named("late"))
    kit.drain()
    assert not kit.row(Product, "A0").active
    kit.send("shop", "product.updated", id="A0", at=kit.now(), data=named("back"))
    kit.drain()
    assert kit.row(Product, "A0").active


@ON_BOTH
def test_a_second_reconcile_repairs_nothing(kit, listed, run):
    listed.hold(*(f"A{number}" for number in range(2, 10)), "NEW", name="Lantern")
    assert len(run().repaired) == 11
    before = feed(kit)
    assert (run().repaired, feed(kit)) == ([], before)


@ON_BOTH
def test_a_dry_run_reports_the_differences_and_changes_nothing(kit, listed, run):
    listed.hold(*(f"A{number}" for number in range(1, 10)), name="Lantern")
    before = feed(kit)
    report = run(dry_run=True)
    assert [operation for operation, _ in operations(report)] == ["update"] * 9 + ["deactivate"]
    assert report.lines()[0] == 'update products A1: name "Lamp" -> "Lantern"'
    assert report.lines()[-1] == "shop: 9 rows listed, 10 would be repaired, 0 changed since."
    assert (feed(kit), len(active(kit)), kit.row(Product, "A1").name) == (before, 10, "Lamp")


# ── the brake ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_no_text_of_the_list_can_color_the_report_or_forge_a_line(listed, run):
    listed.hold("A\x1b[31m\n0 rows\u202e", name="Lantern\x9b\x7f")
    lines = run(dry_run=True, force=True).lines()
    assert all(line.isprintable() for line in lines)
    assert any("A\\x1b[31m\\n0 rows\\u202e" in line and "Lantern\\x9b\\x7f" in line for line in lines)


@ON_BOTH
def test_a_value_that_its_column_cannot_hold_is_reported_in_one_line_with_its_row(kit, listed, run):
    listed.rows = [Listed(Product, "A3", {"price": 1.5})]
    (told,) = (
        line for line in run().lines() if line.startswith("Rows left alone because a value cannot be stored: 1.")
    )
    assert "The list gives Product 'A3' a value that cannot be stored: `price` takes a Decimal" in told
    assert "\n" not in told


@pytest.mark.parametrize("external_id", ["", 513])
def test_an_id_that_is_no_text_or_empty_is_reported(kit, listed, run, external_id):
    listed.rows = [Listed(Product, external_id, {})]
    with pytest.raises(ApiError, match="has to give an id as text of 1 to 512 characters"):
        run()


@ON_BOTH
def test_a_row_with_an_id_that_no_index_accepts_is_left_alone_and_reported(kit, listed, run):
    listed.rows = [Listed(Product, "x" * 513, {"name": "Tent"}), Listed(Product, "A3", {"name": "Lamp"})]
    report = run()
    assert (report.listed, report.unstorable, kit.row(Product, "A3").name) == (2, 1, "Lamp")
    assert "which is longer than 512 characters: let the dialect shorten it" in report.unstorable_reason


@pytest.mark.parametrize(
    "date", ["Thu, 01 Jan 1970 00:00:00 GMT", "Fri, 31 Dec 9999 23:59:59 -0100", "Friday", "", "\x00"]
)
def test_an_invalid_date_of_the_api_is_replaced_by_our_own_clock(kit, shop, listed, date):
    def connect(source: SourceSettings) -> httpx.Client:
        answer = httpx.Response(200, headers=[(b"date", date.encode())])
        return httpx.Client(transport=httpx.MockTransport(lambda _: answer))

    shop.connect(connect, override=True)

    @shop.listing(Product, override=True)
    def walk(api: httpx.Client):
        api.get("http://api.test/")
        return listed(api)

    began = kit.now()
    report = reconciled(kit, kit.source("shop"), clock=lambda: began)
    assert report.as_of == began


def test_a_list_that_lacks_up_to_a_fifth_deactivates_its_missing_rows(kit, listed, run):
    listed.hold(*(f"A{number}" for number in range(2, 10)))
    assert run().braked == {}
    assert len(active(kit)) == 8


def test_a_list_that_lacks_more_deactivates_nothing_without_force(kit, listed, run):
    listed.hold(*(f"A{number}" for number in range(3, 10)), "NEW")
    report = run()
    assert (report.braked, operations(report)) == ({"products": 3}, [("insert", "NEW")])
    assert report.lines()[-1] == (
        "3 active rows of products are missing from the list, more than 20%: nothing of products was deactivated. "
        "If the list is right, run this again with --force."
    )
    assert len(active(kit)) == 11
    assert operations(run(force=True)) == [("deactivate", "A0"), ("deactivate", "A1"), ("deactivate", "A2")]
    assert len(active(kit)) == 8


@ON_BOTH
def test_an_empty_list_does_not_empty_the_mirror(kit, listed, run):
    listed.hold()
    assert run().braked == {"products": 10}
    assert len(active(kit)) == 10


# ── news during the walk ──────────────────────────────────────────────────────────────────────────────────────


def test_rows_that_changed_since_the_walk_began_are_not_changed(kit, listed, run):
    def walk_while_webhooks_come(api):
        yield Listed(Product, "A0", {"name": "as listed"})
        later = kit.now() + timedelta(seconds=1)
        kit.send("shop", "product.updated", id="A0", at=later, data=named("as announced"))
        kit.send("shop", "product.updated", id="FRESH", at=later, data=named("as announced"))
        kit.send("shop", "product.deleted", id="A1", at=later)
        kit.drain()
        for number in range(1, 10):
            yield Listed(Product, f"A{number}", {"name": "Lamp"})

    kit.source("shop").dialect.listing(Product, override=True)(walk_while_webhooks_come)
    report = run()
    assert (operations(report), report.newer) == ([], 3)
    assert kit.row(Product, "A0").name == kit.row(Product, "FRESH").name == "as announced"
    assert not kit.row(Product, "A1").active


def test_a_reconcile_within_the_second_of_another_reports_what_it_left_alone(kit, listed, run):
    dated = [datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=5)]
    answer = lambda _: httpx.Response(200, headers={"Date": format_datetime(dated[0], usegmt=True)})  # noqa: E731
    dialect = kit.source("shop").dialect
    dialect.connect(
        lambda source: httpx.Client(base_url=source.api_url, transport=httpx.MockTransport(answer)), override=True
    )
    dialect.listing(Product, override=True)(lambda api: (api.get("/"), listed(api))[1])
    listed.rows[0] = Listed(Product, "A0", {"name": "Lantern"})
    assert (operations(run()), kit.row(Product, "A0").name) == ([("update", "A0")], "Lantern")

    listed.rows = [Listed(Product, "A0", {"name": "Torch"}), *listed.rows[1:]]
    foreseen, second = run(dry_run=True), run()
    assert (foreseen.tied, second.tied, second.repairs, second.newer) == (1, 1, 0, 0)
    assert "other news of the same time: 1. Run this again" in "\n".join(second.lines())
    assert kit.row(Product, "A0").name == "Lantern"

    listed.rows = listed.rows[1:]
    assert (run().tied, kit.row(Product, "A0").active) == (1, True), "absent now, and present a moment ago"

    dated[0] += timedelta(seconds=1)
    third = run()
    assert (third.tied, operations(third)) == (0, [("deactivate", "A0")])


@ON_BOTH
@pytest.mark.parametrize(
    ("there", "repaired"), [(True, [("update", "A0")]), (Decimal("1.00"), [])], ids=["a boolean", "the same number"]
)
def test_a_boolean_for_a_number_is_repaired_and_other_digits_are_left(kit, listed, run, there, repaired):
    others = listed.rows[1:]
    listed.rows = [Listed(Product, "A0", {"data": {"stock": 1}}), *others]
    assert operations(run()) == [("update", "A0")]
    listed.rows = [Listed(Product, "A0", {"data": {"stock": there}}), *others]
    assert operations(run()) == repaired
    assert repr(kit.row(Product, "A0").data) == repr({"stock": there if repaired else 1})


@ON_BOTH
def test_news_that_arrives_during_the_walk_wins_over_the_list(kit, listed, worker, run):
    kit.send("shop", "product.deleted", id="A0", at=kit.now() + timedelta(seconds=1))
    run()
    drain(worker)
    assert not kit.row(Product, "A0").active


# ── news from the future ──────────────────────────────────────────────────────────────────────────────────────


FUTURE = datetime(2099, 1, 1, tzinfo=UTC)

#: The date that many programs write for "no end".
NO_END = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)


@ON_BOTH
def test_a_row_with_news_from_the_future_becomes_as_listed_and_accepts_news_again(kit, run):
    kit.send("shop", "product.updated", id="A0", at=FUTURE, data=named("from the future"))
    kit.drain()
    report = run()
    assert (operations(report), report.misdated) == ([("update", "A0")], 1)
    assert report.lines()[-1] == "Rows with news from the future: 1, dated back to its arrival."
    assert (kit.row(Product, "A0").name, kit.row(Product, "A0").changed_at) == ("Lamp", report.as_of)
    tell_of_today(kit)
    assert kit.row(Product, "A0").name == "of today"
    assert run().misdated == 0


def tell_of_today(kit) -> None:
    kit.send("shop", "product.updated", id="A0", at=kit.now(), data=named("of today"))
    kit.drain()


def test_a_right_row_dated_in_the_future_accepts_news_again(kit, run):
    kit.send("shop", "product.updated", id="A0", at=FUTURE, data=named())
    kit.drain()
    assert (operations(run()), run().misdated) == ([], 0)
    tell_of_today(kit)
    assert kit.row(Product, "A0").name == "of today"


def test_only_the_columns_from_the_future_are_dated_back(shop, kit, run):
    """An honest change of the same row during the walk is newer than the list."""

    @shop.on("product.numbered")
    def number(event: Event[Any], mirror: Mirror) -> None:
        mirror.upsert(Product, event.entity_id, sku=event.data["sku"])

    def walk_while_webhooks_come(api):
        yield from (Listed(Product, f"A{number}", {"name": "Lamp", "sku": "listed"}) for number in range(10))
        kit.send("shop", "product.updated", id="A0", at=kit.now() + timedelta(seconds=1), data=named("as announced"))
        kit.drain()

    kit.source("shop").dialect.listing(Product, override=True)(walk_while_webhooks_come)
    kit.send("shop", "product.numbered", id="A0", at=FUTURE, data={"sku": "from the future"})
    kit.drain()
    report = run()
    assert (report.misdated, report.newer, kit.row(Product, "A0").name) == (1, 1, "as announced")
    kit.send("shop", "product.numbered", id="A0", at=kit.now() + timedelta(seconds=2), data={"sku": "of today"})
    kit.drain()
    assert kit.row(Product, "A0").sku == "of today"


#: The events of a product with a variant, deleted by an event from the future.
DELETED_WITH_ITS_VARIANT = (
    ("variant.updated", "OF-A0", EARLIER, {"parent": "A0"}),
    ("product.deleted", "A0", FUTURE, None),
)


@pytest.fixture
def deleted(kit, listed) -> Listed:
    """Give the variant of a product that was deleted in the future, as the source lists it."""
    for event_type, identity, at, data in DELETED_WITH_ITS_VARIANT:
        kit.send("shop", event_type, id=identity, at=at, data=data)
    kit.drain()
    return Listed(Variant, "OF-A0", {"parent": "A0"})


@ON_BOTH
@pytest.mark.parametrize("at_once", [1, 200], ids=["in transactions of one row", "in one transaction"])
@pytest.mark.parametrize("parent_first", [True, False])
def test_a_delete_from_the_future_is_undone_with_its_children(
    kit, listed, deleted, run, monkeypatch, parent_first: bool, at_once: int
):
    rows_at_once(monkeypatch, at_once)
    listed.rows = [*listed.rows, deleted] if parent_first else [deleted, *listed.rows]
    announced = run(dry_run=True)
    report = run()
    assert (operations(announced), announced.misdated) == (operations(report), report.misdated)
    assert (sorted(operations(report)), report.misdated) == ([("reactivate", "A0"), ("reactivate", "OF-A0")], 1)
    assert kit.row(Product, "A0").active
    assert kit.row(Variant, "OF-A0").active
    assert run().repaired == []


@ON_BOTH
def test_a_variant_missing_in_the_list_is_dated_back_with_its_product(kit, deleted, run):
    before = datetime.now(UTC)
    report = run()
    variant = kit.row(Variant, "OF-A0")
    assert EARLIER < variant.changed_at < min(before, report.as_of), "as of the arrival of the delete"
    assert (variant.active, variant.deactivated_at) == (False, variant.changed_at)


def test_rows_hidden_by_a_delete_from_the_future_come_back_with_their_newer_news(kit, deleted, run):
    run()
    kit.send("shop", "variant.updated", id="OF-A0", at=kit.now(), data={"parent": "A0"})
    kit.drain()
    assert kit.row(Variant, "OF-A0").active


@ON_BOTH
def test_a_tombstone_from_the_future_that_the_list_lacks_accepts_news_again(kit, listed, deleted, run):
    listed.hold(*(f"A{number}" for number in range(1, 10)))
    assert (operations(run()), kit.row(Product, "A0").active) == ([], False)
    tell_of_today(kit)
    assert kit.row(Product, "A0").active


def test_a_row_with_news_from_the_future_that_the_list_lacks_is_deactivated(kit, listed, run):
    kit.send("shop", "product.updated", id="A0", at=FUTURE, data=named())
    kit.drain()
    listed.hold(*(f"A{number}" for number in range(1, 10)))
    assert operations(run()) == [("deactivate", "A0")]


@ON_BOTH
@pytest.mark.parametrize("at_once", [1, 200], ids=["in transactions of one row", "in one transaction"])
def test_dating_back_a_family_announces_no_invented_changes(kit, run, monkeypatch, at_once: int):
    rows_at_once(monkeypatch, at_once)
    for event_type, identity, at, data in (
        ("variant.updated", "OF-A0", FUTURE, {"parent": "A0"}),
        ("product.deleted", "A0", FUTURE + timedelta(hours=1), None),
    ):
        kit.send("shop", event_type, id=identity, at=at, data=data)
    kit.drain()
    before = feed(kit)
    report = date_back(kit.database, kit.source("shop"))
    assert (operations(report), report.misdated, feed(kit)) == ([], 2, before)
    assert not kit.row(Variant, "OF-A0").active


@ON_BOTH
def test_a_range_tombstone_from_the_future_is_dated_back_although_its_row_is_honest(shop, kit, run):
    @shop.on("product.emptied")
    def empty(event: Event[Any], mirror: Mirror) -> None:
        mirror.upsert(Product, event.entity_id, at=EARLIER + timedelta(minutes=1))
        mirror.keep_only(Variant, [], parent=event.entity_id)

    kit.send("shop", "variant.updated", id="OF-A0", at=EARLIER, data={"parent": "A0"})
    kit.send("shop", "product.emptied", id="A0", at=FUTURE)
    kit.drain()
    assert date_back(kit.database, kit.source("shop")).misdated == 1
    kit.send("shop", "variant.updated", id="OF-A0", at=kit.now(), data={"parent": "A0"})
    kit.drain()
    assert kit.row(Variant, "OF-A0").active
    assert date_back(kit.database, kit.source("shop")).misdated == 0


def test_repairs_written_by_our_own_clock_ahead_are_dated_back(kit, listed, run):
    listed.hold(*(f"A{number}" for number in range(10)), name="Lantern")
    reconciled(kit, kit.source("shop"), clock=lambda: kit.now() + timedelta(days=400))
    report = run()
    assert (report.misdated, kit.row(Product, "A0").changed_at < report.as_of) == (10, True)
    tell_of_today(kit)
    assert kit.row(Product, "A0").name == "of today"


def test_a_dry_run_counts_the_rows_that_would_come_back_as_the_run_does(kit, listed, deleted, run, shop):
    """A clock minutes ahead dated the variant, while the delete from the future hid it."""
    kit.source("shop").dialect.listing(Product, Variant, override=True)(lambda api: listed(api))
    kit.send("shop", "variant.updated", id="OF-A0", at=kit.now() + timedelta(minutes=5), data={"parent": "A0"})
    kit.drain()
    assert not kit.row(Variant, "OF-A0").active
    announced, report = run(dry_run=True), run()
    assert (operations(announced), announced.braked) == (operations(report), report.braked)
    assert (("reactivate", "OF-A0") in operations(report), report.braked) == (True, {"variants": 1})


@ON_BOTH
@pytest.mark.parametrize("future", [FUTURE, NO_END], ids=["2099", "9999"])
def test_misdated_news_can_be_dated_back_without_a_list(kit, future: datetime):
    """Later deliveries may be replayed, because they are newer than the arrival of the event from the future."""
    kit.send("shop", "product.updated", id="A1", at=future, data=named("from the future"))
    since = kit.send("shop", "product.updated", id="A1", at=kit.now() + timedelta(seconds=1), data=named("of today"))
    kit.drain()
    announced = date_back(kit.database, kit.source("shop"), dry_run=True)
    assert announced.lines() == ["Rows with news from the future: 1, would be dated back to its arrival."]
    assert (kit.row(Product, "A1").changed_at, kit.delivery(since)["outcome"]) == (future, "stale")
    assert date_back(kit.database, kit.source("shop")).misdated == 1
    assert kit.row(Product, "A1").name == "from the future"
    kit.inbox.replay([int(since.delivery)], now=kit.now())
    kit.drain()
    assert kit.row(Product, "A1").name == "of today"
    assert date_back(kit.database, kit.source("shop")).misdated == 0


def test_rows_from_the_future_accept_news_again_even_if_the_brake_holds(kit, listed, run):
    kit.send("shop", "product.updated", id="A0", at=FUTURE, data=named())
    kit.drain()
    listed.hold()
    assert (run().braked, run().misdated) == ({"products": 10}, 0)
    tell_of_today(kit)
    assert kit.row(Product, "A0").name == "of today"


def test_rows_of_a_table_that_is_not_listed_accept_news_again(kit, run):
    for at, parent in ((FUTURE, "A1"), (None, "A2")):
        if at is None:
            assert run().misdated == 1
        kit.send("shop", "variant.updated", id="V", at=at or kit.now(), data={"parent": parent})
        kit.drain()
    assert kit.row(Variant, "V").parent == "A2"


def test_a_dry_run_reports_news_from_the_future_and_does_not_change_it(kit, run):
    kit.send("shop", "product.updated", id="A0", at=FUTURE, data=named("from the future"))
    kit.drain()
    assert (operations(run(dry_run=True)), run(dry_run=True).misdated) == ([("update", "A0")], 1)
    assert kit.row(Product, "A0").name == "from the future"


@pytest.mark.parametrize(("hours", "misdated"), [(23, 0), (25, 1)])
def test_a_clock_hours_ahead_is_trusted_and_one_days_ahead_is_not(kit, run, hours: int, misdated: int):
    kit.send("shop", "product.updated", id="A0", at=kit.now() + timedelta(hours=hours), data=named("of a fast clock"))
    kit.drain()
    report = run()
    assert (len(report.repaired), report.newer, report.misdated) == (misdated, 1 - misdated, misdated)


# ── walks that fail ───────────────────────────────────────────────────────────────────────────────────────────


def test_a_walk_that_fails_changes_nothing(kit, listed, run):
    listed.hold("A0", "NEW", name="Lantern")
    listed.breaks = httpx.ReadError("connection reset")
    before = feed(kit)
    with pytest.raises(ApiError, match=r"broke off after 2 rows .*so nothing was deactivated. Check `api_url`"):
        run(force=True)
    assert (feed(kit), len(active(kit)), kit.row(Product, "A0").name) == (before, 10, "Lamp")


def test_a_walk_whose_request_cannot_be_sent_does_not_quote_its_headers(listed, run):
    listed.breaks = httpx.LocalProtocolError("Illegal header value b'Bearer hush '")
    with pytest.raises(ApiError, match=r"\(LocalProtocolError\), so nothing was deactivated"):
        run()


def test_a_list_with_an_unknown_column_is_refused_by_name(listed, run):
    listed.rows = [Listed(Product, "A0", {"nmae": "Lamp"})]
    with pytest.raises(ApiError, match="gives Product a column `nmae`, which it does not have"):
        run()


@pytest.mark.parametrize("active", [1, 0, None, "false"])
def test_a_list_that_says_neither_true_nor_false_about_a_row_is_refused_by_name(kit, listed, run, active):
    listed.rows = [Listed(Product, "A0", {"name": "Lantern"}, active)]
    with pytest.raises(ApiError, match=f"gives Product 'A0' `active` = {active!r}: the dialect has to give True or"):
        run()
    kit.send("shop", "product.updated", id="A0", data={"name": "Lampion"})
    kit.drain()
    assert (kit.row(Product, "A0").name, kit.row(Product, "A0").active) == ("Lampion", True)


def test_a_source_without_an_api_has_no_list(kit, listed, run):
    kit.source("shop", api_url=None)
    with pytest.raises(ConfigurationError, match="has no `api_url`: set it"):
        run()


def test_a_dialect_without_a_list_cannot_be_reconciled(kit):
    with pytest.raises(ConfigurationError, match="The dialect shop has no list of its source"):
        reconciled(kit, kit.source("shop"))


@ON_BOTH
def test_rows_of_another_source_are_not_changed(kit, listed, run):
    kit.source("other", dialect="shop")
    kit.send("other", "product.updated", id="THEIRS", at=EARLIER, data=named())
    kit.drain()
    assert operations(run()) == []
    assert kit.row(Product, "THEIRS").active
