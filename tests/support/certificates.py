"""The certificates, loaded once in a process, although httpx loads them for each new client."""

from __future__ import annotations

import os
import ssl
from functools import cache
from typing import Any

import httpx
import httpx._transports.default

#: Variables that name other certificates than the usual ones, and a file for the keys of connections.
VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE")


def share_certificates() -> None:
    """Load the certificates of this environment now, and give them to every client that asks for no others."""

    def context(verify: Any = True, cert: Any = None, trust_env: bool = True) -> ssl.SSLContext:
        if verify is not True or cert is not None:
            return httpx.create_ssl_context(verify, cert, trust_env)
        return _shared(*(os.environ.get(name) for name in VARIABLES)) if trust_env else _shared()

    httpx._transports.default.create_ssl_context = context
    context()


@cache
def _shared(*named: str | None) -> ssl.SSLContext:
    """Load what the variables name, or the usual certificates if they name nothing."""
    return httpx.create_ssl_context(trust_env=any(named))
