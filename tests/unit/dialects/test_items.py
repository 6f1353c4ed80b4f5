"""Items of a bundle: the function that reads them, which may be made for one body."""

from __future__ import annotations

import gc
import weakref
from datetime import UTC, datetime
from functools import partial, update_wrapper
from typing import Any

import pytest
from pydantic import BaseModel

from receiver import Envelope, each

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)


class Item(BaseModel):
    id: str


class Body:
    """A parsed body, to which a weak reference is possible."""

    at = NOON


def read_all(body: Body) -> list[Any]:
    def read_item(item: Item) -> Envelope:
        return Envelope(event_type="a", entity=("product", item.id), occurred_at=body.at, data=None)

    return list(each([{"id": "A1"}, {"id": "A2"}], read_item))


def test_a_function_that_is_made_for_one_body_does_not_keep_the_body_in_memory():
    body = Body()
    gone = weakref.ref(body)
    assert [item.entity for item in read_all(body)] == [("product", "A1"), ("product", "A2")]
    del body
    gc.collect()
    assert gone() is None


def test_a_method_may_read_the_items():
    class Reader:
        def read_item(self, item: Item) -> Envelope:
            return Envelope(event_type="a", entity=("product", item.id), occurred_at=NOON, data=None)

    assert [item.entity for item in each([{"id": "A1"}], Reader().read_item)] == [("product", "A1")]


def read_of_shop(shop: str, item: Item) -> Envelope:
    if item.id == "odd":
        raise ValueError("This id is odd.")
    return Envelope(event_type=shop, entity=("product", item.id), occurred_at=NOON, data=None)


class OfShop:
    def __call__(self, item: Item) -> Envelope:
        return read_of_shop("us", item)


@pytest.mark.parametrize("read", [partial(read_of_shop, "us"), OfShop()], ids=["partial", "object"])
def test_a_callable_without_a_name_may_read_the_items(read):
    assert [item.entity for item in each([{"id": "A1"}], read)] == [("product", "A1")]


@pytest.mark.parametrize(
    ("read", "name"),
    [(partial(read_of_shop, "us"), "read_of_shop"), (OfShop(), "OfShop.__call__")],
    ids=["partial", "object"],
)
def test_a_callable_without_a_name_that_fails_is_named_by_its_function(read, name):
    [found] = each([{"id": "odd"}], read)
    assert str(found) == f"{__name__}.{name} failed: ValueError: This id is odd."


class Wrapping:
    """Wraps a function, as a decorator does that is written as a class."""

    def __init__(self, function):
        update_wrapper(self, function)
        self.function = function

    def __call__(self, *args):
        return self.function(*args)


def test_an_object_that_wraps_a_function_has_its_annotations_and_its_name():
    read = partial(Wrapping(read_of_shop), "us")
    good, odd = each([{"id": "A1"}, {"id": "odd"}], read)
    assert good.entity == ("product", "A1")
    assert str(odd) == f"{__name__}.read_of_shop failed: ValueError: This id is odd."


def test_a_partial_with_an_annotation_that_pydantic_does_not_read_is_named_as_such():
    def read_odd(shop: str, item: object()) -> Envelope:
        raise AssertionError

    [found] = each([{"id": "A1"}], partial(read_odd, "us"))
    assert "partial(" in str(found)
    assert "read_odd) is annotated with" in str(found)


def test_a_function_that_takes_no_item_is_told_what_it_was_given():
    [found] = each([{"id": "A1"}], lambda: None)
    assert "takes 0 positional arguments but 1 was given" in str(found)


def test_an_async_function_for_the_items_is_told_to_be_a_plain_one():
    async def read_later(item: Item) -> Envelope:
        raise AssertionError

    [found] = each([{"id": "A1"}], read_later)
    assert "read_later returned a coroutine, so that its code was not run: write it" in str(found)
