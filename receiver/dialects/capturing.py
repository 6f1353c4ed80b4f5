"""Capturing: the dialect of a source whose sender is not known yet. Nothing verifies, so nothing reaches the mirror."""

from __future__ import annotations

from typing import Any

from receiver.dialects.dialect import Dialect
from receiver.envelope import Envelope
from receiver.errors import Captured, Unreadable
from receiver.verify.request import WebhookRequest
from receiver.verify.verifiers import Credentials, Verified, Verifier

#: The name by which a source asks for it.
CAPTURE_DIALECT = "capture"


class CapturingVerifier(Verifier):
    """Accepts nothing. Secrets may be there already, for the dialect to come."""

    def check(self, credentials: Credentials) -> str | None:  # noqa: ARG002 (protocol)
        return None

    def verify(self, request: WebhookRequest, credentials: Credentials) -> Verified:  # noqa: ARG002 (protocol)
        raise Captured(
            "This address captures webhooks until their dialect is written, and processes none. Send it again later.",
            retry_after=600,
        )

    def sign(self, request: WebhookRequest, credentials: Credentials) -> tuple[bytes, dict[str, str]]:  # noqa: ARG002 (protocol)
        return request.body, {}


capturing = Dialect(CAPTURE_DIALECT, verify=CapturingVerifier())


@capturing.envelope
def read(body: Any) -> Envelope:  # noqa: ARG001 (protocol)
    raise Unreadable("A captured request is not read.")
