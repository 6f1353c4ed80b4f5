"""The test kit finds envelope functions that depend on more than the body."""

from __future__ import annotations

import time
from datetime import UTC, date, datetime
from itertools import count
from uuid import uuid4

import pytest

from receiver import ARRIVAL, Dialect, Envelope, HmacSha256, each
from receiver.testing import Webhooks

NUMBERS = count()


def at(moment, **more):
    return Envelope(event_type="a", entity=None, occurred_at=moment, data=None, **more)


def from_a_date(_body):
    today = date.today()  # noqa: DTZ011 (what is found)
    return datetime(today.year, today.month, today.day, tzinfo=UTC)


IMPURE = {
    "datetime.now()": lambda body: at(datetime.now(UTC)),
    "datetime.now() ": lambda body: at(datetime.now(UTC).replace(microsecond=0)),
    "datetime.utcnow()": lambda body: at(datetime.utcnow().replace(tzinfo=UTC)),  # noqa: DTZ003 (what is found)
    "date.today()": lambda body: at(from_a_date(body)),
    "time.time()": lambda body: at(datetime.fromtimestamp(time.time(), UTC)),
    "datetime.now()  ": lambda body: each([body], lambda item: at(datetime.now(UTC))),
    "reads one body in two ways": lambda body: at(ARRIVAL, dedup_key=str(uuid4())),
    "reads one body in two ways ": lambda body: at(datetime(2026, 1, 1 + next(NUMBERS) % 9, tzinfo=UTC)),
}


@pytest.fixture
def kit_of(tmp_path):
    kits = []

    def make(read):
        shop = Dialect("shop", verify=HmacSha256(header="X-Webhook-Signature"))

        @shop.envelope
        def read_body(body: dict) -> Envelope:
            return read(body)

        kits.append(Webhooks(tmp_path, {"shop": shop}))
        return kits[-1]

    yield make
    for kit in kits:
        kit.close()


@pytest.mark.parametrize("told", IMPURE)
def test_an_envelope_that_depends_on_more_than_the_body_is_found(kit_of, told):
    with pytest.raises(AssertionError) as found:
        kit_of(IMPURE[told]).send_body("shop", b"{}")
    assert told.strip() in str(found.value)
    assert "occurred_at=ARRIVAL" in str(found.value)


def test_the_place_where_the_clock_is_read_is_named(kit_of):
    with pytest.raises(AssertionError, match=r"in line \d+ of .*test_pure_envelopes.py"):
        kit_of(IMPURE["datetime.now()"]).send_body("shop", b"{}")


@pytest.mark.parametrize("read", [lambda body: at(ARRIVAL), lambda body: 1 / 0, lambda body: [at(ARRIVAL), None]])
def test_any_pure_envelope_passes(kit_of, read):
    assert kit_of(read).send_body("shop", b"{}").status == 200
