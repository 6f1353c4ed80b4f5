"""The cost of verifying: each kind of signature compared with `HmacSha256`, and the cost of making the request's value.

    python -m benchmarks.verifying

The kinds take turns in one process, and the best turn of each counts, in CPU time.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from time import thread_time_ns

from receiver import senders
from receiver.errors import NotVerified
from receiver.verify.request import RawHeaders, WebhookRequest
from receiver.verify.signatures import HmacSha256
from receiver.verify.verifiers import Credentials, Secret, Verifier

#: Verifications in one turn, and turns of each kind.
IN_A_TURN, TURNS = 100, 300

#: Nanoseconds by which a templated signature may be slower than `HmacSha256`.
MOST_MORE = 3_000

BODY = (
    b'{"type":"product.updated","id":"A1","timestamp":"2026-06-01T12:00:00Z","data":{"name":"Lamp","price":19.90}}' * 8
)

#: Headers that most requests have besides the signature.
USUAL: RawHeaders = [
    (b"host", b"hooks.example.com"),
    (b"content-type", b"application/json"),
    (b"content-length", b"880"),
    (b"user-agent", b"Sender/1.0"),
    (b"accept", b"*/*"),
    (b"x-request-id", b"3f2b"),
]

KINDS: dict[str, Callable[[], Verifier]] = {
    "HmacSha256": lambda: HmacSha256(header="X-Webhook-Signature"),
    "GitHub": senders.GitHub,
    "Shopify": senders.Shopify,
    "Stripe": senders.Stripe,
    "Slack": senders.Slack,
    "Square": senders.Square,
    "StandardWebhooks": senders.StandardWebhooks,
    "HubSpot": senders.HubSpot,
    "StandardWebhooksPublicKey": senders.StandardWebhooksPublicKey,
}

#: From the test vectors of Svix.
PUBLIC_KEY = b"whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4="


def prepared(kind: str) -> tuple[Verifier, WebhookRequest, Credentials]:
    """Make a verifier and a request that it accepts.

    Only the Ed25519 request is refused, because its private key is not available here.
    """
    verifier, at = KINDS[kind](), datetime(2026, 6, 1, 12, tzinfo=UTC)
    url = "https://hooks.example.com/hooks/shop"
    secret = PUBLIC_KEY if kind == "StandardWebhooksPublicKey" else b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    credentials = Credentials(secrets=(Secret(secret),), public_url=url)
    request = WebhookRequest(BODY, USUAL, target=b"/hooks/shop", public_url=url, at=at)
    if kind == "StandardWebhooksPublicKey":
        headers = {"webhook-id": "m", "webhook-timestamp": "1780315200", "webhook-signature": f"v1a,{'A' * 86}=="}
    else:
        _, headers = verifier.sign(request, credentials)
    request.headers = [*USUAL, *((name.lower().encode(), value.encode()) for name, value in headers.items())]
    return verifier, request, credentials


def measure() -> dict[str, float]:
    """Return nanoseconds for one verification of each kind, and for making a request's value."""
    best = dict.fromkeys([*KINDS, "making the request's value"], float("inf"))
    cases = {kind: prepared(kind) for kind in KINDS}
    for _ in range(TURNS):
        for kind, (verifier, request, credentials) in cases.items():
            began = thread_time_ns()
            for _ in range(IN_A_TURN):
                with suppress(NotVerified):
                    verifier.verify(request, credentials)
            best[kind] = min(best[kind], (thread_time_ns() - began) / IN_A_TURN)
        began = thread_time_ns()
        for _ in range(IN_A_TURN):
            WebhookRequest(BODY, USUAL, target=b"/hooks/shop", public_url="", at=request.at)
        made = (thread_time_ns() - began) / IN_A_TURN
        best["making the request's value"] = min(best["making the request's value"], made)
    return best


def main() -> None:
    found = measure()
    usual = found["HmacSha256"]
    print(f"{'kind':30} {'ns':>8} {'more than HmacSha256':>22}")
    for kind, cost in found.items():
        print(f"{kind:30} {cost:8.0f} {cost - usual:22.0f}")
    # Leave out HubSpot, whose text a function makes, and Ed25519, which computes something else.
    templated = [kind for kind in KINDS if kind not in ("HmacSha256", "HubSpot", "StandardWebhooksPublicKey")]
    worst = max(found[kind] - usual for kind in templated)
    print(f"the slowest template costs {worst:.0f} ns more; {MOST_MORE} are allowed")


if __name__ == "__main__":
    main()
