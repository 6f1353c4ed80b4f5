"""Security of the console in a browser: headers, hosts, and markup of strangers."""

from __future__ import annotations

import re
from typing import Any

import pytest
from serving import Served
from visiting import Visitor, new_link, strange_markup

from receiver.console.hosts import refuse_other_hosts
from receiver.settings.console import ConsoleSettings

#: Texts with which strangers try to change a page.
HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'><button hx-get=/x hx-trigger=load>",
    "</pre><h1>owned",
    "{{ 7 * 7 }}{% raw %}",
    "javascript:alert(1)",
    "\u202eright to left\u2066",
    "\x00\x1b[31m\x07bell",
    "é" * 200,
)

DIRECTIVES = {
    "default-src 'none'",
    "style-src 'self'",
    "img-src 'self' data:",
    "connect-src 'self'",
    "form-action 'self'",
    "base-uri 'none'",
    "frame-ancestors 'none'",
    "require-trusted-types-for 'script'",
    "trusted-types htmx",
}


def test_every_page_has_strict_headers_and_a_new_nonce(operator: Visitor, stranger: Visitor) -> None:
    nonces = set()
    for visitor, path in [(operator, "/"), (operator, "/deliveries/1"), (stranger, "/"), (operator, "/nothing")]:
        answer = visitor.get(path)
        directives = answer.headers["content-security-policy"].split("; ")
        assert set(directives) - DIRECTIVES == {directives[1]}
        nonce = re.fullmatch(r"script-src 'nonce-([\w-]{22})'", directives[1])[1]
        assert set(re.findall(r'<script nonce="([^"]*)"', answer.text)) == {nonce}
        nonces.add(nonce)
        for name, value in {
            "referrer-policy": "same-origin",
            "x-content-type-options": "nosniff",
            "cross-origin-opener-policy": "same-origin",
            "cache-control": "no-store",
        }.items():
            assert answer.headers[name] == value
    assert len(nonces) == 4


def test_other_answers_are_neither_sniffed_nor_cached(operator: Visitor, leaving: Visitor) -> None:
    redirect = operator.client.get(f"{operator.base}/console")
    with leaving.client.stream("GET", "/live") as stream:
        for answer in (redirect, stream):
            assert answer.headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
            assert (answer.headers["x-content-type-options"], answer.headers["cache-control"]) == (
                "nosniff",
                "no-store",
            )


def test_no_page_has_an_inline_script_or_style_or_names_another_host(operator: Visitor) -> None:
    for path in ("/", "/deliveries", "/deliveries/1", "/sign-in"):
        page = operator.get(path).text
        assert re.findall(r"<script[^>]*>[^<]", page) == []
        assert re.findall(r"\sstyle=|\son\w+=|<style|javascript:", page) == []
        assert [
            link for link in re.findall(r'(?:href|src|action)="([^"]*)"', page) if not link.startswith(("/", "#"))
        ] == []


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "[::2]", "[localhost]", "::1]"]
)
def test_a_request_for_another_host_gets_no_page(operator: Visitor, host: str) -> None:
    for path in ("/", "/nothing", "/sign-in"):
        answer = operator.get(path, {"Host": host})
        assert answer.status_code == 400
        assert "is not served under the name" in answer.text


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8000", "localhost.:1", "127.0.0.1:1", "[::1]:8000"])
def test_the_names_of_this_machine_are_accepted_as_hosts(operator: Visitor, host: str) -> None:
    assert operator.get("/sign-in", {"Host": host}, link=new_link()).status_code == 200


@pytest.mark.parametrize(
    ("settings", "host"),
    [
        ({"console_url": "http://[fd00:0::1]:8000"}, "[fd00::1]:8000"),
        ({"console_url": "https://FD00.example."}, "fd00.example"),
        ({"console_url": "https://hooks.example."}, "hooks.example."),
        ({"console_url": "https://käse.example"}, "xn--kse-qla.example"),
        ({"console_url": "https://xn--kse-qla.example"}, "xn--kse-qla.example:443"),
        ({"console_hosts": ["hooks.example:8443"]}, "hooks.example:8443"),
        ({"console_hosts": ["KÄSE.example"]}, "xn--kse-qla.example"),
        ({"console_hosts": ["fd00::1"]}, "[fd00::1]:8000"),
        ({"console_hosts": ["[fd00::1]:8000"]}, "[fd00::1]"),
    ],
)
def test_a_host_in_the_settings_is_accepted_as_browsers_write_it(settings: dict[str, Any], host: str) -> None:
    refuse_other_hosts(host, ConsoleSettings(**settings).console_host_names)


def test_texts_of_a_sender_are_shown_as_text_on_every_page(shown: Served, operator: Visitor) -> None:
    for text in HOSTILE:
        delivery = shown.send("iimmpact", id=text, event_type=text, key=text, data={"display_name": text})
        shown.ended(delivery)
        for path in ("/deliveries", f"/deliveries/{delivery}"):
            page = operator.page(path)
            assert strange_markup(page) == [], path
            assert not set(page) & {"\u202e", "\u2066", "\x00", "\x1b", "\x07"}


@pytest.mark.parametrize("path", ["/", "/deliveries", "/deliveries/1", "/deliveries/1/replay", "/sign-in"])
def test_parts_of_an_address_are_shown_as_text_on_the_page(operator: Visitor, path: str) -> None:
    for text in HOSTILE:
        answer = operator.get(path, source=text, link=text, reason=text)
        assert answer.status_code < 500
        assert strange_markup(answer.text) == []
        assert "49{%" not in answer.text


def test_a_body_is_downloaded_as_a_file_and_never_displayed(shown: Served, operator: Visitor) -> None:
    delivery = shown.send("sigma", b"<html><script>alert(1)</script>")
    answer = operator.get(f"/deliveries/{delivery}/body")
    assert answer.content == b"<html><script>alert(1)</script>"
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"].startswith("attachment;")
    assert answer.headers["content-security-policy"] == "default-src 'none'; sandbox"


@pytest.mark.parametrize(
    "content", [b"\xff\xfe\x00binary", b"x" * 1_000_000, b'{"a": ' + b"[" * 5_000, b"\r\n\x85\xe2\x80\xa8", b""]
)
def test_a_body_of_arbitrary_bytes_is_shown(shown: Served, operator: Visitor, content: bytes) -> None:
    delivery = shown.send("sigma", content)
    page = operator.page(f"/deliveries/{delivery}")
    assert len(page) < 600_000
    assert f"{len(content):,} bytes" in page


def test_the_digits_in_a_body_are_shown_unchanged(shown: Served, operator: Visitor) -> None:
    delivery = shown.send("sigma", b'{"price": 12345678901234567890.10, "n": 1.0e2}')
    page = operator.page(f"/deliveries/{delivery}")
    assert "12345678901234567890.10" in page
    assert "1.0e2" in page
