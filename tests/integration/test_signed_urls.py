"""Signatures over the URL: right below every path, with and without slashes in the settings, on every way in."""

from __future__ import annotations

import hashlib
import hmac
from datetime import UTC, datetime

import pytest
from serving import serving

from receiver import Dialect, Envelope, Header, Signature, WebhookRequest
from receiver.ingest.fast_path import FastPathProtocol
from receiver.settings.settings import Settings
from receiver.verify.verifiers import Credentials, Secret

SECRET = "the secret of the URL"
NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)


def signing(name: str, signed: str) -> Dialect:
    made = Dialect(name, verify=Signature(signed, at=Header("X-Signature")))

    @made.envelope
    def read(body: dict) -> Envelope:
        return Envelope(event_type="a", entity=None, occurred_at=NOON, data=None)

    return made


by_url, by_path = signing("by-url", "{url}|{body}"), signing("by-path", "{path}|{body}")


def signature(text: str) -> dict[str, str]:
    return {"X-Signature": hmac.new(SECRET.encode(), text.encode(), hashlib.sha256).hexdigest()}


SOURCES = {"by-url": {"secrets": [SECRET]}, "by-path": {"secrets": [SECRET]}}
DIALECTS = [f"{__name__}:by_url", f"{__name__}:by_path"]

#: The ends of an address that lead to a source.
ENDS = ["", "/", "?a=b&c", "/?a=b&c", "?"]


@pytest.mark.parametrize(
    ("public_url", "registered"),
    [
        ("https://hooks.example.com", "https://hooks.example.com/hooks/by-url"),
        ("https://hooks.example.com/", "https://hooks.example.com/hooks/by-url"),
        ("https://hooks.example.com//", "https://hooks.example.com/hooks/by-url"),
        ("https://hooks.example.com/pim", "https://hooks.example.com/pim/hooks/by-url"),
        ("https://hooks.example.com:8443/pim/", "https://hooks.example.com:8443/pim/hooks/by-url"),
    ],
)
def test_a_slash_at_the_end_of_the_public_url_changes_no_address(public_url, registered):
    settings = Settings(public_url=public_url, sources={"by-url": {"secrets": ["a"]}})
    assert settings.sources["by-url"].registered_url == registered


@pytest.mark.parametrize(
    ("registered", "called", "url"),
    [
        ("https://a.example/in", "/hooks/s", "https://a.example/in"),
        ("https://a.example/in", "/hooks/s/", "https://a.example/in/"),
        ("https://a.example/in/", "/hooks/s", "https://a.example/in/"),
        ("https://a.example/in/", "/hooks/s/", "https://a.example/in/"),
        ("https://a.example/in/", "/hooks/s?x=1", "https://a.example/in/?x=1"),
        ("https://a.example/in", "/hooks/s/?x=1", "https://a.example/in/?x=1"),
        ("https://a.example/in", "/pim//hooks/s?x=/", "https://a.example/in?x=/"),
        ("https://a.example/", "/hooks/s", "https://a.example/"),
    ],
)
def test_the_url_is_the_registered_one_with_the_query_and_the_slash_of_the_request(registered, called, url):
    request = WebhookRequest(b"", target=called.encode(), public_url=registered)
    assert (request.url, request.path) == (url, url.removeprefix("https://a.example"))


ROOTS = {"at the top": "", "below /": "/", "below /pim": "/pim", "below /pim/": "/pim/"}


@pytest.fixture(scope="module", params=ROOTS.values(), ids=ROOTS)
def root_path(request):
    return request.param


@pytest.fixture(scope="module", params=[FastPathProtocol, "httptools", "h11"], ids=["fast path", "httptools", "h11"])
def served(request, root_path, tmp_path_factory):
    url = f"sqlite:///{tmp_path_factory.mktemp('urls') / 'hookmirror.db'}"
    given = {"sources": SOURCES, "dialects": DIALECTS, "public_url": f"https://hooks.example.com{root_path}"}
    with serving(url, one_write=True, http=request.param, root_path=root_path, **given) as running:
        yield running


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("source", ["by-url", "by-path"])
def test_the_signed_address_is_the_one_that_the_sender_called(served, root_path, source, end):
    path = f"{root_path.rstrip('/')}/hooks/{source}{end}"
    # An address with an empty query is written with its question mark by hardly any client, and signed without it.
    said = path.rstrip("?")
    text = f"https://hooks.example.com{said}" if source == "by-url" else said
    body = f'{{"end": "{end}"}}'
    answer = served.post(f"{source}{end}", body.encode(), signature(f"{text}|{body}"))
    assert answer.status_code == 200, answer.text
    answer = served.post(f"{source}{end}", body.encode(), signature(f"{text}x|{body}"))
    assert (answer.status_code, answer.json()["error"]) == (401, "signature_wrong")


@pytest.mark.parametrize("http", [FastPathProtocol, "httptools"], ids=["fast path", "httptools"])
@pytest.mark.parametrize("root_path", ["/", "/pim", "/pim/"])
def test_without_a_public_url_the_signed_path_is_that_of_the_request_below_the_root_path(tmp_path, http, root_path):
    given = {"sources": {"by-path": {"secrets": [SECRET]}}, "dialects": DIALECTS}
    url = f"sqlite:///{tmp_path / 'hookmirror.db'}"
    with serving(url, one_write=True, http=http, root_path=root_path, **given) as served:
        for end in ("", "/", "?a=b"):
            answer = served.post(f"by-path{end}", b"{}", signature(f"{root_path.rstrip('/')}/hooks/by-path{end}|{{}}"))
            assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    ("signed", "url", "fits"),
    [
        ("{url}{body}", "https://магазин.example/hooks/a", False),
        ("{url}{body}", "https://hooks.example/каталог/hooks/a", False),
        ("{path}{body}", "https://hooks.example/каталог/hooks/a", False),
        ("{path}{body}", "https://магазин.example/hooks/a", True),
        ("{body}", "https://магазин.example/каталог/hooks/a", True),
    ],
)
def test_a_signed_url_that_nobody_calls_as_it_is_written_is_refused_at_the_start(signed, url, fits):
    verifier = Signature(signed, at=Header("X-Signature"))
    flaw = verifier.check(Credentials(secrets=(Secret(b"a secret"),), public_url=url))
    assert (flaw is None) if fits else "which has only ASCII: write `public_url`" in str(flaw)


def test_the_message_about_a_signed_url_that_is_not_ascii_says_how_its_host_is_written():
    credentials = Credentials(secrets=(Secret(b"a secret"),), public_url="https://магазин.example/hooks/a")
    flaw = Signature("{url}{body}", at=Header("X-Signature")).check(credentials)
    assert str(flaw).endswith("with its host as `xn--80aairftm.example` and its path percent-encoded")
