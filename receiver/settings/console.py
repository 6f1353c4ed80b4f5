"""Settings of the console: where people reach it, and how they sign in."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Self
from urllib.parse import urlsplit

from pydantic import BaseModel, Field, SecretStr, model_validator


class ConsoleSettings(BaseModel):
    """The settings that the console alone needs."""

    #: Whether `serve` serves the console, too.
    console: bool = False
    #: Where browsers find the server: for the links that are printed, and for how cookies are set.
    console_url: str = "http://127.0.0.1:8000"
    #: Further names by which browsers may ask for it; that of `console_url` and those of this machine always may.
    console_hosts: list[str] = []
    #: Hours after which a session ends, and minutes without a page after which it does.
    console_session_hours: float = Field(default=12.0, gt=0, le=720)
    console_idle_minutes: float = Field(default=60.0, gt=0, le=43_200)
    #: Pages of one process that are told at once what changed; all others ask by themselves now and then.
    console_streams: int = Field(default=20, ge=0, le=1_000)
    #: Keep the bodies of webhooks from viewers; operators see them.
    console_hide_bodies: bool = False
    #: Addresses and networks of proxies that say who asks; without any, nobody is believed.
    console_trusted_proxies: list[str] = []
    #: What such a proxy sends as `X-Hookmirror-Proxy-Secret`, so that no other program there can pass for it.
    console_proxy_secret: SecretStr | None = None
    #: The headers in which it names the person and the role (`viewer` or `operator`; a viewer without it).
    console_user_header: str = "X-Forwarded-User"
    console_role_header: str = "X-Forwarded-Role"

    @model_validator(mode="after")
    def _console_fits_together(self) -> Self:
        parts = urlsplit(self.console_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("console_url takes an address such as https://hooks.example.com")
        for network in self.console_trusted_proxies:
            try:
                ip_network(network, strict=False)
            except ValueError:
                raise ValueError(
                    f"console_trusted_proxies takes addresses and networks such as 10.0.0.0/8, not {network[:64]!r}"
                ) from None
        secret = self.console_proxy_secret.get_secret_value() if self.console_proxy_secret else ""
        if self.console_trusted_proxies and len(secret) < SHORTEST_PROXY_SECRET:
            raise ValueError(
                f"console_trusted_proxies needs console_proxy_secret, of at least {SHORTEST_PROXY_SECRET} characters"
            )
        return self

    @property
    def console_host_names(self) -> frozenset[str]:
        """The names that the header `Host` may have, without their ports."""
        own = urlsplit(self.console_url).hostname or ""
        return frozenset(map(str.lower, [own, *self.console_hosts, "localhost", "127.0.0.1", "[::1]", "::1"]))

    @property
    def console_is_secure(self) -> bool:
        """Whether browsers reach it by https alone."""
        return urlsplit(self.console_url).scheme == "https"


#: Characters of the secret that a trusted proxy sends.
SHORTEST_PROXY_SECRET = 16
