"""Reconcile: a parent that the list lacks takes its children with it, as its delete would, unless they are listed."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from paging import PagedSource, listened_to, mirrored
from running import Runs, asked, new_reconciler, reconciled
from shopping import feed, tell_all
from systems import ON_BOTH, database_system  # noqa: F401

from handlers.catalog import Category, Group, Product, Variant
from receiver import ApiError, Listed, ListPage, Wanted
from receiver.reconcile.mark import Stage, new_mark
from receiver.reconcile.question import Asking
from receiver.reconcile.walk import Walk

EARLIER = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=2)


@pytest.fixture
def lamps(kit) -> PagedSource:
    """Make ten lamps, A0 to A9, of which A1 has the variants V0 to V5, and A2 the others up to V11."""
    source = PagedSource(size=100)
    listened_to(kit)
    source.hold(f"A{number}" for number in range(10))
    tell_all(kit, source.names, at=EARLIER)
    for variant, parent in variants_of_two().items():
        kit.send("shop", "variant.updated", id=variant, at=EARLIER, data={"parent": parent})
    kit.drain()
    return source


def variants_of_two() -> dict[str, str]:
    return {f"V{number}": "A1" if number < 6 else "A2" for number in range(12)}


def list_variants(shop, variants: dict[str, str]) -> None:
    """Let the shop list its variants on one page, besides its products."""

    @shop.pages(Variant)
    def read(api, start) -> ListPage:
        return ListPage([Listed(Variant, variant, {"parent": parent}) for variant, parent in variants.items()])


def active_variants(kit) -> list[str]:
    return sorted((row.external_id for row in kit.rows(Variant) if row.active), key=lambda name: int(name[1:]))


def run(kit, **options):
    return reconciled(kit, kit.source("shop"), **options)


OF_A2 = [f"V{number}" for number in range(6, 12)]


def as_one_page(shop, lamps) -> None:
    lamps.speak(shop, lookup=False)


def as_a_stream(shop, lamps) -> None:
    lamps.speak(shop)
    shop.listing(Product, override=True)(lambda api: iter([lamps.row(each) for each in lamps.names.items()]))


def as_pages_with_a_lookup(shop, lamps) -> None:
    lamps.size = 3
    lamps.speak(shop)


LISTS = pytest.mark.parametrize("speak", [as_one_page, as_a_stream, as_pages_with_a_lookup])


@ON_BOTH
@LISTS
def test_the_children_of_a_product_whose_delete_was_lost_go_with_it(kit, shop, lamps, speak):
    speak(shop, lamps)
    del lamps.names["A1"]
    assert run(kit).repairs == 7
    assert (mirrored(kit), active_variants(kit)) == (lamps.names, OF_A2)


@LISTS
def test_an_older_event_does_not_revive_a_child_of_a_missing_product(kit, shop, lamps, speak):
    speak(shop, lamps)
    del lamps.names["A1"]
    run(kit)
    for variant in ("V1", "NEW"):
        kit.send("shop", "variant.updated", id=variant, at=EARLIER + timedelta(minutes=1), data={"parent": "A1"})
    kit.drain()
    assert active_variants(kit) == OF_A2


@LISTS
def test_the_plan_foresees_the_children_that_go_with_a_missing_product(kit, shop, lamps, speak):
    speak(shop, lamps)
    del lamps.names["A1"]
    assert planned_and_done(kit) == ({"products": {"deactivate": 1}, "variants": {"deactivate": 6}}, {"repaired": 7})


def planned_and_done(kit) -> tuple[dict, dict]:
    """Plan a reconcile and run it. Returns the rows of the forecast and the tally of the run."""
    runs = Runs(kit)
    runs.feeder = new_reconciler(kit)
    request = asked("plan reconcile", source="shop", force=False)
    number = int(runs.verbs.plan(request, "reconcile", sources=["shop"], now=kit.now()).result["run"])
    list(runs.feeder.steps(number))
    forecast = runs.run(number)["forecast"]
    assert forecast["outcomes"]["repaired"] == sum(sum(rows.values()) for rows in forecast["rows"].values())
    runs.start(number)
    list(runs.feeder.steps(number))
    return forecast["rows"], runs.run(number)["tally"]


@pytest.mark.parametrize("parents_first", [True, False])
def test_children_that_go_with_their_parent_do_not_count_for_the_brake_of_their_table(kit, shop, lamps, parents_first):
    variants = variants_of_two()
    if parents_first:
        lamps.speak(shop, lookup=False)
    list_variants(shop, variants)
    if not parents_first:
        lamps.speak(shop, lookup=False)
    del lamps.names["A1"]
    for number in range(6):
        del variants[f"V{number}"]
    foreseen = run(kit, dry_run=True)
    report = run(kit)
    assert (report.braked, report.repairs) == ({}, 7)
    assert (foreseen.braked, foreseen.repairs) == ({}, 7)
    assert [change[:6] for change in foreseen.repaired] == [change[:6] for change in report.repaired]
    assert active_variants(kit) == OF_A2


@ON_BOTH
def test_the_plan_counts_a_child_that_the_list_lacks_and_that_goes_with_its_parent_once(kit, shop, lamps):
    variants = variants_of_two()
    lamps.speak(shop, lookup=False)
    list_variants(shop, variants)
    del lamps.names["A1"]
    for number in range(6):
        del variants[f"V{number}"]
    assert planned_and_done(kit) == ({"products": {"deactivate": 1}, "variants": {"deactivate": 6}}, {"repaired": 7})


@pytest.mark.parametrize("looks_up", [True, False])
def test_a_child_that_the_list_contains_stays_active_below_a_missing_parent(kit, shop, lamps, looks_up: bool):
    lamps.size = 3
    lamps.speak(shop, lookup=looks_up)
    list_variants(shop, variants_of_two())
    del lamps.names["A1"]
    foreseen = run(kit, dry_run=True)
    report = run(kit)
    assert [(each.operation, each.external_id) for each in report.repaired] == [("deactivate", "A1")]
    assert [each.external_id for each in foreseen.repaired] == ["A1"]
    assert active_variants(kit) == list(variants_of_two())
    before = feed(kit)
    assert (run(kit).repairs, feed(kit)) == (0, before), "the next reconcile agrees"


@ON_BOTH
def test_a_listed_child_comes_back_if_its_parent_was_deleted_by_a_webhook(kit, shop, lamps):
    lamps.speak(shop, lookup=False)
    list_variants(shop, variants_of_two())
    del lamps.names["A1"]
    kit.send("shop", "product.deleted", id="A1", at=EARLIER + timedelta(minutes=1))
    kit.drain()
    assert active_variants(kit) == OF_A2
    run(kit)
    assert active_variants(kit) == list(variants_of_two())


def test_the_children_of_a_product_found_gone_by_a_newer_answer_go_with_it_although_they_were_listed(kit, shop, lamps):
    """A delivery about A1 arrives while its page is read, and the lookup says that it is gone."""

    @shop.lookup(Product, Variant)
    def ask(api, wanted: Wanted) -> list[Listed]:
        return lamps.look_up(wanted.external_id)

    list_variants(shop, variants_of_two())
    lamps.speak(shop, lookup=False)
    lamps.names["A1"] = "Lantern"

    def delete(number: int) -> None:
        kit.send("shop", "product.updated", id="A1", at=EARLIER, data={"name": "late"})
        del lamps.names["A1"]

    lamps.after = delete
    run(kit)
    assert not kit.row(Product, "A1").active
    assert active_variants(kit) == OF_A2


@ON_BOTH
def test_a_mark_in_the_middle_of_a_table_is_continued_in_the_order_in_which_the_dialect_names_its_tables(kit, shop):
    """The dialect names groups before categories; by their names, the categories would come first."""
    listened_to(kit)

    @shop.on("any.updated")
    def upsert(event, mirror) -> None:
        mirror.upsert(Group if event.entity_id.startswith("G") else Category, event.entity_id, name="known")

    @shop.connect
    def connect(source) -> httpx.Client:
        return httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(200)), base_url="http://api.test")

    @shop.pages(Group, Category)
    def read(api, start) -> ListPage:
        return ListPage([Listed(Group, f"G{number}", {"name": "known"}) for number in range(10)])

    for name in (f"{letter}{number}" for letter in "GH" for number in range(10)):
        kit.send("shop", "any.updated", id=name, at=EARLIER)
    kit.drain()
    source = kit.source("shop")
    with closing(Asking(source, kit.now)) as asking:
        walk, mark = Walk(kit.database, source, asking, clock=kit.now), new_mark("shop", now=kit.now())
        while mark.stage is not Stage.MISSING:
            mark = walk.step(mark).mark
        mark.part, mark.after = 0, "G7"
        while not mark.is_done:
            mark = walk.step(mark).mark
    assert (mark.braked, [row.active for row in kit.rows(Category)]) == ({"categories": 10}, [True] * 10)


@ON_BOTH
@pytest.mark.parametrize("looks_up", [True, False])
def test_a_step_deactivates_few_missing_parents_if_they_have_many_children(kit, shop, lamps, monkeypatch, looks_up):
    """A1 and A2 have six variants each, so that a step takes one of them, and not the other."""
    monkeypatch.setattr("receiver.reconcile.walk.REPAIRED_AT_ONCE", 10)
    lamps.size = 4
    lamps.speak(shop, lookup=looks_up)
    for name in ("A1", "A2", "A3"):
        del lamps.names[name]
    source = kit.source("shop")
    sizes: list[int] = []
    with closing(Asking(source, kit.now)) as asking:
        walk, mark = Walk(kit.database, source, asking, clock=kit.now), new_mark("shop", now=kit.now(), force=True)
        while not mark.is_done:
            mark, changes = walk.step(mark)
            sizes.append(len(changes))
    assert [size for size in sizes if size] == [7, 8]
    assert (mirrored(kit), active_variants(kit)) == (lamps.names, [])


def test_each_row_to_be_looked_up_again_is_looked_up_once_whatever_its_table(kit, shop, lamps):
    asked: list[str] = []

    @shop.lookup(Product, Variant)
    def ask(api, wanted: Wanted) -> list[Listed]:
        asked.append(wanted.external_id)
        return []

    lamps.speak(shop, lookup=False)
    source = kit.source("shop")
    with closing(Asking(source, kit.now)) as asking:
        walk, mark = Walk(kit.database, source, asking, clock=kit.now), new_mark("shop", now=kit.now())
        mark.again = [["products", "A1"], ["variants", "V7"], ["products", "A2"], ["products", "A3"]]
        while mark.again:
            mark = walk.step(mark).mark
    assert asked == ["A1", "V7", "A2", "A3"]
    assert (active_variants(kit), set(mirrored(kit))) == ([], lamps.names.keys() - {"A1", "A2", "A3"})


@pytest.mark.parametrize("answers", ["with its variants", "without them", "not"])
def test_the_variants_of_a_product_that_moved_unnoticed_stay_active(kit, shop, lamps, answers: str):
    """A3 moved to a page that was read before, with its variant V12, and is asked for before it counts as missing."""
    kit.send("shop", "variant.updated", id="V12", at=EARLIER, data={"parent": "A3"})
    kit.drain()
    variants = {**variants_of_two(), "V12": "A3"}

    def family(each: tuple[str, str]) -> list[Listed]:
        own = [Listed(Variant, name, {"parent": parent}) for name, parent in variants.items() if parent == each[0]]
        return [lamps.row(each), *own]

    lamps.size = 3
    lamps.speak(shop)
    shop.listing_of = shop.lookup_of = None

    @shop.pages(Product, Variant)
    def read(api, start) -> ListPage:
        found, _, following = lamps.page(start or 0)
        return ListPage([row for each in found if each[0] != "A3" for row in family(each)], following)

    @shop.lookup(Product, Variant) if answers == "without them" else shop.lookup(Product)
    def ask(api, wanted: Wanted) -> list[Listed]:
        if answers == "not":
            raise ApiError("the API does not answer about this row")
        found = [row for each in lamps.names.items() for row in family(each)]
        is_wanted = {wanted.external_id, *(() if answers == "without them" else ("V12",))}
        return [row for row in found if row.external_id in is_wanted]

    report = run(kit)
    assert (report.repairs, report.unanswered) == (0, int(answers == "not"))
    assert (mirrored(kit), active_variants(kit)) == (lamps.names, list(variants))


def test_a_part_of_the_list_with_rows_of_earlier_answers_is_read_once(kit, shop, lamps):
    """The answer about a product has its variants, which are a part of the list, too. One of them is new."""
    variants, parts = {**variants_of_two(), "V12": "A3"}, list[str]()
    lamps.speak(shop)
    shop.listing_of = shop.lookup_of = None

    @shop.pages(Product, names_only=True)
    def read(api, start) -> ListPage:
        parts.append("products")
        return ListPage([lamps.row(each) for each in lamps.names.items()], total=10)

    @shop.pages(Variant)
    def read_variants(api, start) -> ListPage:
        parts.append("variants")
        return ListPage([Listed(Variant, name, {"parent": of}) for name, of in variants.items()], total=13)

    @shop.lookup(Product)
    def ask(api, wanted: Wanted) -> list[Listed]:
        own = [Listed(Variant, name, {"parent": of}) for name, of in variants.items() if of == wanted.external_id]
        return [*lamps.look_up(wanted.external_id), *own]

    assert planned_and_done(kit) == ({"variants": {"insert": 1}}, {"repaired": 1})
    assert parts == ["products", "variants"] * 2
    assert active_variants(kit) == list(variants)
