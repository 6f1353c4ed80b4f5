"""Renewal: settings that are adopted while a process runs, and those that need a restart."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from waiting import wait_until

from receiver import Dialect, Envelope, HmacSha256
from receiver.dialects.sources import build_sources
from receiver.errors import WiringError
from receiver.server.registry import Reading
from receiver.server.renewal import TAKEN, Reloader, Renewal, read_anew
from receiver.server.signals import Requests
from receiver.settings.settings import Settings

SOURCES = {"shop": {"secrets": ["the-secret-of-the-source"]}}

#: Other values of settings that are not numbers and not switches.
OTHERS = {
    "secret_key": "a-secret-key-of-these-tests",
    "public_url": "https://hooks.example",
    "database_url": "sqlite:///another.db",
    "dialects": ["module:name"],
    "log_level": "debug",
    "log_format": "json",
    "sources": {"shop": {"secrets": ["another-secret"]}},
    "max_connections_per_address": 5,
    "console_url": "https://console.example",
    "console_hosts": ["console.example"],
    "console_trusted_proxies": ["192.0.2.1"],
    "console_proxy_secret": "another-secret-of-the-proxy",
    "console_user_header": "X-User",
    "console_role_header": "X-Role",
}


def shop(verifier: type[HmacSha256] = HmacSha256) -> Dialect:
    dialect = Dialect("shop", verify=verifier(header="X-Webhook-Signature"))

    @dialect.envelope
    def read(body: dict) -> Envelope:
        raise NotImplementedError

    return dialect


def other(name: str) -> Any:
    if name in OTHERS:
        return OTHERS[name]
    default = Settings.model_fields[name].default
    return not default if isinstance(default, bool) else default - 1


def made(**settings: Any) -> Settings:
    return Settings(**{"sources": SOURCES, "console_proxy_secret": "the-secret-of-the-proxy"} | settings)


def renewed(monkeypatch, old: Settings, new: Settings) -> Renewal:
    monkeypatch.setattr("receiver.server.renewal.load", lambda: new)
    dialects = {"shop": shop()}
    return read_anew(old, build_sources(old, dialects), dialects)


@pytest.mark.parametrize("name", Settings.model_fields)
def test_a_setting_that_needs_a_restart_changes_no_source_before(name):
    dialects = {"shop": shop()}
    changes = build_sources(made(), dialects) != build_sources(made(**{name: other(name)}), dialects)
    assert not changes or name in TAKEN


def test_the_sources_are_built_from_the_settings_that_come_into_force(monkeypatch):
    old = made()
    renewal = renewed(monkeypatch, old, made(max_events_per_body=5, public_url="https://hooks.example"))
    (source,) = renewal.sources.values()
    assert (renewal.settings.max_events_per_body, source.max_events) == (5, 5)
    assert source.credentials.public_url == "https://hooks.example/hooks/shop"
    assert set(renewal.changed) == {"public_url", "max_events_per_body", "sources.shop"}
    assert renewal.needs_restart == ()


def test_the_next_request_to_reload_is_heard_although_there_was_no_memory_for_the_last_one(monkeypatch):
    requests, heard = Requests(), list[None]()

    def fail() -> None:
        heard.append(None)
        raise MemoryError

    reloader = Reloader(
        requests,
        read=lambda: pytest.fail("not reached"),
        adopt=lambda _: None,
        note=lambda _: None,
        record=lambda *_: None,
        in_force=Reading(datetime.now(UTC)),
    )
    monkeypatch.setattr(reloader, "reload", fail)
    reloader.start()
    for number in (1, 2):
        requests.ask()
        wait_until(lambda number=number: len(heard) == number, "the reload")
    reloader.stop()


class Doubting(HmacSha256):
    """A verifier whose form of secrets cannot be told."""

    @property
    def looks_like(self) -> str:
        raise RuntimeError("no form")


def test_settings_whose_secrets_cannot_be_examined_are_refused(monkeypatch):
    old, dialects = made(), {"shop": shop(Doubting)}
    sources = build_sources(old, dialects)
    monkeypatch.setattr("receiver.server.renewal.load", lambda: made(sources={"shop": {"secrets": ["another-one"]}}))
    with pytest.raises(WiringError, match=r"The verifier of shop failed: .*RuntimeError"):
        read_anew(old, sources, dialects)


def test_a_renewal_has_the_doubts_about_its_secrets(monkeypatch):
    renewal = renewed(monkeypatch, made(), made(sources={"shop": {"secrets": ["whsec_of-another-sender"]}}))
    (doubt,) = renewal.doubts
    assert doubt.startswith("Secret 1 of the source shop begins with `whsec_`")
