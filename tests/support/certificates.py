"""The usual certificates, loaded once in a process, although httpx loads them for each new client."""

from __future__ import annotations

import os
import ssl
from typing import Any

import httpx
import httpx._transports.default

#: Variables that name other certificates.
VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR")


def share_certificates() -> None:
    """Load the usual certificates now, and give them to every client that asks for no others."""
    usual = httpx.create_ssl_context(trust_env=False)

    def context(verify: Any = True, cert: Any = None, trust_env: bool = True) -> ssl.SSLContext:
        if verify is not True or cert is not None or any(name in os.environ for name in VARIABLES):
            return httpx.create_ssl_context(verify, cert, trust_env)
        return usual

    httpx._transports.default.create_ssl_context = context
