"""Secrets that are wrong by their form; no message quotes one."""

from __future__ import annotations

import pytest

from receiver import senders
from receiver.verify.secret_forms import doubtful_secrets, shared_secrets
from receiver.verify.signatures import HmacSha256
from receiver.verify.verifiers import Credentials, Secret


def doubts(verifier, secret: bytes) -> str:
    return " ".join(doubtful_secrets("shop", verifier, Credentials(secrets=(Secret(secret),))))


@pytest.mark.parametrize(
    ("verifier", "secret", "says"),
    [
        (senders.StandardWebhooks(), b"v1,whsec_MfKQ9r8GKYqr", "begins with `v1,`"),
        (senders.Stripe(), b"sk_live_abcdef", "begins with `sk_` like an API key"),
        (senders.Stripe(), b"something else", "does not look like a secret of its sender"),
        (senders.Shopify(), b"shpat_abcdef", "begins with `shpat_`"),
        (senders.GitHub(), b"whsec_abcdef", "takes the secret as written"),
        (HmacSha256(header="X-Signature"), b"whsec_abcdef", "takes the secret as written"),
        (senders.Contentful(), b"short", "does not look like a secret of its sender"),
    ],
)
def test_a_secret_of_a_wrong_form_is_reported_and_not_quoted(verifier, secret, says):
    told = doubts(verifier, secret)
    assert says in told
    assert secret.decode() not in told


@pytest.mark.parametrize(
    ("verifier", "secret"),
    [
        (senders.StandardWebhooks(), b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
        (senders.Stripe(), b"whsec_test_secret"),
        (senders.GitHub(), b"It's a Secret to Everybody"),
        (senders.Contentful(), b"a" * 64),
    ],
)
def test_a_secret_in_its_sender_s_form_is_not_reported(verifier, secret):
    assert doubts(verifier, secret) == ""


@pytest.mark.parametrize(
    ("verifier", "secrets", "says"),
    [
        (senders.Squarespace(), [b"not hex"], "secret 1 of 1 is not hexadecimal digits"),
        (senders.StandardWebhooks(), [b"whsec_AAAA", b"whsec_!"], "secret 2 of 2 is not base64 behind `whsec_`"),
        (
            senders.StandardWebhooks(),
            [b"whsec_AAAA", b"AAAA"],
            "secrets 1 and 2 are the same key, written in two ways: remove one",
        ),
        (senders.StandardWebhooks(), [b"whsec_AAAA", b"whsec_AAAA"], "secrets 1 and 2 are equal: remove one"),
        (senders.Pimcore(), [b"-----BEGIN PUBLIC KEY-----"], "is not a public key in PEM"),
        (senders.GitHub(), [b"%d" % number for number in range(17)], "17 secrets, and at most 16 are allowed"),
        (senders.GitHub(), [b" "], "is empty"),
    ],
)
def test_a_secret_that_cannot_be_a_key_is_refused_at_start(verifier, secrets, says):
    assert says in verifier.check(Credentials(secrets=tuple(map(Secret, secrets))))


def test_a_secret_shared_by_two_sources_is_reported():
    one, two = Credentials(secrets=(Secret(b"a"),)), Credentials(secrets=(Secret(b"b"), Secret(b"a")))
    assert [told.partition(" have ")[0] for told in shared_secrets({"eu": one, "us": two})] == ["The sources eu and us"]
    assert list(shared_secrets({"eu": one})) == []


def test_many_sources_with_one_secret_are_one_sentence():
    same = Credentials(secrets=(Secret(b"one secret for all"),))
    (told,) = shared_secrets({f"shop-{number}": same for number in range(1_000)})
    assert told.startswith("The sources shop-0, shop-1, shop-2, shop-3, shop-4 and 995 more have the same secret, so ")
    (told,) = shared_secrets({"eu": same, "us": same, "uk": same})
    assert told.startswith(
        "The sources eu, us and uk have the same secret, so a webhook for one verifies at the others"
    )
