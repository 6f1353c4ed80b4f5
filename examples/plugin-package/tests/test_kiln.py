"""The rows that Kiln's webhooks leave in the mirror."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from kiln import Item

from receiver.testing import fixture_files

FIXTURES = Path(__file__).parent / "fixtures" / "kiln"

noon = datetime(2026, 6, 1, 12, tzinfo=UTC)
minute = timedelta(minutes=1)


@pytest.mark.parametrize("fixture", fixture_files(FIXTURES), ids=lambda path: path.name)
def test_a_fixture_leaves_the_rows_that_it_describes(webhooks, fixture):
    webhooks.check_fixture(fixture)


def test_a_webhook_without_its_signature_is_refused(webhooks):
    webhooks.source("kiln")
    assert webhooks.post("kiln", b"{}").body["error"] == "signature_missing"


def test_a_late_update_does_not_revive(webhooks):
    webhooks.send("kiln", "item.deleted", id="A1", at=noon)
    webhooks.send("kiln", "item.updated", id="A1", at=noon - minute, data={})
    webhooks.drain()
    assert not webhooks.row(Item, "A1").active
