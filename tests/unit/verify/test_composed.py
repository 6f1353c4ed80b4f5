"""Composed signatures: values that do not fit together, sources that cannot start, and the age of a signature."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from raw import raw_headers

from receiver import Credentials, Fresh, Header, HmacSha256, NotVerified, Secret, Signature, Token, WebhookRequest
from receiver.errors import ConfigurationError, WiringError

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
SIGN = Header("X-Sign")
FIELDS = Header("X-Sign", items=",", field="v1")

ONE = Credentials(secrets=(Secret(b"secret"),))
NONE = Credentials()

plain = Signature("{body}", at=SIGN)
dated = Signature("{header:X-Time}.{body}", at=SIGN, fresh=Fresh("{header:X-Time}"))
of_iso = Signature("{header:X-Time}.{body}", at=SIGN, fresh=Fresh("{header:X-Time}", unit="iso"))


def body_of(request: WebhookRequest) -> bytes:
    return request.body


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"by": "md5"}, "knows no algorithm 'md5'"),
        ({"key": "der"}, "knows no key 'der'"),
        ({"written": "octal"}, "knows no encoding 'octal'"),
        ({"by": "rsa_sha256"}, 'rsa_sha256 takes a public key: write key="pem"'),
        ({"signed": "{header:X-Id}"}, "does not cover the body, so a stranger could change it"),
        ({"signed": "{secret}{body}"}, "may not have it otherwise"),
        ({"by": "sha256"}, "needs {secret}"),
        ({"fresh": Fresh("{header:X-Time}")}, "not in the template, so a stranger could set it"),
        ({"signed": body_of, "fresh": Fresh("{header:X-Time}")}, "not in `covers`, so a stranger could set it"),
        ({"signed": body_of, "fresh": Fresh("{t}")}, "names a field of X-Sign, which has no fields"),
    ],
)
def test_values_that_do_not_fit_together_are_refused_at_import(values, says):
    with pytest.raises(WiringError, match=says):
        Signature(**{"signed": "{body}", "at": SIGN} | values)


def test_a_function_that_covers_the_header_of_the_time_may_have_it_checked():
    covering = Signature(body_of, at=SIGN, covers=("X-Time",), fresh=Fresh("{header:x-time}"))
    assert covering.signed_headers == {"x-time"}


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"time": "{body}"}, "names no header and no field"),
        ({"unit": "minutes"}, 'takes unit="seconds"'),
        ({"within": timedelta()}, "a time `within` above zero"),
    ],
)
def test_a_time_that_cannot_be_checked_is_refused_at_import(values, says):
    with pytest.raises(WiringError, match=says):
        Fresh(**{"time": "{t}"} | values)


@pytest.mark.parametrize(
    ("verifier", "credentials", "says"),
    [
        (plain, NONE, "it has no secret, and X-Sign cannot be verified without one"),
        (plain, Credentials(secrets=(Secret(b"a"), Secret(b" \n"))), "so that a stranger could sign"),
        (HmacSha256(header="X-Sign"), Credentials(secrets=(Secret(b""),)), "so that a stranger could sign"),
        (plain, Credentials(secrets=(Secret(b"a", "web_1"),)), "knows no webhook records"),
        (plain, replace(ONE, app_key="k"), "`app_key` is for encrypted bodies"),
        (Signature("{url}{body}", at=SIGN), ONE, "set `public_url`"),
        (Signature(body_of, at=SIGN, needs_url=True), ONE, "set `public_url`"),
        (Signature("{url}", at=SIGN), replace(ONE, public_url="https://bücher.example"), "xn--bcher-kva.example"),
        (Signature("{url}", at=SIGN), replace(ONE, public_url="https://a.example/ä"), "its path percent-encoded"),
    ],
)
def test_a_source_that_could_not_be_verified_does_not_start(verifier, credentials, says):
    assert says in (verifier.check(credentials) or "")


@pytest.mark.parametrize("verifier", [plain, HmacSha256(header="X-Sign"), Token(header="X-Sign")])
def test_without_a_secret_a_signature_is_accepted_only_with_allow_unsigned(verifier):
    request = WebhookRequest(b"{}", [(b"x-sign", b"00" * 32)])
    with pytest.raises(NotVerified) as caught:
        verifier.verify(request, NONE)
    assert caught.value.code == "signature_wrong"
    assert verifier.verify(request, Credentials(allow_unsigned=True)) == (b"{}", None, frozenset())


@pytest.mark.parametrize("verifier", [plain, Token(header="X-Sign")])
def test_a_request_without_a_signature_is_accepted_only_with_allow_unsigned(verifier):
    with pytest.raises(NotVerified) as caught:
        verifier.verify(WebhookRequest(b"{}"), ONE)
    assert caught.value.code == "signature_missing"
    assert verifier.verify(WebhookRequest(b"{}"), replace(ONE, allow_unsigned=True)).secret is None


@pytest.mark.parametrize("verifier", [plain, Token(header="X-Sign")])
def test_a_source_without_a_secret_starts_with_allow_unsigned_and_signs_nothing(verifier):
    allowed = Credentials(allow_unsigned=True)
    assert verifier.check(allowed) is None
    assert verifier.sign(WebhookRequest(b"{}"), allowed) == (b"{}", {})


def test_a_function_that_makes_no_bytes_is_told():
    with pytest.raises(TypeError, match="returned str instead of bytes"):
        Signature(lambda request: "text", at=SIGN).verify(WebhookRequest(b"", [(b"x-sign", b"00" * 32)]), ONE)


def test_a_key_that_cannot_sign_is_told():
    with pytest.raises(ConfigurationError, match="the secret is not hexadecimal digits"):
        Signature("{body}", at=SIGN, key="hex").sign(WebhookRequest(b""), Credentials(secrets=(Secret(b"x"),)))


# ── the age ───────────────────────────────────────────────────────────────────────────────────────────────────────


def arriving(verifier: Signature, after: timedelta, **headers: str) -> WebhookRequest:
    """Sign at noon, with these headers, and let the request arrive so much later."""
    given = raw_headers(headers)
    _, made = verifier.sign(WebhookRequest(b"{}", given, at=NOON), ONE)
    return WebhookRequest(b"{}", [*given, *raw_headers(made)], at=NOON + after)


def refusal(verifier: Signature, request: WebhookRequest) -> str:
    with pytest.raises(NotVerified) as caught:
        verifier.verify(request, ONE)
    return caught.value.code


@pytest.mark.parametrize("verifier", [dated, of_iso])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_signature_is_accepted_up_to_the_largest_age_and_no_second_longer(verifier, sign):
    limit = timedelta(minutes=5)
    assert verifier.verify(arriving(verifier, sign * limit), ONE).secret == 0
    assert refusal(verifier, arriving(verifier, sign * (limit + timedelta(seconds=1)))) == "signature_stale"


@pytest.mark.parametrize("time", ["", "noon", "-1", "1,5", "1" * 19, "\u0661"])
def test_a_signed_time_that_is_not_whole_seconds_is_refused(time):
    # A digit of another script is no digit here.
    headers = {"X-Time": time.encode().decode("latin-1")}
    assert refusal(dated, arriving(dated, timedelta(), **headers)) == "signature_malformed"


@pytest.mark.parametrize("time", ["2026-06-01T12:00:00", "1780315200", "noon"])
def test_a_signed_time_that_is_not_iso_8601_with_an_offset_is_refused(time):
    assert refusal(of_iso, arriving(of_iso, timedelta(), **{"X-Time": time})) == "signature_malformed"


def test_a_signed_time_beyond_every_calendar_is_refused_with_a_message():
    assert refusal(dated, arriving(dated, timedelta(), **{"X-Time": "9" * 18})) == "signature_stale"


def test_a_signature_whose_time_is_missing_is_refused():
    of_fields = Signature("{body}{t}", at=FIELDS, fresh=Fresh("{t}"))
    request = arriving(of_fields, timedelta())
    bare = [
        (name, b",".join(item for item in value.split(b",") if item[:2] != b"t=")) for name, value in request.headers
    ]
    assert refusal(of_fields, replace(request, headers=bare)) == "signature_missing"


def test_a_signature_by_a_function_whose_covered_time_is_missing_is_refused():
    covering = Signature(body_of, at=SIGN, covers=("X-Time",), fresh=Fresh("{header:X-Time}"))
    _, made = covering.sign(WebhookRequest(b"{}"), ONE)
    assert refusal(covering, WebhookRequest(b"{}", raw_headers({"X-Sign": made["X-Sign"]}))) == "signature_missing"
