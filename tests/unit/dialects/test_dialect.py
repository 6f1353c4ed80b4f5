"""Wiring: the right function is found, and a mistake is refused at start with advice."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import AwareDatetime, BaseModel

from examples import examples
from handlers.catalog import Product, Variant
from receiver import Dialect, Envelope, Event, HmacSha256, ListPage, Mirror, SourceSettings, Unreadable, Wanted
from receiver.codec import decode, encode
from receiver.errors import ConfigurationError, WiringError

NOON = datetime(2026, 3, 8, 12, tzinfo=UTC)


class Body(BaseModel):
    type: str
    id: str
    timestamp: AwareDatetime
    data: Any = None


class Data(BaseModel):
    name: str
    price: Decimal


def read(body: Body) -> Envelope:
    return Envelope(event_type=body.type, entity=("product", body.id), occurred_at=body.timestamp, data=body.data)


def handle(event: Event[Data], mirror: Mirror) -> None:
    mirror.upsert(Product, event.entity_id, name=event.data.name)


def fetch(event, api):
    return None


@pytest.fixture
def shop():
    dialect = Dialect("shop", verify=HmacSha256(header="X-Webhook-Signature"))
    dialect.envelope(read)
    return dialect


def another(event: Event[Any], mirror: Mirror) -> None:
    pass


# ── handlers ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_handler_is_found_by_its_event_type(shop):
    shop.on("product.created", "product.updated")(handle)
    assert [shop.handler_for(f"product.{verb}") is None for verb in ("created", "updated", "deleted")] == [
        False,
        False,
        True,
    ]


def test_registering_leaves_the_function_as_it_was(shop):
    assert shop.on("product.*")(handle) is handle


def test_the_most_specific_handler_wins_whatever_the_order(shop):
    for pattern in ("*", "product.updated", "product.*"):
        shop.on(pattern)({"*": another, "product.*": another, "product.updated": handle}[pattern])
    assert shop.handler_for("product.updated").function is handle
    assert shop.handler_for("product.created").pattern.text == "product.*"
    assert shop.handler_for("order.created").pattern.text == "*"


def test_a_handler_registered_after_a_lookup_of_its_event_type_is_found(shop):
    assert shop.handler_for("product.updated") is None
    shop.on("product.updated")(handle)
    assert shop.handler_for("product.updated").function is handle


def test_two_handlers_for_one_event_type_are_refused_with_both_names(shop):
    shop.on("product.updated")(handle)
    with pytest.raises(WiringError, match=r"another \(product\.updated\) and .*handle \(product\.updated\) would both"):
        shop.on("product.updated")(another)


def test_two_patterns_that_can_match_the_same_event_type_are_refused(shop):
    shop.on("ab*")(handle)
    with pytest.raises(WiringError, match="neither is more specific: remove one, or say override=True"):
        shop.on("*ab")(another)


def test_an_override_replaces_the_handler_of_the_same_pattern(shop):
    shop.on("product.updated")(handle)
    shop.on("product.updated", override=True)(another)
    assert shop.handler_for("product.updated").function is another
    assert len(shop.handlers) == 1


def test_an_override_does_not_excuse_an_ambiguous_pair(shop):
    shop.on("ab*")(handle)
    with pytest.raises(WiringError, match="neither is more specific"):
        shop.on("*ab", override=True)(another)


def test_a_refused_handler_changes_nothing(shop):
    shop.on("product.updated")(handle)
    with pytest.raises(WiringError):
        shop.on("product.updated")(another)
    assert shop.handler_for("product.updated").function is handle


def test_an_async_handler_is_refused_with_the_advice_to_hydrate(shop):
    async def wait(event, mirror):
        pass

    with pytest.raises(WiringError, match=r"wait is async, and a handler must be a plain `def`: move .*@shop\.hydrate"):
        shop.on("product.updated")(wait)


@pytest.mark.parametrize("register", ["on", "hydrate"])
def test_a_handler_with_a_yield_is_refused_because_a_call_would_run_nothing(shop, register):
    def generate(event, mirror):
        yield

    with pytest.raises(WiringError, match=r"generate has a `yield`, .* none of its code: remove the `yield`\."):
        getattr(shop, register)("product.updated")(generate)


def test_a_handler_that_is_an_object_is_refused_with_the_advice_to_write_a_function(shop):
    class Callable:
        def __call__(self, event, mirror):
            pass

    with pytest.raises(WiringError, match="Callable is neither a function nor a method: register a function"):
        shop.on("product.updated")(Callable())


@pytest.mark.parametrize("register", ["envelope", "connect", "compose"])
def test_no_function_of_a_dialect_may_be_async(register):
    async def wait(body):
        pass

    with pytest.raises(WiringError, match="wait is async"):
        getattr(Dialect("new", verify=HmacSha256(header="X")), register)(wait)


@pytest.mark.parametrize("register", ["connect", "challenge"])
def test_an_object_whose_call_is_async_is_refused_too(register):
    class Waiting:
        async def __call__(self, source):
            pass

    with pytest.raises(WiringError, match="Waiting is async"):
        getattr(Dialect("new", verify=HmacSha256(header="X")), register)(Waiting())


@pytest.mark.parametrize(
    ("register", "parameters"),
    [
        (lambda shop: shop.on("a"), "event, mirror"),
        (lambda shop: shop.hydrate("a"), "event, api"),
        (lambda shop: shop.connect, "source"),
        (lambda shop: shop.listing(Product), "api"),
        (lambda shop: shop.pages(Product), "api, start"),
        (lambda shop: shop.lookup(Product), "api, wanted"),
        (lambda shop: shop.compose, "event_type, entity_id, at, data"),
        (lambda shop: Dialect("new", verify=shop.verifier).envelope, "body"),
    ],
)
def test_a_function_with_other_parameters_is_refused_with_those_it_takes(shop, register, parameters):
    def wrong(one, two, three):
        pass

    with pytest.raises(WiringError, match=rf"wrong is an? .*give it the parameters \({parameters}\)"):
        register(shop)(wrong)


def test_a_handler_with_swapped_parameters_is_refused(shop):
    def swapped(mirror: Mirror, event: Event[Any]) -> None:
        pass

    with pytest.raises(WiringError, match=r"write its parameters in the order \(event: Event, mirror: Mirror\)"):
        shop.on("product.updated")(swapped)


def test_a_hydrate_function_with_swapped_parameters_is_refused(shop):
    def swapped(api: httpx.Client, event: Event) -> None:
        pass

    with pytest.raises(WiringError, match=r"write its parameters in the order \(event: Event, api: Client\)"):
        shop.hydrate("product.updated")(swapped)


def test_two_lists_of_one_table_are_refused(shop):
    shop.pages(Product)(lambda api, start: ListPage([]))
    with pytest.raises(WiringError, match="Two functions list Product of shop: remove one, or say override=True in"):
        shop.pages(Product)(lambda api, start: ListPage([]))


ALONE = r"Another function lists rows of shop, and one with @shop\.listing lists all of them: .* @shop\.pages"


def test_a_walk_beside_another_list_is_refused_and_does_not_replace_it(shop):
    shop.listing(Product)(lambda api: iter([]))
    with pytest.raises(WiringError, match=ALONE):
        shop.pages(Variant)(lambda api, start: ListPage([]))
    with pytest.raises(WiringError, match=ALONE):
        shop.listing(Variant)(lambda api: iter([]))
    with pytest.raises(WiringError, match="Two functions list Product of shop: remove one"):
        shop.listing(Product)(lambda api: iter([]))
    assert shop.listing_of.tables == (Product,)


def test_an_override_replaces_the_whole_list(shop):
    shop.pages(Product)(lambda api, start: ListPage([]))
    shop.listing(Variant, override=True)(lambda api: iter([]))
    assert shop.listing_of.tables == (Variant,)


def test_pages_that_override_replace_the_pages_of_their_tables_alone(shop):
    shop.pages(Product)(lambda api, start: ListPage([]))
    shop.pages(Variant)(lambda api, start: ListPage([]))

    @shop.pages(Product, override=True)
    def read(api, start):
        return ListPage([])

    assert shop.listing_of.tables == (Variant, Product)
    assert [part.read for part in shop.listing_of.parts if Product in part.tables] == [read]


def test_pages_that_override_replace_a_walk(shop):
    shop.listing(Product)(lambda api: iter([]))
    shop.pages(Product, Variant, override=True)(lambda api, start: ListPage([]))
    assert [(part.tables, part.walk) for part in shop.listing_of.parts] == [((Product, Variant), None)]


@pytest.mark.parametrize("method", ["pages", "listing"])
def test_pages_that_override_may_not_leave_a_table_without_a_list(shop, method):
    parameters = {"pages": lambda api, start: ListPage([]), "listing": lambda api: iter([])}
    getattr(shop, method)(Product, Variant)(parameters[method])
    with pytest.raises(WiringError, match="with override=True replaces one that lists Variant, too: list these with"):
        shop.pages(Product, override=True)(lambda api, start: ListPage([]))
    assert shop.listing_of.tables == (Product, Variant)


def test_each_table_may_have_a_lookup_of_its_own(shop):
    shop.lookup(Product)(lambda api, wanted: ["a product"])
    shop.lookup(Variant)(lambda api, wanted: ["a variant"])
    assert [shop.lookup_of.ask(None, Wanted(table, "A1")) for table in shop.lookup_of.tables] == [
        ["a product"],
        ["a variant"],
    ]


def test_a_second_lookup_of_a_table_is_refused_unless_it_overrides_the_first(shop):
    shop.lookup(Product, Variant)(lambda api, wanted: ["the first"])
    with pytest.raises(WiringError, match="Two functions look up Variant of shop: remove one, or say override=True"):
        shop.lookup(Variant)(lambda api, wanted: [])
    shop.lookup(Variant, override=True)(lambda api, wanted: ["the second"])
    assert shop.lookup_of.ask(None, Wanted(Product, "A1")) == ["the first"]
    assert shop.lookup_of.ask(None, Wanted(Variant, "A1")) == ["the second"]


def test_a_list_that_only_names_its_rows_needs_a_lookup(shop):
    shop.pages(Product, names_only=True)(lambda api, start: ListPage([]))
    with pytest.raises(WiringError, match=r"only names its rows of Product: write a lookup .* @shop.lookup\(Product\)"):
        shop.check()
    shop.lookup(Product)(lambda api, wanted: [])
    shop.check()


def compose(event_type: str, entity_id: str, at: datetime, data: Any) -> Any:
    return data


SECOND = {
    "envelope": (read, lambda body: [], "an envelope, read"),
    "connect": (lambda source: httpx.Client(), lambda source: httpx.Client(), "a connect function, <lambda>"),
    "compose": (compose, lambda event_type, entity_id, at, data: None, "a compose function, compose"),
}


@pytest.mark.parametrize("method", SECOND)
def test_a_second_function_is_refused_and_does_not_replace_the_first(method):
    dialect = Dialect("shop", verify=HmacSha256(header="X"))
    first, second, named = SECOND[method]
    getattr(dialect, method)(first)
    advice = rf"The dialect shop has {named}: remove one, or replace it by shop\.{method}\(function, override=True\)\."
    with pytest.raises(WiringError, match=advice):
        getattr(dialect, method)(second)
    assert getattr(dialect, {"envelope": "_read"}.get(method, f"_{method}")) is first


@pytest.mark.parametrize("method", SECOND)
def test_a_second_function_that_overrides_replaces_the_first(method):
    dialect = Dialect("shop", verify=HmacSha256(header="X"))
    first, second, _ = SECOND[method]
    getattr(dialect, method)(first)
    assert getattr(dialect, method)(second, override=True) is second
    assert getattr(dialect, {"envelope": "_read"}.get(method, f"_{method}")) is second


def test_an_envelope_that_overrides_reads_bodies_by_its_own_annotation(shop):
    shop.check()

    def read_plain(body: dict) -> Envelope:
        return Envelope(event_type=body["kind"], entity=None, occurred_at=NOON, data=None)

    shop.envelope(read_plain, override=True)
    assert shop.read(b'{"kind": "product.updated"}').event_type == "product.updated"


def test_a_second_hydrate_function_is_refused_unless_it_overrides_the_first(shop):
    shop.hydrate("product.updated")(fetch)

    def fetch_again(event, api):
        return "again"

    with pytest.raises(WiringError, match=r"fetch_again .* would both .* or say override=True in one of them"):
        shop.hydrate("product.updated")(fetch_again)
    shop.hydrate("product.updated", override=True)(fetch_again)
    assert shop.hydrator_for("product.updated").function is fetch_again


@pytest.mark.parametrize("method", ["on", "hydrate"])
@pytest.mark.parametrize(("arguments", "has"), [((handle,), "the argument"), ((), "no event type")])
def test_a_decorator_without_its_event_types_is_refused_because_it_would_register_nothing(shop, method, arguments, has):
    with pytest.raises(WiringError, match=rf"@shop\.{method} has {has}.*: write @shop\.{method}\(\"product"):
        getattr(shop, method)(*arguments)


@pytest.mark.parametrize("method", ["listing", "pages", "lookup"])
@pytest.mark.parametrize(("arguments", "has"), [((handle,), "the argument"), ((), "no argument")])
def test_a_decorator_without_its_tables_is_refused_because_it_would_register_nothing(shop, method, arguments, has):
    with pytest.raises(WiringError, match=rf"@shop\.{method} has {has}.*: name the tables .* @shop\.{method}\(Product"):
        getattr(shop, method)(*arguments)


def test_a_pattern_that_is_not_an_event_type_is_refused(shop):
    with pytest.raises(WiringError, match="`product updated` is not an event type"):
        shop.on("product updated")(handle)


def test_an_annotation_that_cannot_be_resolved_is_refused_with_advice(shop):
    class Local(BaseModel):
        name: str

    def local(event: Event[Local], mirror: Mirror) -> None:
        pass

    with pytest.raises(WiringError, match=r"local cannot be resolved .*'Local'.*at the top level of the module"):
        shop.on("product.updated")(local)


def test_the_most_specific_hydrate_function_is_found(shop):
    shop.hydrate("product.*")(fetch)
    assert shop.hydrator_for("product.updated").function is fetch
    assert shop.hydrator_for("order.updated") is None


# ── a handler's data ──────────────────────────────────────────────────────────────────────────────────────────


def test_data_is_parsed_by_the_annotation_of_the_handler(shop):
    shop.on("product.updated")(handle)
    parsed = shop.handler_for("product.updated").parse({"name": "Lamp", "price": Decimal("1.50"), "more": 1})
    assert parsed == Data(name="Lamp", price=Decimal("1.50"))


def test_data_that_does_not_fit_is_unreadable_with_the_name_of_its_member(shop):
    shop.on("product.updated")(handle)
    with pytest.raises(Unreadable, match=r"The data is not what the dialect expects: name: .*; price: "):
        shop.handler_for("product.updated").parse({"name": 5, "price": "cheap"})


@pytest.mark.parametrize(
    ("price", "told"),
    [
        ("19,90", r"price: Input should be a valid decimal \(got '19,90'\)\.$"),
        ("9" * 70 + ",-", r"price: .* \(got '9{10,}\.\.\.9+,-'\)\.$"),
        ("\0\ud800", r"price: .* \(got '\\x00\\ud800'\)\.$"),
        (None, r"price: .* \(got None\)\.$"),
        ({"amount": "x"}, r"price: [^()]*\.$"),
    ],
    ids=["text", "long", "not storable", "null", "an object"],
)
def test_the_reason_for_data_that_does_not_fit_shows_the_value_cut_and_in_one_line(shop, price, told):
    shop.on("product.updated")(handle)
    with pytest.raises(Unreadable, match=told) as raised:
        shop.handler_for("product.updated").parse({"name": "Lamp", "price": price})
    assert len(str(raised.value)) < 200


@pytest.mark.parametrize("annotation", [Event[Any], Event[None], Event, Any])
def test_without_a_model_the_data_is_passed_unchanged(shop, annotation):
    def plain(event, mirror):
        pass

    plain.__annotations__["event"] = annotation
    shop.on("product.updated")(plain)
    assert shop.handler_for("product.updated").parse({"any": "thing"}) == {"any": "thing"}


# ── the envelope ──────────────────────────────────────────────────────────────────────────────────────────────


def body(**members):
    return encode({"type": "product.updated", "id": "A1", "timestamp": NOON, "data": {"name": "Lamp"}} | members)


def test_a_body_is_read_through_the_model_of_the_envelope(shop):
    found = shop.read(body())
    assert (found.event_type, found.entity, found.occurred_at, found.data) == (
        "product.updated",
        ("product", "A1"),
        NOON,
        {"name": "Lamp"},
    )


def test_an_envelope_without_annotation_takes_an_object():
    plain = Dialect("plain", verify=HmacSha256(header="X"))
    plain.envelope(lambda body: Envelope(event_type=body["type"], entity=None, occurred_at=NOON, data=body))
    assert plain.read(b'{"type": "x"}').data == {"type": "x"}
    with pytest.raises(Unreadable, match="valid dictionary"):
        plain.read(b"[1]")


def test_a_missing_member_is_unreadable_with_its_name(shop):
    with pytest.raises(Unreadable, match="The body is not what the dialect expects: id: Field required"):
        shop.read(b'{"type": "product.updated", "timestamp": "2026-03-08T12:00:00Z"}')


def test_a_time_without_an_offset_is_unreadable_with_what_to_write_into_the_dialect(shop):
    told = "timestamp: the time has no offset from UTC, .*: annotate it as `datetime`, and attach the sender's zone"
    with pytest.raises(Unreadable, match=told):
        shop.read(b'{"type": "product.updated", "id": "A1", "timestamp": "2026-03-08T12:00:00"}')


def test_any_error_of_an_envelope_function_makes_the_body_unreadable_with_the_reason():
    clumsy = Dialect("clumsy", verify=HmacSha256(header="X"))
    clumsy.envelope(lambda body: body["missing"])
    with pytest.raises(Unreadable, match="The envelope of clumsy failed: KeyError: 'missing'"):
        clumsy.read(b"{}")


@examples(60)
@given(st.binary() | st.dictionaries(st.sampled_from(["type", "id", "timestamp"]), st.text() | st.none()).map(encode))
def test_any_bytes_make_an_envelope_or_are_unreadable(content):
    dialect = Dialect("any", verify=HmacSha256(header="X"))
    dialect.envelope(read)
    with suppress(Unreadable):
        assert isinstance(dialect.read(content), Envelope)


def test_a_dialect_without_envelope_is_refused():
    with pytest.raises(WiringError, match=r"The dialect mute has no envelope: write one with @mute\.envelope"):
        Dialect("mute", verify=HmacSha256(header="X")).check()


def test_a_second_envelope_is_refused(shop):
    with pytest.raises(WiringError, match="The dialect shop has an envelope, read"):
        shop.envelope(lambda body: None)


def test_an_envelope_whose_model_cannot_be_resolved_is_refused():
    class Local(BaseModel):
        name: str

    def local(body: Local) -> Envelope:
        raise NotImplementedError

    dialect = Dialect("local", verify=HmacSha256(header="X"))
    dialect.envelope(local)
    with pytest.raises(WiringError, match="cannot be resolved"):
        dialect.check()


class Plain:
    """A class of which pydantic makes no model."""


def read_plain(body: Plain) -> Envelope:
    raise NotImplementedError


def read_misspelt(body: httpx.Clinet) -> Envelope:
    raise NotImplementedError


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (read_plain, r"read_plain is annotated with <class '.*Plain'>, which pydantic does not read \(.*\): .* `dict`"),
        (read_misspelt, r"read_misspelt cannot be resolved \(module 'httpx' has no attribute 'Clinet'\)"),
    ],
)
def test_an_envelope_with_an_annotation_that_cannot_be_used_is_refused_in_one_line(function, says):
    dialect = Dialect("plain", verify=HmacSha256(header="X"))
    dialect.envelope(function)
    with pytest.raises(WiringError, match=says) as refused:
        dialect.check()
    assert "\n" not in str(refused.value)


# ── composing, and the source's API ───────────────────────────────────────────────────────────────────────────


def test_a_body_is_composed_by_convention(shop):
    composed = shop.write("product.updated", "A1", at=NOON, data={"name": "Lamp"})
    assert decode(composed) == {
        "type": "product.updated",
        "id": "A1",
        "timestamp": "2026-03-08T12:00:00Z",
        "data": {"name": "Lamp"},
    }


def test_a_composed_body_that_the_envelope_cannot_read_is_refused_with_advice(shop):
    shop.compose(lambda event_type, entity_id, at, data: {"kind": event_type})
    with pytest.raises(ConfigurationError, match=r"does not read a body .*type: Field required.*@shop\.compose"):
        shop.write("product.updated", "A1", at=NOON, data=None)


def test_a_composed_body_that_the_envelope_reads_differently_is_refused(shop):
    shop.compose(lambda event_type, entity_id, at, data: {"type": "other", "id": entity_id, "timestamp": at})
    with pytest.raises(ConfigurationError, match="it reads as other"):
        shop.write("product.updated", "A1", at=NOON, data=None)


def test_a_source_without_an_api_has_no_client(shop):
    shop.connect(lambda source: pytest.fail("nobody must connect"))
    assert shop.client(SourceSettings(name="shop")) is None


def test_a_dialect_without_an_api_has_no_client(shop):
    assert shop.client(SourceSettings(name="shop", api_url="http://api.test")) is None


def test_the_repr_of_a_dialect_shows_its_name(shop):
    assert repr(shop) == "Dialect('shop')"
