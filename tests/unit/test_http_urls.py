"""URLs that a person gives: a mistake is described in words, before any connection is made."""

from __future__ import annotations

import socket
from contextlib import suppress
from urllib.parse import unquote

import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from receiver.http_urls import flaw_for_calls, quoted_part, url_flaw


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8000",
        "https://erp.example/changes?token=a%20b#part",
        "http://me:secret@erp.example.:65535/",
        "HTTP://erp_service/",
        "http://[::1]:9/",
        "https://übermaß.example/",
    ],
)
def test_a_url_that_can_be_called_has_no_flaw(url):
    assert url_flaw(url) is None


@pytest.mark.parametrize(
    ("url", "flaw"),
    [
        ("", "is empty"),
        (" \t", "is empty"),
        ("nowhere", "does not begin with http:// or https://"),
        ("mailto:a@b.example", "does not begin with http:// or https://"),
        ("//erp.example/", "does not begin with http:// or https://"),
        ("http://", "names no host"),
        ("http:///changes", "names no host"),
        ("http://:80/", "names no host"),
        ("http://[::1", "names a host that cannot exist"),
        ("http://[::zz]/", "names a host that cannot exist"),
        ("http://a..b/", "names a host that cannot exist"),
        ("http://a%20b/", "names a host that cannot exist"),
        ("http://a\\b/", "names a host that cannot exist"),
        (f"http://{'a' * 64}.example/", "names a host that cannot exist"),
        (f"http://{'a.' * 200}example/", "names a host that cannot exist"),
        ("http://a b/", "contains a blank or a control character"),
        ("http://erp.example/\nx", "contains a blank or a control character"),
        ("http://erp.example:0/", "has the port 0"),
        ("http://erp.example:65536/", "has a port that is not a number from 1 to 65535"),
        ("http://erp.example:http/", "has a port that is not a number from 1 to 65535"),
        ("http://erp.example/" + "a" * 2_000, "is longer than 2,000 characters"),
    ],
)
def test_each_flaw_has_its_own_words(url, flaw):
    assert url_flaw(url) == flaw


@pytest.mark.parametrize("host", ["xn--", "xn--a-.example", "xn--n3h.example", "٣.example", "256.1.1.1"])
def test_a_host_that_our_client_refuses_has_a_flaw_for_calls_alone(host):
    """Others may call such an address, for example one with an emoji."""
    assert url_flaw(f"https://{host}/") is None
    assert flaw_for_calls(f"https://{host}/") == "names a host that cannot exist"


@given(st.text(st.characters(codec="utf-8"), max_size=80).map(lambda text: f"http://{text}"))
@example(f"http://{'a' * 63}.example:1")
@example("http://xn--a-")
def test_any_url_without_a_flaw_can_be_asked_for_or_is_refused_by_the_client_as_invalid(url):
    if flaw_for_calls(url) is None:
        with suppress(httpx.InvalidURL):
            parsed = httpx.URL(url)
            with suppress(OSError):
                socket.getaddrinfo(parsed.host, parsed.port, flags=socket.AI_NUMERICHOST)


@pytest.mark.parametrize("part", [".", "..", "...", "a/b", "ä ?#&%"])
def test_our_client_sends_any_part_of_a_path_as_one_part(part: str) -> None:
    path = httpx.URL(f"http://hooks.example/rows/{quoted_part(part)}/why").raw_path.decode()
    assert [unquote(each) for each in path.split("/")] == ["", "rows", part, "why"]
