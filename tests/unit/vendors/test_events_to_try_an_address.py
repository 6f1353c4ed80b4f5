"""The test event of the console and of `hookmirror send`: our dialects can write one, and no handler takes it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from vendor_bodies import kept

from handlers.iimmpact import iimmpact
from handlers.indexed import indexed
from handlers.sigma import sigma
from handlers.sticky import sticky
from receiver import Unreadable
from receiver.envelope import Bundle
from receiver.metrics.few_names import TEST_EVENT_TYPE
from vendors.akeneo import akeneo, akeneo_events
from vendors.bigcommerce import bigcommerce
from vendors.github import github
from vendors.shopify import shopify
from vendors.standard import standard
from vendors.stripe import stripe
from vendors.woocommerce import woocommerce

READY = [akeneo, akeneo_events, bigcommerce, github, shopify, standard, stripe, woocommerce]
NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize("dialect", [sigma, indexed, iimmpact, sticky, *READY], ids=lambda dialect: dialect.name)
def test_a_test_event_can_be_written_and_has_no_handler(dialect):
    body = dialect.write(TEST_EVENT_TYPE, "test", at=NOON, data=None)
    read = dialect.read(kept(dialect, body))
    envelope = read.item(0) if isinstance(read, Bundle) else read
    assert envelope.event_type == TEST_EVENT_TYPE
    assert dialect.handler_for(envelope.event_type) is None


@pytest.mark.parametrize("dialect", [github, shopify, woocommerce], ids=lambda dialect: dialect.name)
def test_a_test_event_without_a_valid_time_is_unreadable(dialect):
    with pytest.raises(Unreadable, match="`at` is not the time of a change"):
        dialect.read(b'{"event": "hookmirror.test", "at": "noon"}')
