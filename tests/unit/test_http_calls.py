"""Calls over HTTP: an environment that allows none is named, in place of the server or the settings."""

from __future__ import annotations

import os

import h11
import httpx
import pytest

from receiver import Dialect, Envelope, HmacSha256
from receiver.commands.remote_client import RemoteClient
from receiver.dialects.sources import Source, build_source
from receiver.errors import ConfigurationError, HookmirrorError
from receiver.http_calls import PROXY_VARIABLES, usable_environment
from receiver.server import sending
from receiver.settings.settings import source_settings

#: Variables with which httpx makes no client, and the advice.
UNUSABLE = {
    "a proxy of another kind": ("HTTPS_PROXY", "ftp://me:hush@proxy.example", "no proxy can be used"),
    "a proxy whose package is missing": ("ALL_PROXY", "socks5://proxy.example", "no proxy can be used"),
    "a proxy whose address is no URL": ("http_proxy", "http://me:hush/x@proxy.example", "a proxy's address is not"),
    "certificates that are not there": ("SSL_CERT_FILE", "/absent/certificates.pem", "a file for TLS cannot be opened"),
    "a key log that cannot be written": ("SSLKEYLOGFILE", "/absent/keys.log", "a file for TLS cannot be opened"),
    "certificates that are none": ("SSL_CERT_FILE", os.devnull, "a file for TLS cannot be opened"),
}


@pytest.fixture(params=UNUSABLE.values(), ids=UNUSABLE)
def advice(request, monkeypatch) -> str:
    """Set one variable, and return the advice that names it."""
    for name in (*PROXY_VARIABLES, *map(str.lower, PROXY_VARIABLES), "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    name, value, reason = request.param
    monkeypatch.setenv(name, value)
    return rf"{reason}.*: correct {name} in the environment of this process\.$"


def shop(api_url: str | None = None, authorization: str | bytes | None = None) -> Source:
    dialect = Dialect("shop", verify=HmacSha256(header="X-Signature"))

    @dialect.envelope
    def read(body: dict) -> Envelope:
        raise NotImplementedError

    @dialect.connect
    def client(source) -> httpx.Client:
        headers = {} if authorization is None else {"Authorization": authorization}
        return httpx.Client(base_url=source.api_url, headers=headers)

    table = {"secrets": ["one"], **({"api_url": api_url} if api_url else {})}
    return build_source(source_settings("shop", table), {"shop": dialect})


def test_send_names_the_environment(advice):
    source = shop()
    with pytest.raises(ConfigurationError, match=f"The webhook cannot be sent: {advice}") as raised:
        sending.send(source, b"{}", "https://hooks.example/hooks/shop")
    assert "hush" not in str(raised.value)


def test_a_command_with_to_names_the_environment(advice):
    with pytest.raises(ConfigurationError, match=f"The receiver cannot be asked: {advice}"):
        RemoteClient("https://hooks.example", "a-token").ask("/api/v1/stats", {}, {})


def test_the_start_names_the_environment_and_not_the_settings_of_the_api(advice):
    with pytest.raises(ConfigurationError, match=f"The API of the source shop cannot be called: {advice}"):
        shop("https://api.example")


@pytest.mark.parametrize("value", ["Bearer ", "Bearer hush ", " Bearer hush", "Bearer hush\n", "Bearer hu\x00sh"])
def test_a_header_that_http_does_not_allow_is_refused_at_start_without_its_value(value):
    with pytest.raises(ConfigurationError, match="the value of the header Authorization begins or ends with") as raised:
        shop("https://api.example", authorization=value)
    assert "hush" not in str(raised.value)
    assert "Set `api_key` without blanks around it" in str(raised.value)


@pytest.mark.parametrize("value", ["", "Bearer hush", "Basic  aHVzaA==", b"Bearer \xe9\xa0", b"Bearer hu\x01sh\x7f"])
def test_a_header_that_can_be_sent_is_no_obstacle_at_start(value):
    client = shop("https://api.example", authorization=value).client()
    h11.Request(method="GET", target="/", headers=[("Host", "api.example"), *client.headers.raw])


def test_an_error_that_the_environment_does_not_cause_passes_unchanged():
    with pytest.raises(ValueError, match="of the code"), usable_environment("The list cannot be read"):
        raise ValueError("an error of the code")


@pytest.mark.parametrize("to", ["https://xn--", "https://xn--n3h.example"])
def test_an_address_that_cannot_be_called_is_refused_as_such(to):
    with pytest.raises(ConfigurationError, match="--to names a host that cannot exist"):
        sending.address(to, "shop")
    with pytest.raises(ConfigurationError, match="--to names a host that cannot exist"):
        RemoteClient(to, "a-token")


@pytest.mark.parametrize("to", ["http://127.0.0.1:8000?token=a%2Fb", "http://127.0.0.1:8000/?token=a%2Fb"])
def test_the_path_of_the_source_is_added_before_a_query(to):
    """For a source whose token stands in the query."""
    assert sending.address(to, "shop") == "http://127.0.0.1:8000/hooks/shop?token=a%2Fb"


@pytest.mark.parametrize("to", ["http://127.0.0.1:8000", "http://127.0.0.1:8000/"])
def test_the_path_of_the_source_is_added_to_an_address_without_one(to):
    assert sending.address(to, "shop") == "http://127.0.0.1:8000/hooks/shop"


def test_any_other_error_of_the_client_is_no_answer(monkeypatch):
    """Such as the address of a source with a name that others can call."""
    with pytest.raises(HookmirrorError, match="No server answers at https://xn--n3h"):
        sending.send(shop(), b"{}", "https://xn--n3h.example/hooks/shop")


def test_an_event_type_that_is_too_long_for_a_path_is_an_event_type():
    assert sending.headers_of(shop(), "a." * 2_000, []) == {}
