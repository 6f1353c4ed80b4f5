"""Signs requests to IIMMPACT's API. Unlike its webhooks, the signature is base64 and the secret is base64-decoded."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Callable, Generator

import httpx

from receiver.errors import ConfigurationError

NONCE = 16  #: random bytes, which are 32 hexadecimal characters; the API allows 16 to 128 characters


class SignedRequests(httpx.Auth):
    """Adds `X-Signature: v1=<base64>` over `v1:{ts}:{nonce}:{METHOD}:{query}:{base64(sha256(body))}`.

    The form is from docs/sources.md, IIMMPACT, "API auth".
    `now` returns unix seconds. Every request gets a new nonce, and so does a request that is repeated.
    """

    requires_request_body = True

    def __init__(
        self,
        key: str,
        secret: str,
        *,
        now: Callable[[], float] = time.time,
        nonce: Callable[[], str] = lambda: secrets.token_hex(NONCE),
    ) -> None:
        try:
            self._secret = b64decode(secret, validate=True)
        except (Base64Error, ValueError):
            raise ConfigurationError("IIMMPACT's api_secret is not valid base64: copy it again.") from None
        self._key = key
        self._now = now
        self._nonce = nonce

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        timestamp, nonce = str(int(self._now())), self._nonce()
        request.headers["X-Api-Key"] = self._key
        request.headers["X-Timestamp"] = timestamp
        request.headers["X-Nonce"] = nonce
        request.headers["X-Signature"] = f"v1={self._sign(request, timestamp, nonce)}"
        yield request

    def _sign(self, request: httpx.Request, timestamp: str, nonce: str) -> str:
        body = b64encode(hashlib.sha256(request.content).digest()).decode()
        query = request.url.query.decode("ascii")
        text = f"v1:{timestamp}:{nonce}:{request.method}:{query}:{body}"
        return b64encode(hmac.digest(self._secret, text.encode(), "sha256")).decode()
