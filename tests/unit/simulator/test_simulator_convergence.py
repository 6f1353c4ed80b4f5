"""The convergence check names every row and column that differs, with both values."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from decimal import Decimal

import httpx
import pytest

from receiver import codec
from simulator.convergence import compare, read_mirror
from simulator.oracle import Oracle

NOON = datetime(2026, 3, 8, 12, tzinfo=UTC)
KEY = ("products", "A1")


def oracle(*, active=True, **columns):
    found = Oracle()
    found.put(KEY, event=1, at=NOON, active=active, **columns)
    return found


def row(**columns):
    empty = dict.fromkeys(("sku", "name", "price", "currency", "parent", "lifecycle_state", "data"))
    return {**empty, "external_id": "A1", "active": True, **columns}


def differences(oracle, mirror, arrived=None):
    return [str(found) for found in compare(oracle, mirror, arrived=arrived).differences]


def test_an_equal_mirror_has_no_differences():
    expected = oracle(name="Lamp", price=Decimal("10.0000"), data={"price": Decimal("1.50")})
    found = {KEY: row(name="Lamp", price="10.0000", data=codec.decode(b'{"price": 1.5}'))}
    assert differences(expected, found) == []


def test_a_wrong_column_is_named_with_both_values():
    assert differences(oracle(name="Lamp"), {KEY: row(name="Tent")}) == ["products A1: name is 'Tent', must be 'Lamp'"]


def test_a_price_must_have_the_digits_that_were_announced():
    assert differences(oracle(price=Decimal("10.0000")), {KEY: row(price="10.00")}) == [
        "products A1: price is '10.00', must be '10.0000'"
    ]


def test_a_number_in_place_of_a_boolean_is_a_difference():
    assert differences(oracle(data={"on": True}), {KEY: row(data={"on": 1})}) == [
        "products A1: data is {'on': 1}, must be {'on': True}"
    ]


def test_a_column_that_was_never_announced_must_be_null():
    assert differences(oracle(), {KEY: row(currency="EUR")}) == ["products A1: currency is 'EUR', must be None"]


def test_a_missing_row_is_a_difference():
    assert differences(oracle(), {}) == ["products A1: row is None, must be 'an active row'"]


def test_a_row_that_should_be_active_and_is_not_is_a_difference():
    assert differences(oracle(), {KEY: row(active=False)}) == ["products A1: active is False, must be True"]


@pytest.mark.parametrize("mirror", [{}, {KEY: row(active=False, name="anything")}])
def test_a_deactivated_row_may_be_inactive_or_absent(mirror):
    assert differences(oracle(active=False, name="Lamp"), mirror) == []


def test_a_deactivated_row_must_not_be_active():
    assert differences(oracle(active=False), {KEY: row()}) == ["products A1: active is True, must be False"]


def test_an_active_row_that_was_never_announced_is_a_difference():
    assert differences(Oracle(), {KEY: row()}) == [
        "products A1: row is 'an active row that the source never had', must be None"
    ]


def test_a_row_whose_last_event_was_lost_can_only_be_repaired_by_a_reconcile():
    comparison = compare(oracle(name="Lamp"), {KEY: row(name="Tent")}, arrived=set())
    assert comparison.equal
    assert comparison.rows_to_reconcile == ["products A1"]


def test_the_mirror_is_read_page_by_page():
    def answer(request):
        assert request.headers["authorization"] == "Bearer token"
        if not request.url.path.endswith("/products"):
            return httpx.Response(200, json={"items": [], "next": None})
        number = int(request.url.params.get("cursor", "0"))
        return httpx.Response(
            200, json={"items": [row(external_id=str(number))], "next": str(number + 1) if number < 2 else None}
        )

    async def read():
        headers = {"Authorization": "Bearer token"}
        transport = httpx.MockTransport(answer)
        async with httpx.AsyncClient(base_url="http://mirror", headers=headers, transport=transport) as client:
            return await read_mirror(client, "sigma")

    assert set(asyncio.run(read())) == {("products", "0"), ("products", "1"), ("products", "2")}
