"""Settings of the console: its addresses, its sessions, and trusted proxies."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Self
from urllib.parse import urlsplit

from pydantic import BaseModel, Field, SecretStr, model_validator

from receiver.http_urls import comparable_host, host_in_url, url_flaw, without_port


class ConsoleSettings(BaseModel):
    """The settings that only the console needs."""

    #: Serve the console with `serve`.
    console: bool = False
    #: The URL at which browsers reach the server. Printed links begin with it, and cookies are secure if it has https.
    console_url: str = "http://127.0.0.1:8000"
    #: Further host names by which browsers may ask for the console, besides those of `console_url` and of this machine.
    console_hosts: list[str] = []
    #: Hours after which a session ends in any case, and minutes without a request after which it ends.
    console_session_hours: float = Field(default=12.0, gt=0, le=720)
    console_idle_minutes: float = Field(default=60.0, gt=0, le=43_200)
    #: Most live pages of one process. Further pages ask every 15 seconds.
    console_streams: int = Field(default=20, ge=0, le=1_000)
    #: Hide the bodies of webhooks from viewers. Operators see them.
    console_hide_bodies: bool = False
    #: Addresses and networks of proxies that sign people in by headers; without any, such headers are ignored.
    console_trusted_proxies: list[str] = []
    #: The secret that a trusted proxy sends as `X-Hookmirror-Proxy-Secret`, so that no other program can pass for it.
    console_proxy_secret: SecretStr | None = None
    #: The headers in which a trusted proxy names the person and the role: `operator`, or any other text for a viewer.
    console_user_header: str = "X-Forwarded-User"
    console_role_header: str = "X-Forwarded-Role"

    @model_validator(mode="after")
    def _console_fits_together(self) -> Self:
        if url_flaw(self.console_url) is not None:
            raise ValueError("console_url takes an address such as https://hooks.example.com")
        _comparable(urlsplit(self.console_url).hostname or "", setting="console_url")
        for host in self.console_hosts:
            _comparable(without_port(host), setting="console_hosts")
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
        """The hosts that the header `Host` may name, without ports and in the form in which hosts are compared."""
        names = [urlsplit(self.console_url).hostname or "", *map(without_port, self.console_hosts)]
        return frozenset(map(comparable_host, [*names, *OWN_HOSTS]))

    @property
    def console_origin(self) -> str:
        """The origin of the pages at `console_url`, as browsers write it."""
        parts = urlsplit(self.console_url)
        port = "" if parts.port in (None, USUAL_PORTS[parts.scheme]) else f":{parts.port}"
        return f"{parts.scheme}://{host_in_url(comparable_host(parts.hostname or ''))}{port}"

    @property
    def console_is_secure(self) -> bool:
        """Whether browsers reach the console by https."""
        return urlsplit(self.console_url).scheme == "https"


def _comparable(host: str, *, setting: str) -> None:
    """Raise `ValueError` unless browsers may ask for this host."""
    try:
        comparable_host(host)
    except ValueError:
        raise ValueError(
            f"{setting} takes names and addresses of hosts, such as hooks.example.com, not {host[:64]!r}"
        ) from None


#: The names of this machine.
OWN_HOSTS = ("localhost", "127.0.0.1", "::1")

#: The ports that browsers leave out.
USUAL_PORTS = {"http": 80, "https": 443}

#: Fewest characters of the secret that a trusted proxy sends.
SHORTEST_PROXY_SECRET = 16
