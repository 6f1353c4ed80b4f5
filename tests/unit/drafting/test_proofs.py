import base64
import hashlib
import hmac

import pytest

from receiver.drafting.captures import capture_of
from receiver.drafting.draft import draft
from receiver.drafting.proofs import proof_of, secret_header

DIGEST = hmac.new(b"secret", b"{}", hashlib.sha256)
HEX, BASE64 = DIGEST.hexdigest(), base64.b64encode(DIGEST.digest()).decode()
#: The digest that Sanity publishes has none of the signs by which base64 for URLs differs.
FOR_URLS = "tLa470fx7qkLLEcMOcEUFuBbRSkGujyskxrNXcoh0N0"


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"x-shop-signature": HEX}, 'HmacSha256(header="X-Shop-Signature")'),
        ({"x-shop-hmac": BASE64}, 'HmacSha256(header="X-Shop-Hmac", encoding="base64", prefix="")'),
        ({"x-sign": "v0=" + HEX}, 'Signature("{body}", at=Header("X-Sign", prefix="v0="))'),
        ({"x-sign": HEX[:40]}, 'Signature("{body}", at=Header("X-Sign"), by="hmac_sha1")'),
        ({"x-shop-signature": "zz"}, None),
        ({"x-request-id": HEX}, None),
        ({"stripe-signature": f"t=1,v1={HEX}"}, "Stripe()"),
        ({"x-hub-signature-256": f"sha256={HEX}", "x-hub-signature": f"sha1={HEX[:40]}"}, "GitHub()"),
        (
            {"webhook-id": "1", "webhook-timestamp": "1700000000", "webhook-signature": f"v1,{BASE64}"},
            "StandardWebhooks()",
        ),
        (
            {"webhook-id": "1", "webhook-timestamp": "1700000000", "webhook-signature": "v1a," + "QUFB" * 21 + "QQ=="},
            "StandardWebhooksPublicKey()",
        ),
        ({"x-akeneo-signature-primary": HEX}, "Akeneo()"),
        ({"x-hubspot-signature": HEX, "x-hubspot-signature-version": "v1"}, "HubSpotV1()"),
        ({"webhook-signature": HEX[:40]}, "Storyblok()"),
        ({"sanity-webhook-signature": f"t=1633519811129,v1={FOR_URLS}"}, "Sanity()"),
        (
            {"x-sign": f"t=1633519811129,s={FOR_URLS}"},
            'Signature("{t}.{body}", at=Header("X-Sign", items=",", field="s"), written="base64url", '
            'fresh=Fresh("{t}", unit="milliseconds"))',
        ),
        (
            {"paddle-signature": f"ts=1671552777;h1={HEX}"},
            'Signature("{ts}.{body}", at=Header("Paddle-Signature", items=";", field="h1"), fresh=Fresh("{ts}"))',
        ),
        (
            {"x-sign": f"t=1633519811,s={BASE64}"},
            'Signature("{t}.{body}", at=Header("X-Sign", items=",", field="s"), written="base64", fresh=Fresh("{t}"))',
        ),
    ],
)
def test_the_form_of_a_header_shows_its_kind_of_signature(headers, code):
    found = proof_of(headers, b"{}")
    assert (found and found.call.code) == code
    if found is not None:
        assert found.call.make() is not None


def test_a_time_beside_the_signature_is_assumed_to_be_signed():
    found = proof_of({"x-sign": HEX, "x-timestamp": "1700000000"}, b"{}")
    assert found.call.code == 'Signature("{X-Timestamp}.{body}", at=Header("X-Sign"), fresh=Fresh("{X-Timestamp}"))'
    assert not found.is_confirmed


@pytest.mark.parametrize(("between", "time"), [(".", "{X-Timestamp}."), ("", "{X-Timestamp}"), (":", "{X-Timestamp}:")])
def test_a_secret_confirms_the_signed_text(between, time):
    signed = hmac.new(b"secret", f"1700000000{between}{{}}".encode(), hashlib.sha256).hexdigest()
    found = proof_of({"x-sign": signed, "x-timestamp": "1700000000"}, b"{}", [b"other", b"secret"])
    assert f'Signature("{time}{{body}}"' in found.call.code
    assert found.is_confirmed


def test_a_secret_confirms_a_signature_in_a_list_with_semicolons():
    signed = hmac.new(b"secret", b"1671552777:{}", hashlib.sha256).hexdigest()
    found = proof_of({"paddle-signature": f"ts=1671552777;h1={signed}"}, b"{}", [b"secret"])
    assert ('"{ts}:{body}"' in found.call.code, found.is_confirmed) == (True, True)


@pytest.mark.parametrize(
    "headers",
    [
        {"saleor-signature": "eyJhbGciOiJSUzI1NiIsImI2NCI6ZmFsc2V9..abc-_def"},
        {"x-signature": HEX[:32]},
        {"x-salsify-signature-v1": "QUFB" * 85 + "QQ=="},
    ],
)
def test_a_header_named_like_a_signature_of_an_unknown_form_is_told_by_its_name(headers):
    made = draft("shop", capture_of(b'{"id": 1}', headers, name="shop"), origin="a test")
    (name,) = headers
    assert made.unknown[0].startswith(f"proof: {name.title()} is named like a signature")


def test_a_secret_confirms_that_a_time_is_not_signed():
    found = proof_of({"x-sign": HEX, "x-timestamp": "1700000000"}, b"{}", [b"secret"])
    assert (found.call.code, found.is_confirmed) == ('HmacSha256(header="X-Sign")', True)


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"x-square-hmacsha256-signature": BASE64}, "Square()"),
        ({"x-hubspot-signature": HEX}, "HubSpotV2()"),
        ({"x-twilio-signature": base64.b64encode(DIGEST.digest()[:20]).decode()}, "Twilio()"),
    ],
)
def test_a_signature_over_the_url_is_told_as_one_that_no_capture_can_confirm(headers, code):
    made = draft("shop", capture_of(b'{"id": 1}', headers, name="it"), origin="a test", secrets=[b"secret"])
    told = next(line for line in made.unknown if line.startswith("signature:"))
    assert told.startswith(f"signature: not confirmed, because {code} covers the URL")


def test_a_wrong_secret_confirms_nothing():
    assert not proof_of({"x-sign": HEX}, b"{}", [b"other"]).is_confirmed


def test_a_header_with_the_secret_itself_is_not_taken_for_a_signature():
    assert proof_of({"x-pump-token": "abc"}, b"{}") is None
    assert secret_header({"user-agent": "x", "x-pump-token": "abc"}) == "x-pump-token"


@pytest.mark.parametrize(("digest", "by"), [("sha512", "hmac_sha512"), ("sha1", "hmac_sha1"), ("sha256", None)])
@pytest.mark.parametrize(
    ("encode", "written"),
    [
        (bytes.hex, None),
        (lambda raw: base64.b64encode(raw).decode(), "base64"),
        (lambda raw: base64.urlsafe_b64encode(raw).rstrip(b"=").decode(), "base64url"),
    ],
)
@pytest.mark.parametrize("signed", ["{t}.{body}", "{t}{body}", "{t}:{body}", "{body}"])
def test_the_length_of_a_signature_beside_its_time_chooses_the_algorithm(digest, by, encode, written, signed):
    text = signed.replace("{t}", "1700000000").replace("{body}", "{}")
    value = encode(hmac.new(b"secret", text.encode(), digest).digest())
    found = proof_of({"x-comm": f"t=1700000000,s={value}", "x-sign": f"t=1700000000,s={value}"}, b"{}", [b"secret"])
    assert found.is_confirmed
    assert found.call.args == (signed,)
    assert (found.call.named.get("by"), found.call.named.get("written")) == (by, written)


def test_without_a_secret_the_length_chooses_the_algorithm():
    value = base64.b64encode(hmac.new(b"secret", b"1.{}", hashlib.sha512).digest()).decode()
    found = proof_of({"x-sign": f"t=1700000000,s={value}"}, b"{}")
    assert (found.call.args, found.call.named["by"], found.is_confirmed) == (("{t}.{body}",), "hmac_sha512", False)


@pytest.mark.parametrize(("secret", "key"), [(base64.b64encode(b"\0key"), "base64"), (b"\0key".hex().encode(), "hex")])
@pytest.mark.parametrize("before", ["", "sha256=", "v0="])
def test_a_secret_that_is_decoded_before_use_confirms_the_signature(secret, key, before):
    signed = hmac.new(b"\0key", b"{}", hashlib.sha256).hexdigest()
    found = proof_of({"x-sign": before + signed}, b"{}", [secret])
    assert (found.is_confirmed, found.call.named["key"]) == (True, key)


def test_the_forms_that_no_secret_confirmed_are_told_with_the_consequence():
    value = base64.b64encode(hmac.new(b"right", b"{}", hashlib.sha512).digest()).decode()
    capture = capture_of(b'{"type": "a.updated", "id": 1}', {"x-sign": f"t=1700000000,s={value}"}, name="it")
    made = draft("comm", capture, origin="a test", secrets=[b"wrong"], secrets_file="'S'")
    assert made.unknown[0] == (
        "signature: NOT confirmed: the secret in 'S' fits none of the 12 forms tried ({t}.{body}, {t}{body}, "
        "{t}:{body}, {body}; hmac_sha512; the secret as text, base64 or hexadecimal digits). Every webhook will be "
        "refused until you correct `verify=`"
    )
    assert not any("Give --secrets-file" in line for line in made.unknown)
