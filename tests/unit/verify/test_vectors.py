"""Test vectors of many senders: each verifies with its short form, and is refused after any change.

`sign` makes the same requests. No vector was made with Hookmirror's code.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from raw import raw_headers

from receiver import senders
from receiver.errors import NotVerified
from receiver.moments import EPOCH
from receiver.verify.composed import Signature
from receiver.verify.places import Header
from receiver.verify.request import WebhookRequest
from receiver.verify.verifiers import Credentials, Secret

VECTORS = {
    vector["id"]: vector
    for vector in map(json.loads, Path(__file__).with_name("vectors.jsonl").read_text("utf-8").splitlines())
}

#: The short form of each vector's sender.
FORMS: dict[str, Callable[..., Signature]] = {
    "stdwh-v1": senders.StandardWebhooks,
    "stdwh-v1a": senders.StandardWebhooksPublicKey,
    "bigcommerce": senders.BigCommerce,
    "stripe": senders.Stripe,
    "github-docs": senders.GitHub,
    "github-octokit": senders.GitHub,
    "github-utf8": senders.GitHub,
    "shopify": senders.Shopify,
    "slack": senders.Slack,
    "twilio-form": senders.Twilio,
    "twilio-json": senders.Twilio,
    "square": senders.Square,
    "hubspot-v1": senders.HubSpotV1,
    "hubspot-v2": senders.HubSpotV2,
    "hubspot-v3": senders.HubSpot,
    "adyen-item": senders.AdyenItem,
    "sanity": senders.Sanity,
    "contentful": senders.Contentful,
    "hygraph": senders.Hygraph,
    "shopware": senders.Shopware,
    "qonto-style": lambda: Signature("{body}", at=Header("Qonto-SHA256-Signature")),
    "akeneo-events": senders.AkeneoEvents,
    "akeneo-platform": senders.Akeneo,
    "squarespace": senders.Squarespace,
    "zendesk": senders.Zendesk,
    "storyblok": senders.Storyblok,
    "xero-itr": senders.Xero,
    "zoom": senders.Zoom,
    "frappe": senders.Frappe,
    "woocommerce": senders.WooCommerce,
    "adyen-header": senders.AdyenHeader,
}


#: Vectors whose sender signs a time, which is checked.
TIMED = [name for name in VECTORS if (fresh := FORMS[name]().fresh) is not None and fresh.within is not None]


@dataclass
class Case:
    verifier: Signature
    request: WebhookRequest
    credentials: Credentials

    def changed(self, **headers: str) -> WebhookRequest:
        """Change headers of the request, given by their names with `_` for `-`."""
        new = {name.replace("_", "-").lower().encode(): value.encode() for name, value in headers.items()}
        return replace(self.request, headers=[(name, new.get(name, value)) for name, value in self.request.headers])

    def refusal(self, request: WebhookRequest, credentials: Credentials | None = None) -> str:
        with pytest.raises(NotVerified) as caught:
            self.verifier.verify(request, credentials or self.credentials)
        return caught.value.code


def case(name: str, **changes: Any) -> Case:
    """Return a vector as a request that arrives at the time of its signature."""
    vector = VECTORS[name]
    public_url, mark, query = vector.get("url", "").partition("?")
    body: bytes = vector["body"].encode()
    if name == "adyen-item":
        body = json.dumps(json.loads(body) | {"additionalData": {"hmacSignature": vector["signature"]}}).encode()
    secret = changes.pop("secret", vector["secret"]).encode()
    request = WebhookRequest(
        body,
        raw_headers(vector["headers"]),
        target=f"{vector.get('path', '/hooks/x')}{mark}{query}".encode(),
        public_url=public_url,
        at=signed_at(vector),
    )
    credentials = Credentials(secrets=(Secret(secret),), public_url=public_url)
    return Case(FORMS[name](**changes), request, credentials)


def signed_at(vector: dict[str, Any]) -> datetime:
    times = [
        vector.get("t"),
        *(value for name, value in vector["headers"].items() if name.lower().endswith("timestamp")),
    ]
    for time in filter(None, times):
        if not time.isdigit():
            return datetime.fromisoformat(time)
        return EPOCH + timedelta(seconds=int(time) / (1_000 if len(time) > 10 else 1))
    return datetime(2026, 6, 1, 12, tzinfo=UTC)


def test_every_vector_has_a_short_form():
    assert FORMS.keys() == VECTORS.keys()


@pytest.mark.parametrize("name", VECTORS)
def test_a_vector_verifies(name):
    found = case(name)
    assert found.verifier.check(found.credentials) is None
    assert found.verifier.verify(found.request, found.credentials)[:2] == (found.request.body, 0)


@pytest.mark.parametrize("name", VECTORS)
def test_a_vector_verifies_with_an_older_secret_of_the_source(name):
    found = case(name)
    public = name == "stdwh-v1a"
    newer = Secret(b"whpk_" + b"A" * 43 + b"=" if public else b"whsec_" + b"00" * 16)
    newer = Secret(b"00" * 16) if VECTORS[name]["key"] == "hex" else newer
    both = Credentials(secrets=(newer, *found.credentials.secrets), public_url=found.credentials.public_url)
    assert found.verifier.verify(found.request, both).secret == 1


@pytest.mark.parametrize("name", VECTORS)
def test_a_vector_with_another_secret_is_refused(name):
    found = case(name)
    other = "whpk_" + "A" * 43 + "=" if name == "stdwh-v1a" else "00" * 16
    assert found.refusal(found.request, Credentials(secrets=(Secret(other.encode()),))) == "signature_wrong"


@pytest.mark.parametrize("name", [name for name in VECTORS if name not in ("adyen-item", "twilio-form")])
def test_a_vector_with_one_more_byte_in_its_body_is_refused(name):
    found = case(name)
    assert found.refusal(replace(found.request, body=found.request.body + b" ")) == "signature_wrong"


@pytest.mark.parametrize("name", [name for name in VECTORS if VECTORS[name]["headers"]])
def test_a_repeated_header_of_a_vector_is_refused(name):
    found = case(name)
    header = found.verifier.at.headers[0].lower().encode()
    twice = [*found.request.headers, *(pair for pair in found.request.headers if pair[0] == header)]
    assert found.refusal(replace(found.request, headers=twice)) == "signature_repeated"


@pytest.mark.parametrize("name", [name for name in VECTORS if VECTORS[name]["headers"]])
def test_a_vector_without_its_signature_headers_is_refused(name):
    found = case(name)
    assert found.refusal(replace(found.request, headers=[])) == "signature_missing"


@pytest.mark.parametrize("name", TIMED)
def test_a_vector_that_comes_too_late_is_refused_with_both_times(name):
    found = case(name)
    late = replace(found.request, at=found.request.at + timedelta(minutes=7))
    with pytest.raises(NotVerified, match=rf"{found.request.at:%Y-%m-%dT%H:%M:%S}Z.*{late.at:%Y-%m-%dT%H:%M:%S}Z"):
        found.verifier.verify(late, found.credentials)
    assert found.refusal(late) == "signature_stale"
    assert found.refusal(replace(late, body=b"forged")) == "signature_wrong"


@pytest.mark.parametrize("name", TIMED)
def test_a_time_ahead_is_accepted_only_if_the_sender_s_own_library_accepts_it(name):
    found = case(name)
    early = replace(found.request, at=found.request.at - timedelta(minutes=7))
    if found.verifier.fresh.past_only:
        assert found.verifier.verify(early, found.credentials).secret == 0
    else:
        assert found.refusal(early) == "signature_stale"


@pytest.mark.parametrize(
    "name", [name for name in VECTORS if name not in ("stdwh-v1a", "adyen-item", "contentful", "hygraph")]
)
def test_a_form_signs_exactly_the_vector(name):
    found, vector = case(name), VECTORS[name]
    header = {place.lower() for place in found.verifier.at.headers}
    others = [pair for pair in found.request.headers if pair[0].decode() not in header]
    body, headers = found.verifier.sign(replace(found.request, headers=others), found.credentials)
    assert body == found.request.body
    made = {key.lower(): value for key, value in headers.items() if key.lower() in header}
    sent = {key.lower(): value for key, value in vector["headers"].items() if key.lower() in header}
    assert made == sent


# ── further cases ─────────────────────────────────────────────────────────────────────────────────────────────

RIGHT = VECTORS["stdwh-v1"]["headers"]["webhook-signature"]
OF_STRIPE = VECTORS["stripe"]["headers"]["Stripe-Signature"]


@pytest.mark.parametrize(
    ("signature", "code"),
    [
        ("v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OA=", "signature_wrong"),
        ("v2," + RIGHT[3:], "signature_malformed"),
        ("", "signature_malformed"),
        ("v1", "signature_malformed"),
        ("v1,", "signature_malformed"),
        ("v1,a,b", "signature_malformed"),
        (RIGHT[:-2] + "F=", "signature_malformed"),
        (" ".join([RIGHT] * 17), "signature_malformed"),
    ],
)
def test_a_list_of_signatures_without_the_right_one_is_refused(signature, code):
    found = case("stdwh-v1")
    assert found.refusal(found.changed(webhook_signature=signature)) == code


@pytest.mark.parametrize("around", ["{} {}", "v1,{0} {1}", "v1,AAAA {1} v1a,zz", "v2,x v1,y v1,g0hM {1}", "  {1}  "])
def test_the_right_one_of_several_signatures_verifies_at_any_place(around):
    found = case("stdwh-v1")
    request = found.changed(webhook_signature=around.format("v9,unknown", RIGHT))
    assert found.verifier.verify(request, found.credentials).secret == 0


@pytest.mark.parametrize("secret", ["MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"])
def test_the_secret_of_standard_webhooks_may_lack_its_prefix(secret):
    found = case("stdwh-v1", secret=secret)
    assert found.verifier.verify(found.request, found.credentials).signed == {"webhook-id", "webhook-timestamp"}


@pytest.mark.parametrize(
    "signature", [OF_STRIPE + ",v1=bad", OF_STRIPE.replace("v1=", "v1=bad,v1="), OF_STRIPE + ",v0=other", OF_STRIPE]
)
def test_another_v1_signature_of_stripe_beside_the_right_one_does_no_harm(signature):
    found = case("stripe")
    assert found.verifier.verify(found.changed(stripe_signature=signature), found.credentials).secret == 0


def test_the_right_signature_under_another_version_of_stripe_is_refused():
    found = case("stripe")
    request = found.changed(stripe_signature=OF_STRIPE.replace("v1=", "v0="))
    assert found.refusal(request) == "signature_malformed"


@pytest.mark.parametrize("signature", [f"t=1,{OF_STRIPE}", f"{OF_STRIPE},t=1"])
def test_two_times_in_the_header_of_stripe_are_refused(signature):
    found = case("stripe")
    assert found.refusal(found.changed(stripe_signature=signature)) == "signature_repeated"


def test_a_request_of_square_for_the_url_of_another_host_is_refused():
    found = case("square")
    elsewhere = replace(found.request, public_url="https://elsewhere.example/679a4f3a-dcfa-49ee-bac5-9d0edad886b9")
    assert found.refusal(elsewhere) == "signature_wrong"


def test_a_time_of_hubspot_with_a_fraction_is_refused():
    found = case("hubspot-v3")
    assert found.refusal(found.changed(X_HubSpot_Request_Timestamp="1700000000123.0")) == "signature_wrong"


def test_only_the_headers_listed_by_contentful_count_as_signed():
    found = case("contentful")
    signed = found.verifier.verify(found.request, found.credentials).signed
    assert signed == {"x-contentful-signed-headers", "x-contentful-timestamp", "x-contentful-topic"}


def test_the_query_is_escaped_twice_for_contentful():
    secret = "a" * 64
    headers = {
        "x-contentful-timestamp": "1603379941037",
        "x-contentful-signed-headers": "x-contentful-signed-headers,x-contentful-timestamp",
        "x-contentful-signature": "0f58dbb37914921a09c1c68106343cf8586118bf209544ba37b92a737d20d4ac",
    }
    at = EPOCH + timedelta(milliseconds=1603379941037)
    request = WebhookRequest(b"", raw_headers(headers), target=b"/hooks/cms?x=1&y=a%20b", at=at)
    verified = senders.Contentful().verify(request, Credentials(secrets=(Secret(secret.encode()),)))
    assert verified.signed == {"x-contentful-signed-headers", "x-contentful-timestamp"}


SNS_TOPIC = "arn:aws:sns:us-west-2:123456789012:MyTopic"
NOTIFICATION = {
    "Type": "Notification",
    "MessageId": "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324",
    "TopicArn": SNS_TOPIC,
    "Subject": "My First Message",
    "Message": "Hello world!",
    "Timestamp": "2012-05-02T00:54:06.655Z",
}
CONFIRMATION = {
    "Type": "SubscriptionConfirmation",
    "MessageId": "165545c9-2a5c-472c-8df2-7ff2be2b3b1b",
    "Token": "2336412f37",
    "TopicArn": SNS_TOPIC,
    "Message": "You have chosen to subscribe.",
    "SubscribeURL": "https://sns.us-west-2.amazonaws.com/?Action=ConfirmSubscription&Token=2336412f37",
    "Timestamp": "2012-04-26T20:45:04.751Z",
}


@pytest.mark.parametrize(
    ("message", "digest", "length"),
    [
        (NOTIFICATION, "19b478a5097fafe0273520bbe813de90c3cbe3cb11fc69d093fcb2ccdeec2dbf", 198),
        (CONFIRMATION, "a03ad6315d3b32be49f9342a28daccfa3403a5dbe2a8cf2506a9b5b9289c05d3", 313),
    ],
)
def test_the_text_that_sns_signs_has_the_documented_lines(message, digest, length):
    text = senders.sns_text(WebhookRequest(json.dumps(message).encode()))
    assert (sha256(text).hexdigest(), len(text)) == (digest, length)


def test_a_message_to_a_topic_of_a_stranger_never_has_the_text_of_one_to_another_topic():
    forged = {"Message": "no lamp", "MessageId": "m-1", "Timestamp": "2026-06-01T12:00:00.000Z", "TopicArn": SNS_TOPIC}
    wanted = "".join(f"{name}\n{value}\n" for name, value in forged.items()).removeprefix("Message\n")
    sent = {"Message": f"{wanted}Type\nN", "MessageId": "m-2", "Timestamp": "2026-06-01T12:00:00.000Z"}
    sent |= {"TopicArn": f"{SNS_TOPIC}-of-a-stranger", "Type": "Notification"}
    text = senders.sns_text(WebhookRequest(json.dumps(sent).encode())).decode()
    # The same bytes, read as a message to the other topic, with a type of several lines.
    behind = text.partition("\nType\n")[2].removesuffix("\n")
    assert text == "".join(f"{name}\n{value}\n" for name, value in {**forged, "Type": behind}.items())
    with pytest.raises(NotVerified, match="no `Type` of one line"):
        senders.sns_text(WebhookRequest(json.dumps({**forged, "Type": behind}).encode()))


def test_the_text_that_paypal_signs_has_the_documented_parts():
    headers = {
        "PAYPAL-TRANSMISSION-ID": "69cd13f0-d67a-11e5-baa3-778b53f4ae55",
        "PAYPAL-TRANSMISSION-TIME": "2016-02-18T20:01:35Z",
    }
    request = WebhookRequest(b'{"id":"WH-1","event_type":"CATALOG.PRODUCT.UPDATED"}', raw_headers(headers))
    assert senders.paypal_text("1JE4291016473214C")(request) == (
        b"69cd13f0-d67a-11e5-baa3-778b53f4ae55|2016-02-18T20:01:35Z|1JE4291016473214C|1158956797"
    )
