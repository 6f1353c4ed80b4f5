"""A refused request is kept with everything that its signature covers, so that a new secret verifies it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select

from receiver import Dialect, Envelope, Header, HmacSha256, Signature, Verifier, WebhookRequest
from receiver.database.database import Database
from receiver.database.schema import Schema
from receiver.dialects.sources import Source, build_source
from receiver.errors import NotVerified
from receiver.inbox.inbox import Inbox
from receiver.inbox.refused import REQUESTS, Bounds
from receiver.ingest.admission import Request, admit
from receiver.ingest.keeping import Keeper
from receiver.ingest.reverifying import verify_again
from receiver.senders import Contentful
from receiver.settings.settings import source_settings
from receiver.verify.verifiers import Verified

BOUNDS = Bounds(1_000, 1 << 24, timedelta(hours=24))
OLD, NEW = "the-old-secret" * 5, "the-new-secret" * 5
NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)

#: The headers that every request of Contentful lists as signed.
ALWAYS = "x-contentful-signed-headers,x-contentful-timestamp"

Pairs = Sequence[tuple[bytes, bytes]]


@pytest.fixture
def inbox(mirror_url):
    with closing(Database(mirror_url)) as database:
        Schema(database).prepare()
        yield Inbox(database)


def source(verifier: Verifier, secret: str, address: str) -> Source:
    dialect = Dialect("shop", verify=verifier)

    @dialect.envelope
    def read(body: dict) -> Envelope:
        return Envelope(event_type="a", entity=None, occurred_at=NOON, data=None)

    table = {"secrets": [secret], **({"registered_url": address} if address else {})}
    return build_source(source_settings("shop", table), {"shop": dialect})


def refused(inbox: Inbox, verifier: Verifier, target: bytes, address: str, headers: Pairs = ()) -> None:
    """Let a source without the new secret refuse a request that its sender signed with it."""
    knowing, request = source(verifier, NEW, address), WebhookRequest(b"{}", headers, target=target)
    request.public_url, request.at = address, datetime.now(UTC)
    _, made = verifier.sign(request, knowing.credentials)
    sent = [*headers, *((name.lower().encode(), value.encode()) for name, value in made.items())]
    listening = source(verifier, OLD, address)
    (refusal,) = admit([Request(listening, sent, b"{}", target)])
    assert isinstance(refusal, NotVerified)
    assert refusal.code == "signature_wrong"
    keeper = Keeper(inbox, {"shop": listening}, BOUNDS)
    keeper.offer(Request(listening, sent, b"{}", target), refusal)
    keeper.flush()


def kept_headers(inbox: Inbox) -> list[str]:
    """The names of the headers of the kept requests."""
    with inbox.database.read() as connection:
        return [name for (kept,) in connection.execute(select(REQUESTS.c.headers)) for name, _ in kept]


@pytest.mark.parametrize(
    ("signed", "target", "address"),
    [
        ("{path}|{body}", b"/hooks/shop", ""),
        ("{path}|{body}", b"/hooks/shop/?a=b", ""),
        ("{url}|{body}", b"/hooks/shop", "https://hooks.example/hooks/shop"),
        ("{url}|{body}", b"/hooks/shop/", "https://hooks.example/hooks/shop"),
    ],
)
def test_a_kept_request_whose_address_is_signed_verifies_with_the_new_secret(inbox, signed, target, address):
    verifier = Signature(signed, at=Header("X-Signature"))
    refused(inbox, verifier, target, address)
    assert verify_again(inbox, source(verifier, NEW, address)).accepted == 1


def test_a_kept_request_hides_possible_secrets_in_its_address_and_verifies_without_them(inbox):
    verifier = HmacSha256(header="X-Signature")
    refused(inbox, verifier, b"/hooks/shop?token=secret&page=2", "")
    with inbox.database.read() as connection:
        (headers,) = connection.execute(select(REQUESTS.c.headers)).scalars()
    assert [value for name, value in headers if name == ":target"] == ["/hooks/shop?token=(hidden)&page=2"]
    assert verify_again(inbox, source(verifier, NEW, "")).accepted == 1


@pytest.mark.parametrize("signed", ["{path}|{body}", "{url}|{body}"])
def test_a_request_whose_signed_address_may_hold_a_secret_is_not_kept(inbox, signed):
    """It could not be verified again without that part."""
    verifier = Signature(signed, at=Header("X-Signature"))
    refused(inbox, verifier, b"/hooks/shop?token=secret", "https://hooks.example/hooks/shop")
    assert kept_headers(inbox) == []


@pytest.mark.parametrize("address", ["", "https://hooks.example/hooks/shop"])
def test_a_kept_request_of_contentful_verifies_with_the_new_secret(inbox, address):
    refused(inbox, Contentful(), b"/hooks/shop", address)
    assert verify_again(inbox, source(Contentful(), NEW, address)).accepted == 1


def listing(*names: str) -> Pairs:
    listed = [(name.lower().encode(), b"value") for name in names]
    return [(b"x-contentful-signed-headers", ",".join([ALWAYS, *names]).encode()), *listed]


def test_headers_that_a_kept_request_lists_as_signed_are_kept(inbox):
    headers = [*listing("X-Contentful-Webhook-Name"), (b"x-further", b"unlisted")]
    refused(inbox, Contentful(), b"/hooks/shop", "", headers)
    assert "x-contentful-webhook-name" in kept_headers(inbox)
    assert "x-further" not in kept_headers(inbox)
    assert verify_again(inbox, source(Contentful(), NEW, "")).accepted == 1


@pytest.mark.parametrize("name", ["Authorization", "X-Shop-Token"])
def test_a_request_that_lists_a_header_that_may_hold_a_secret_is_not_kept(inbox, name):
    """It could not be verified again without that header."""
    refused(inbox, Contentful(), b"/hooks/shop", "", listing(name))
    assert kept_headers(inbox) == []


class Listing(Verifier):
    """A verifier of a user's own, whose signature covers the headers that the request names."""

    signature_headers = ("X-Signature", "X-Signed")

    def listed_headers(self, request):
        return (request.header("X-Signed") or b"").decode().split()

    def check(self, credentials):
        return None

    def verify(self, request, credentials):
        text = b"".join(request.header(name) or b"?" for name in self.listed_headers(request))
        if request.header("X-Signature") != credentials.secrets[0].value + text:
            raise NotVerified("signature_wrong", "It is.")
        return Verified(request.body, 0)

    def sign(self, request, credentials):
        text = b"".join(request.header(name) or b"?" for name in self.listed_headers(request))
        return request.body, {"X-Signature": (credentials.secrets[0].value + text).decode()}


def test_a_verifier_of_your_own_may_name_the_signed_headers_of_one_request(inbox):
    refused(inbox, Listing(), b"/hooks/shop", "", [(b"x-signed", b"X-Topic"), (b"x-topic", b"lamps")])
    assert verify_again(inbox, source(Listing(), NEW, "")).accepted == 1
