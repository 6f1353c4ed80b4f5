"""AES bodies: each layout encrypted and decrypted, the wrappers, and what strangers may send."""

from __future__ import annotations

import gc
import json
import sys
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver import codec
from receiver.errors import NotVerified
from receiver.verify.ciphers import CIPHERS, EncryptedBody
from receiver.verify.layouts import LAYOUTS, Undecryptable
from receiver.verify.request import WebhookRequest
from receiver.verify.verifiers import Credentials, Secret

PHRASE = b"0123456789abcdefghijABCDEFGHIJ45"
OTHER = b"ZYXWVUTSRQPONMLKJIHGFEDCBA987654"
KEYLESS = frozenset({"message", "reference", "URL"})
BODY = b'{"clientAppKey":"app_key_here","type":"product.deleted","n":1.10}'
ENCRYPTED = sorted(LAYOUTS)

#: BODY as written by `openssl enc -aes-256-cbc -md md5 -salt -a -A -k "$PHRASE"` of OpenSSL 3.0.
OPENSSL_SAMPLE = (
    b"U2FsdGVkX1+UsqU9HtLe0qulEV/v4BpkljZrmxem/4kR4J/x5CMZN8UsD0Sx6vFL"
    b"PnkUqceqVRtE12txhUxWwTvG0Rs14DWRvUDBfTSxnqKY/mWejxlu+khd4fpXnjVS"
)

verifier = EncryptedBody(app_key_member="clientAppKey", keyless=KEYLESS)


def credentials(cipher: str = "auto", *phrases: bytes, app_key: str | None = "app_key_here") -> Credentials:
    return Credentials(secrets=tuple(map(Secret, phrases or (PHRASE,))), app_key=app_key, cipher=cipher)


def refusal(body: bytes, with_credentials: Credentials) -> str:
    with pytest.raises(NotVerified) as caught:
        verifier.verify(WebhookRequest(body), with_credentials)
    return caught.value.code


@given(plain=st.binary(max_size=200))
@pytest.mark.parametrize("layout", ENCRYPTED)
def test_every_layout_decrypts_what_it_encrypted(layout, plain):
    assert LAYOUTS[layout].decrypt(LAYOUTS[layout].encrypt(plain, PHRASE), PHRASE) == (plain, True)


@given(sealed=st.binary(max_size=100))
@pytest.mark.parametrize("layout", ENCRYPTED)
def test_any_bytes_are_undecryptable_or_decrypt_to_something(layout, sealed):
    with suppress(Undecryptable):
        assert isinstance(LAYOUTS[layout].decrypt(sealed, PHRASE)[0], bytes)


@pytest.mark.parametrize("setting", ["auto", "same"])
@pytest.mark.parametrize("layout", ENCRYPTED)
def test_a_body_is_read_by_its_own_cipher_and_by_auto(layout, setting):
    sealed, headers = verifier.sign(WebhookRequest(BODY), credentials(layout))
    assert headers == {}
    assert verifier.verify(WebhookRequest(sealed), credentials(layout if setting == "same" else "auto")).plain == BODY


@pytest.mark.parametrize("layout", ENCRYPTED)
def test_a_body_of_another_cipher_is_refused(layout):
    other = "aes-256-gcm" if layout != "aes-256-gcm" else "aes-256-cbc"
    sealed, _ = verifier.sign(WebhookRequest(BODY), credentials(layout))
    assert refusal(sealed, credentials(other)) == "not_decryptable"


@pytest.mark.parametrize("layout", ENCRYPTED)
def test_a_wrong_phrase_is_refused(layout):
    sealed, _ = verifier.sign(WebhookRequest(BODY), credentials(layout, OTHER))
    assert refusal(sealed, credentials(layout, PHRASE)) == "not_decryptable"


def test_a_body_written_by_openssl_itself_is_read():
    assert verifier.verify(WebhookRequest(OPENSSL_SAMPLE), credentials("openssl-salted")).plain == BODY


def test_during_a_rotation_both_phrases_decrypt_and_the_one_used_is_returned():
    sealed, _ = verifier.sign(WebhookRequest(BODY), credentials("aes-256-cbc", OTHER))
    assert verifier.verify(WebhookRequest(sealed), credentials("auto", PHRASE, OTHER)).secret == 1
    assert verifier.verify(WebhookRequest(sealed), credentials("auto", OTHER, PHRASE)).secret == 0


@pytest.mark.parametrize(
    "wrap",
    [
        pytest.param(lambda text: text, id="base64 text"),
        pytest.param(lambda text: b"\r\n " + text + b"\n", id="space around it"),
        pytest.param(lambda text: text[:40] + b"\r\n" + text[40:], id="broken into lines"),
        pytest.param(lambda text: json.dumps(text.decode()).encode(), id="a JSON string"),
        pytest.param(lambda text: json.dumps({"data": text.decode()}).encode(), id="a JSON object"),
        pytest.param(
            lambda text: json.dumps({"v": 1, "data": text.decode()}).encode(), id="a JSON object with a number"
        ),
    ],
)
def test_wrapped_bodies_are_unwrapped(wrap):
    sealed, _ = verifier.sign(WebhookRequest(BODY), credentials())
    assert verifier.verify(WebhookRequest(wrap(sealed)), credentials()).plain == BODY


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not base64!",
        b'{"a": "QUFB", "b": "QUFB"}',
        b"{}",
        b"[]",
        b'"',
        b"\xff\xfe",
        b'{"data": "\\ud800"}',
        b'{"data": "\\u00e9"}',
        b'{"data":' * 10_000,
        b64encode(b"short"),
        b64encode(bytes(48)),
        BODY,
    ],
)
@pytest.mark.parametrize("cipher", ["auto", *ENCRYPTED])
def test_a_body_that_is_not_encrypted_is_refused_as_not_decryptable(cipher, body):
    assert refusal(body, credentials(cipher)) == "not_decryptable"


def test_an_encrypted_body_that_is_not_an_object_is_refused():
    sealed, _ = verifier.sign(WebhookRequest(b"[1, 2]"), credentials())
    assert refusal(sealed, credentials()) == "not_decryptable"


@given(body=st.binary(max_size=300))
@pytest.mark.parametrize("cipher", CIPHERS)
def test_any_bytes_of_a_stranger_are_refused_with_a_reason(cipher, body):
    assert refusal(body, credentials(cipher)) in ("not_decryptable", "app_key_wrong")


@pytest.mark.parametrize("found", ['"app_key_herE"', '""', "null", "1", '["app_key_here"]', '"\\u00e9"'])
def test_a_body_with_another_application_key_is_refused(found):
    sealed, _ = verifier.sign(WebhookRequest(b'{"clientAppKey":%s,"type":"x"}' % found.encode()), credentials())
    assert refusal(sealed, credentials()) == "app_key_wrong"


def test_a_body_without_an_application_key_is_refused():
    sealed, _ = verifier.sign(WebhookRequest(b'{"type":"product.deleted"}'), credentials())
    assert refusal(sealed, credentials()) == "app_key_wrong"


def test_the_sender_s_test_event_needs_no_application_key():
    sealed, _ = verifier.sign(WebhookRequest(b'{"message":"m","reference":"r","URL":"u"}'), credentials())
    assert verifier.verify(WebhookRequest(sealed), credentials()).secret == 0


def test_the_test_event_with_further_members_needs_the_application_key():
    sealed, _ = verifier.sign(
        WebhookRequest(b'{"message":"m","reference":"r","URL":"u","type":"product.deleted"}'), credentials()
    )
    assert refusal(sealed, credentials()) == "app_key_wrong"


def test_without_a_cipher_a_plain_body_is_accepted_by_its_application_key():
    verified = verifier.verify(WebhookRequest(BODY), credentials("none"))
    assert (verified.plain, verified.secret) == (BODY, None)


def test_without_a_cipher_the_test_event_is_refused():
    assert refusal(b'{"message":"m","reference":"r","URL":"u"}', credentials("none")) == "app_key_wrong"


def test_auto_never_accepts_a_plain_body():
    assert refusal(BODY, credentials("auto")) == "not_decryptable"


@pytest.mark.parametrize(
    ("wrong", "advice"),
    [
        (credentials("rot13"), "choose one of"),
        (credentials(app_key=None), "set `app_key`"),
        (Credentials(app_key="k"), "set `secrets"),
        (credentials("auto", b"short"), "exactly 32 characters"),
        (credentials("auto", b"0123456789abcdefghijABCDEFGHIJ4!"), "exactly 32 characters"),
    ],
)
def test_a_source_with_wrong_credentials_is_refused_with_advice(wrong, advice):
    problem = verifier.check(wrong)
    assert problem is not None
    assert advice in problem


@pytest.mark.parametrize("cipher", CIPHERS)
def test_a_source_with_a_phrase_and_an_application_key_can_start(cipher):
    assert verifier.check(credentials(cipher)) is None


@pytest.mark.parametrize("written", [b'"app_key_here"', b'"app\\u005fkey_here"'], ids=["as it is", "with escapes"])
def test_the_application_key_is_removed_from_the_stored_body(written):
    verifier = EncryptedBody(app_key_member="clientAppKey")
    plain = b'{"type": "x", "clientAppKey": ' + written + b', "n": 1.10}'
    stored = verifier.redact(plain, Credentials(app_key="app_key_here"))
    assert codec.decode(stored) == {"type": "x", "clientAppKey": "(not stored)", "n": Decimal("1.10")}


def test_allow_unsigned_is_possible_with_plain_bodies():
    assert verifier.check(Credentials(app_key="key", cipher="none", allow_unsigned=True)) is None


@given(
    turns=st.lists(st.tuples(st.sampled_from(ENCRYPTED), st.sampled_from([PHRASE, OTHER]), st.binary(max_size=60))),
    strange=st.binary(max_size=80),
)
def test_kept_decryptors_forget_every_body_before(turns, strange):
    for layout, phrase, plain in turns:
        with suppress(Undecryptable):
            LAYOUTS[layout].decrypt(strange, phrase)
        assert LAYOUTS[layout].decrypt(LAYOUTS[layout].encrypt(plain, phrase), phrase) == (plain, True)


@pytest.mark.parametrize("layout", ENCRYPTED)
def test_a_body_with_one_more_byte_is_refused(layout):
    with pytest.raises(Undecryptable):
        LAYOUTS[layout].decrypt(LAYOUTS[layout].encrypt(BODY, PHRASE) + b"x", PHRASE)


def cut(layout: str, plain: bytes) -> bytes:
    """Encrypt whole blocks without any padding, so that their own last bytes stand in its place."""
    assert len(plain) % 16 == 0
    return LAYOUTS[layout].encrypt(plain, PHRASE)[:-16]


@pytest.mark.parametrize("layout", ["aes-256-cbc", "aes-256-ecb", "openssl-salted"])
@pytest.mark.parametrize("end", [b"\0", b"-\2", b"--\3\3", b"\1\20", b"\21" * 16, b" "])
def test_only_the_padding_of_pkcs7_is_right(layout, end):
    plain = (b"-" * 32 + end)[-32:]
    assert LAYOUTS[layout].decrypt(cut(layout, plain), PHRASE) == (plain[:-1], False)


@pytest.mark.parametrize("key", ["app_key_here", "another"])
def test_a_body_with_a_wrong_padding_is_refused_alike_whatever_its_application_key_is(key):
    plain = b'{"clientAppKey":"%b"}' % key.encode()
    sealed = b64encode(cut("aes-256-cbc", plain.ljust(48)))
    assert refusal(sealed, credentials("aes-256-cbc")) == "not_decryptable"


def test_without_a_test_event_an_empty_object_needs_the_application_key():
    sealed = b64encode(LAYOUTS["aes-256-gcm"].encrypt(b"{}", PHRASE))
    with pytest.raises(NotVerified) as caught:
        EncryptedBody(app_key_member="clientAppKey").verify(WebhookRequest(sealed), credentials("aes-256-gcm"))
    assert caught.value.code == "app_key_wrong"


def test_threads_decrypt_at_the_same_time():
    bodies = [bytes([number]) * 50_000 for number in range(8)]
    sealed = [LAYOUTS["aes-256-cbc"].encrypt(body, PHRASE) for body in bodies]
    with ThreadPoolExecutor(max_workers=len(bodies)) as threads:
        opened = threads.map(lambda each: [LAYOUTS["aes-256-cbc"].decrypt(each, PHRASE) for _ in range(20)], sealed)
    assert [set(each) for each in opened] == [{(body, True)} for body in bodies]


@pytest.mark.parametrize("key", ['"app_key_here"', '"app\\u005fkey_here"'])
def test_a_damaged_block_is_refused_although_the_key_is_right(key):
    plain = b'{"clientAppKey":%s,"name":"%s"}' % (key.encode(), b"x" * 64)
    sealed = bytearray(LAYOUTS["aes-256-cbc"].encrypt(plain, PHRASE))
    reasons = set()
    for damage in range(32):
        changed = sealed.copy()
        # This block becomes random bytes, in the middle of the name.
        changed[-48] ^= 1 + damage
        reasons.add(refusal(b64encode(changed), credentials("aes-256-cbc")))
    assert reasons == {"not_decryptable"}


def test_escapes_elsewhere_in_a_body_keep_their_bytes_when_the_key_is_redacted():
    plain = b'{"clientAppKey":"app_key_here","link":"https:\\/\\/shop.example\\/1","n":1.10}'
    assert verifier.redact(plain, credentials()) == plain.replace(b"app_key_here", b"(not stored)")


def test_a_key_spelled_with_escapes_is_redacted_beside_one_spelled_out():
    redacted = verifier.redact(b'{"clientAppKey":"app\\u005fkey_here","note":"app_key_here"}', credentials())
    assert redacted == b'{"clientAppKey":"(not stored)","note":"(not stored)"}'


def test_a_key_spelled_with_escapes_is_redacted():
    redacted = verifier.redact(b'{"clientAppKey":"app\\u005fkey_here","n":1.10}', credentials())
    assert redacted == b'{"clientAppKey":"(not stored)","n":1.10}'


@pytest.mark.parametrize("name", ["clientAppKey", "client\\u0041ppKey"])
def test_a_usual_body_is_verified_without_decoding_its_other_members(monkeypatch, name):
    sealed, _ = verifier.sign(WebhookRequest(BODY.replace(b"clientAppKey", name.encode())), credentials())
    monkeypatch.setattr(codec, "decode", lambda _: pytest.fail("the whole body was decoded"))
    assert verifier.verify(WebhookRequest(sealed), credentials()).secret == 0


@pytest.mark.parametrize(
    "body",
    [
        BODY.decode().encode("utf-16"),
        b"\xef\xbb\xbf" + BODY,
        BODY.replace(b'"type"', b'"half":"\\ud800","type"'),
        b'{"clientAppKey":"another",' + BODY[1:],
    ],
)
def test_an_unusual_body_with_the_right_key_is_verified_by_decoding_it(body):
    sealed = b64encode(LAYOUTS["aes-256-cbc"].encrypt(body, PHRASE))
    assert verifier.verify(WebhookRequest(sealed), credentials()).plain == body


def test_a_deeply_nested_body_is_refused_without_its_key():
    sealed = b64encode(LAYOUTS["aes-256-cbc"].encrypt(b'{"a":' * 100_000, PHRASE))
    assert refusal(sealed, credentials()) == "not_decryptable"


def steps(body: bytes, with_credentials: Credentials) -> list[str]:
    """The names of the functions that run while the body is refused, without the comparison with the padding itself."""
    called: list[str] = []

    def note(frame, event, argument):
        if event in ("call", "c_call"):
            called.append(argument.__name__ if event == "c_call" else frame.f_code.co_name)

    # Hypothesis notes each run of the garbage collector by a function of its own.
    gc.disable()
    sys.setprofile(note)
    try:
        with pytest.raises(NotVerified) as caught:
            verifier.verify(WebhookRequest(body), with_credentials)
    finally:
        sys.setprofile(None)
        gc.enable()
    assert caught.value.code == "not_decryptable"
    return [name for name in called if name != "endswith"]


#: Bytes before the padding of one byte, which a stranger may choose or know.
BEFORE_PADDING = {
    "one block of noise": bytes(range(130, 145)),
    "much noise": b"{" + bytes(range(130, 246)) * 40 + bytes(range(130, 136)),
    "text": b'{"clientAppKey": "' + b"x" * 93,
    "text with the key, and noise behind it": b'{"clientAppKey": "' + b'app_key_here"}' + bytes([0x9C]) * 91,
}


def with_right_and_wrong_padding(cipher: str, content: bytes, length: int = 1) -> tuple[bytes, bytes]:
    """Encrypt the content, filled up to whole blocks, with a right padding of this length and with a wrong one."""
    content += bytes(-(len(content) + length) % 16)
    layout = LAYOUTS["aes-256-cbc" if cipher == "auto" else cipher]
    # Always the same vector, because `auto` also tries layouts in which it decrypts to noise.
    right = layout.encrypt(content, PHRASE, bytes)
    # Another last byte, encrypted as a whole block with a block of padding behind it, which is cut off.
    wrong = layout.encrypt(content + bytes([length]) * (length - 1) + b"\x80", PHRASE, bytes)[:-16]
    assert len(right) == len(wrong)
    return b64encode(right), b64encode(wrong)


@pytest.mark.parametrize("cipher", ["auto", "aes-256-cbc", "aes-256-ecb", "openssl-salted"])
@pytest.mark.parametrize("about", BEFORE_PADDING)
def test_a_right_padding_takes_the_same_steps_as_a_wrong_one(cipher: str, about: str):
    right, wrong = with_right_and_wrong_padding(cipher, BEFORE_PADDING[about])
    with_credentials = credentials(cipher)
    steps(right, with_credentials)
    assert steps(right, with_credentials) == steps(wrong, with_credentials)


@pytest.mark.parametrize("length", range(1, 17))
def test_a_right_padding_of_each_length_takes_the_same_steps_as_a_wrong_one(length: int):
    right, wrong = with_right_and_wrong_padding("aes-256-cbc", BEFORE_PADDING["much noise"], length)
    with_credentials = credentials("aes-256-cbc", b"7" * 32, PHRASE)
    steps(right, with_credentials)
    assert steps(right, with_credentials) == steps(wrong, with_credentials)
