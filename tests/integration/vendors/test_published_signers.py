"""Bodies signed by the vendors' own libraries are accepted, and these libraries accept our signatures."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from handlers.catalog import Product
from receiver import Credentials, Secret, WebhookRequest
from vendors.bigcommerce import bigcommerce
from vendors.standard import standard
from vendors.stripe import stripe

standardwebhooks = pytest.importorskip("standardwebhooks", reason="`pip install --group vendors` has it")

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
BODY = '{"type": "product.created", "timestamp": "2026-06-01T12:00:00Z", "data": {"id": "p-1", "name": "Lampe é 😊"}}'


def test_a_signature_of_standard_webhooks_own_library_is_accepted(webhooks):
    webhooks.source("standard", secrets=[SECRET])
    now = datetime.now(UTC)
    signature = standardwebhooks.Webhook(SECRET).sign("msg_1", now, BODY)
    headers = {"webhook-id": "msg_1", "webhook-timestamp": str(int(now.timestamp())), "webhook-signature": signature}
    answer = webhooks.post("standard", BODY.encode(), headers)
    webhooks.drain()
    assert (answer.status, webhooks.delivery(answer)["dedup_key"]) == (200, "msg_1")
    assert webhooks.row(Product, "p-1").name == "Lampe é 😊"


def test_its_signature_from_an_hour_ago_is_too_old(webhooks):
    webhooks.source("standard", secrets=[SECRET])
    then = datetime.now(UTC) - timedelta(hours=1)
    signature = standardwebhooks.Webhook(SECRET).sign("msg_1", then, BODY)
    headers = {"webhook-id": "msg_1", "webhook-timestamp": str(int(then.timestamp())), "webhook-signature": signature}
    answer = webhooks.post("standard", BODY.encode(), headers)
    assert (answer.status, answer.body["error"]) == (401, "signature_stale")


def signed(dialect, secret: str, body: str) -> dict[str, str]:
    request = WebhookRequest(body.encode(), at=datetime.now(UTC))
    return dialect.verifier.sign(request, Credentials(secrets=(Secret(secret.encode()),)))[1]


def test_standard_webhooks_own_library_accepts_our_signature():
    assert standardwebhooks.Webhook(SECRET).verify(BODY, signed(standard, SECRET, BODY)) == json.loads(BODY)


def test_it_accepts_our_signature_for_bigcommerce_with_the_documented_key():
    as_documented = standardwebhooks.Webhook("YmMtY2xpZW50LXNlY3JldA==")
    assert as_documented.verify(BODY, signed(bigcommerce, "bc-client-secret", BODY))


def test_stripe_s_own_library_signs_and_accepts_as_we_do(webhooks):
    library = pytest.importorskip("stripe", reason="`pip install --group vendors` has it")
    webhooks.source("stripe", secrets=["whsec_test_secret"])
    body = json.dumps(
        {"id": "evt_1", "object": "event", "type": "product.created", "created": 1780000000}
        | {"data": {"object": {"id": "prod_1", "object": "product", "name": "Lampe é"}}}
    )
    now = int(datetime.now(UTC).timestamp())
    signature = library.WebhookSignature._compute_signature(f"{now}.{body}", "whsec_test_secret")
    answer = webhooks.post("stripe", body.encode(), {"Stripe-Signature": f"t={now},v1={signature},v0=old"})
    assert answer.status == 200
    header = signed(stripe, "whsec_test_secret", body)["Stripe-Signature"]
    assert library.Webhook.construct_event(body, header, "whsec_test_secret").id == "evt_1"
