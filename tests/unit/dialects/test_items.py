"""Items of a bundle: the function that reads them, which may be made for one body."""

from __future__ import annotations

import gc
import weakref
from datetime import UTC, datetime
from typing import Any

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
