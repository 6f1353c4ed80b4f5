"""Capturing: the dialect of a source with an unknown sender. It verifies no request, so none reaches the mirror."""

from __future__ import annotations

from typing import Any

from receiver.dialects.dialect import Dialect
from receiver.envelope import Envelope
from receiver.errors import Captured, Unreadable
from receiver.verify.request import WebhookRequest
from receiver.verify.verifiers import Credentials, Verified, Verifier

#: The name of the dialect in the settings of a source.
CAPTURE_DIALECT = "capture"


class CapturingVerifier(Verifier):
    """Accepts no request. The source may have secrets already, for its later dialect."""

    def check(self, credentials: Credentials) -> str | None:  # noqa: ARG002 (protocol)
        return None

    def verify(self, request: WebhookRequest, credentials: Credentials) -> Verified:  # noqa: ARG002 (protocol)
        raise Captured(
            "This address captures webhooks until their dialect is written, and processes none. Send this again later.",
            retry_after=600,
        )

    def sign(self, request: WebhookRequest, credentials: Credentials) -> tuple[bytes, dict[str, str]]:  # noqa: ARG002 (protocol)
        return request.body, {}


capturing = Dialect(CAPTURE_DIALECT, verify=CapturingVerifier())


@capturing.envelope
def read(body: Any) -> Envelope:  # noqa: ARG001 (protocol)
    raise Unreadable("A captured request is not read.")
