"""The vendors' own libraries for Node.js: we accept their signatures, and they accept ours."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from programs import SIGNERS, find_signers, run

from receiver import Credentials, Dialect, Envelope, Secret, Verifier, WebhookRequest, senders
from receiver.testing import Webhooks

#: The characters are escaped by no library, and are two to four bytes long.
BODY = '{"id": "evt_1", "object": "event", "type": "product.updated", "data": {"name": "Lampe é ♥ 😊 \\/ & <"}}'
CHANGED = BODY.replace("Lampe", "Lampf")

TEXT, WHSEC = "It's a secret é", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

VERIFIERS: dict[str, tuple[Verifier, str]] = {
    "github": (senders.GitHub(), TEXT),
    "sanity": (senders.Sanity(), TEXT),
    "standard": (senders.StandardWebhooks(), WHSEC),
    "stripe": (senders.Stripe(), WHSEC),
}


def dialect_of(name: str, verifier: Verifier) -> Dialect:
    made = Dialect(name, verify=verifier)

    @made.envelope
    def read(body: dict) -> Envelope:
        return Envelope(event_type=body["type"], entity=None, occurred_at=datetime(2026, 6, 1, tzinfo=UTC), data=body)

    return made


def signed_by_us(verifier: Verifier, secret: str) -> dict[str, str]:
    request = WebhookRequest(BODY.encode(), at=datetime.now(UTC))
    headers = verifier.sign(request, Credentials(secrets=(Secret(secret.encode()),)))[1]
    return {name.lower(): value for name, value in headers.items()}


@pytest.fixture(scope="module")
def told(tmp_path_factory) -> dict[str, dict[str, Any]]:
    """Return the libraries' signatures of the bodies, all made by one process."""
    libraries = find_signers()
    folder = tmp_path_factory.mktemp("signers")
    # Node.js looks for libraries beside the script.
    (folder / "node_modules").symlink_to(libraries)
    (folder / "signers.mjs").write_text(SIGNERS.read_text("utf-8"), "utf-8")
    question = {
        "body": BODY,
        "changed": CHANGED,
        "secrets": {name: secret for name, (_, secret) in VERIFIERS.items()},
        "ours": {name: signed_by_us(verifier, secret) for name, (verifier, secret) in VERIFIERS.items()},
    }
    answer: dict[str, dict[str, Any]] = json.loads(
        run("node", folder / "signers.mjs", given=json.dumps(question)).stdout
    )
    return answer


@pytest.fixture(scope="module")
def kit(tmp_path_factory):
    dialects = {name: dialect_of(name, verifier) for name, (verifier, _) in VERIFIERS.items()}
    kit = Webhooks(tmp_path_factory.mktemp("kit"), dialects)
    for name, (_, secret) in VERIFIERS.items():
        kit.source(name, dialect=name, secrets=[secret])
    yield kit
    kit.close()


@pytest.mark.parametrize("vendor", VERIFIERS)
def test_a_body_signed_by_the_vendor_s_library_is_accepted(kit, told, vendor):
    answer = kit.post(vendor, BODY.encode(), told["signed"][vendor])
    assert (answer.status, answer.text[:21]) == (200, '{"status":"accepted",')


@pytest.mark.parametrize("vendor", VERIFIERS)
def test_a_body_changed_after_the_vendor_s_library_signed_it_is_refused(kit, told, vendor):
    answer = kit.post(vendor, CHANGED.encode(), told["signed"][vendor])
    assert (answer.status, answer.body["error"]) == (401, "signature_wrong")


@pytest.mark.parametrize("vendor", VERIFIERS)
def test_the_vendor_s_library_accepts_our_signature_and_refuses_a_changed_body(told, vendor):
    assert (told["accepts"][vendor], told["refuses"][vendor]) == (True, True)
