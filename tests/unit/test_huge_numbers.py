"""Numbers of a body with millions of digits: their digits are kept, and nothing computes with them."""

from __future__ import annotations

import copy
import pickle
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

from handlers.catalog import Product
from receiver import ARRIVAL, Dialect, Envelope, Event, Mirror, codec, senders
from receiver.database.columns import LARGEST_EXPONENT
from receiver.huge_numbers import LARGEST_POWER, HugeNumber
from receiver.testing import Webhooks

HUGE = ["1e1001", "-1e1001", "1e999999999", "1e-1001", "2e-999999999", f"{'1' * 5_000}.5", f"0.{'1' * 5_000}"]

USUAL = ["1e1000", "-1e1000", "1e-1000", "0e-99999", "0e99999", "-0.0", "1.50", f"{'1' * 1_000}.{'1' * 1_000}"]

numbered = Dialect("numbered", verify=senders.GitHub())


class Body(BaseModel):
    id: int | str
    data: dict[str, Any] = {}


@numbered.envelope
def read(body: Body) -> Envelope:
    return Envelope(event_type="a", entity=("product", str(body.id)), occurred_at=ARRIVAL, data=body.data)


@numbered.on("a")
def handle(event: Event[dict[str, Any]], mirror: Mirror) -> None:
    mirror.upsert(Product, event.entity_id, data=event.data)


@pytest.mark.parametrize("text", HUGE)
def test_a_huge_number_keeps_its_digits(text: str) -> None:
    number = codec.decode(text)
    assert isinstance(number, HugeNumber)
    assert (str(number), number) == (str(Decimal(text)), Decimal(text))
    assert codec.encode([number]) == codec.encode([Decimal(text)])
    assert codec.is_same(number, codec.decode(text))
    assert copy.deepcopy(number) == pickle.loads(pickle.dumps(number)) == number
    assert number != 5
    assert number != codec.decode("1e4444")


@pytest.mark.parametrize("text", USUAL)
def test_a_number_of_usual_size_is_a_plain_decimal(text: str) -> None:
    number = codec.decode(text)
    assert type(number) is Decimal
    assert str(number) == str(Decimal(text))


@pytest.mark.parametrize("text", HUGE)
@pytest.mark.parametrize("kind", [int, int | str, Decimal])
def test_no_model_makes_a_number_of_a_huge_one(text: str, kind: Any) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(kind).validate_python(codec.decode(text))


@pytest.mark.parametrize(
    "compute", [int, round, lambda number: number + 1, lambda number: number < 1, lambda number: f"{number:f}"]
)
def test_every_computation_with_a_huge_number_fails_at_once(compute: Any) -> None:
    with pytest.raises((ValueError, ArithmeticError)):
        compute(codec.decode("1e999999999"))


def test_every_number_that_an_exact_column_takes_is_of_usual_size() -> None:
    assert LARGEST_POWER == LARGEST_EXPONENT


def test_a_webhook_with_a_huge_number_in_place_of_an_id_is_dead(tmp_path: Path) -> None:
    with closing(Webhooks(tmp_path, {"numbered": numbered})) as webhooks:
        webhooks.source("numbered")
        shown = webhooks.delivery(webhooks.send_body("numbered", b'{"id": 1e999999999}'))
    assert shown["state"] == "dead"
    assert "has more than 1,000 digits before or behind its point (got Decimal('1E+999999999'))" in shown["reason"]


def test_a_huge_number_in_an_object_is_mirrored_and_the_same_one_again_changes_nothing(
    tmp_path: Path, mirror_url: str
) -> None:
    with closing(Webhooks(tmp_path, {"numbered": numbered}, database_url=mirror_url)) as webhooks:
        webhooks.source("numbered")
        for text in HUGE:
            for space, outcome in (("", "applied"), (" ", "unchanged")):
                body = f'{{"id": "A1",{space}"data": {{"size": {text}}}}}'
                sent = webhooks.send_body("numbered", body.encode())
                webhooks.drain()
                assert webhooks.delivery(sent)["outcome"] == outcome
            assert webhooks.row(Product, "A1").data == {"size": Decimal(text)}
