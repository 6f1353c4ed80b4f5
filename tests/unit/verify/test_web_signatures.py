"""Web signatures with fetched keys: which verify, which are refused, and what happens until the keys are there."""

from __future__ import annotations

import json
import socket
import sys
import threading
from base64 import urlsafe_b64encode
from contextlib import suppress
from datetime import UTC, datetime
from hashlib import sha256
from time import sleep
from typing import Any
from urllib.parse import urlsplit

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from dropping import DROPPING, dropping
from structlog.testing import capture_logs
from stub_servers import Stub, answering
from waiting import TIMEOUT, wait_until

from receiver import Dialect
from receiver.dialects.sources import Source, begin_fetching
from receiver.errors import ConfigurationError, NotVerified, Unavailable, WiringError
from receiver.settings.settings import source_settings
from receiver.verify import key_sets
from receiver.verify.key_sets import KeySet, key_set, public_keys
from receiver.verify.request import WebhookRequest
from receiver.verify.verifiers import Credentials
from receiver.verify.web_signatures import BodyHashJwt, DetachedJws

# Making a longer one takes long.
RSA = rsa.generate_private_key(public_exponent=65537, key_size=1024)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()
AT = datetime(2026, 6, 1, 12, tzinfo=UTC)
BODY = b'{"id": "lamp"}'


def b64(content: bytes) -> bytes:
    return urlsafe_b64encode(content).rstrip(b"=")


def number(value: int) -> str:
    return b64(value.to_bytes((value.bit_length() + 7) // 8)).decode()


def key_document() -> bytes:
    r, e = RSA.public_key().public_numbers(), EC.public_key().public_numbers()
    keys = [
        {"kty": "RSA", "kid": "r1", "use": "sig", "n": number(r.n), "e": number(r.e)},
        {
            "kty": "EC",
            "kid": "e1",
            "crv": "P-256",
            "x": b64(e.x.to_bytes(32)).decode(),
            "y": b64(e.y.to_bytes(32)).decode(),
        },
        {"kty": "OKP", "kid": "d1", "crv": "Ed25519", "x": b64(ED.public_key().public_bytes_raw()).decode()},
        {"kty": "oct", "kid": "secret", "k": "AAAA"},
        {"kty": "RSA", "kid": "bad", "n": "!"},
        "nothing",
    ]
    return json.dumps({"keys": keys}).encode()


class Keys(Stub):
    #: Whether requests are answered.
    answers = threading.Event()
    answers.set()

    def get(self) -> None:
        assert self.answers.wait(TIMEOUT)
        path = self.path.partition("?")[0]
        if path in ("/elsewhere", "/moved"):
            self.send_response(302)
            self.send_header("Location", "http://localhost:9/keys" if path == "/elsewhere" else "/keys")
            self.end_headers()
            return
        if path == "/around":
            self.send_response(302)
            self.send_header("Location", "/around")
            self.end_headers()
            return
        self.send_response(500 if path == "/broken" else 200)
        self.end_headers()
        if path == "/dripping":
            with suppress(OSError):
                # Until it is given up.
                for _ in range(20 * 10 * int(TIMEOUT)):
                    self.wfile.write(b" ")
                    sleep(0.05)
            return
        self.wfile.write(b"x" * 300_000 if path == "/huge" else key_document())


@pytest.fixture(scope="module")
def host():
    with answering(Keys) as url:
        yield url


def rs256(text: bytes) -> bytes:
    return RSA.sign(text, padding.PKCS1v15(), hashes.SHA256())


def es256(text: bytes) -> bytes:
    r, s = decode_dss_signature(EC.sign(text, ec.ECDSA(hashes.SHA256())))
    return r.to_bytes(32) + s.to_bytes(32)


def head(**fields: Any) -> bytes:
    return b64(json.dumps(fields).encode())


UNENCODED = head(alg="RS256", kid="r1", b64=False, crit=["b64"])


def verified(verifier: Any, value: bytes, body: bytes = BODY) -> Any:
    """Verify with the fetched keys, and return the verdict."""

    def verdict() -> Any:
        with suppress(Unavailable):
            return [verifier.verify(WebhookRequest(body, [(b"x-jws", value)], at=AT), Credentials())]

    return wait_until(verdict, "the keys")[0]


def code(verifier: Any, value: bytes, body: bytes = BODY) -> str:
    with pytest.raises(NotVerified) as caught:
        verified(verifier, value, body)
    return caught.value.code


def test_a_detached_signature_over_the_body_as_it_is_verifies(host):
    jws = DetachedJws(header="X-Jws", keys=f"{host}/keys")
    value = UNENCODED + b".." + b64(rs256(UNENCODED + b"." + BODY))
    assert verified(jws, value).plain == BODY
    assert code(jws, value, BODY + b" ") == "signature_wrong"


def test_a_signature_over_the_encoded_body_verifies_even_if_the_keys_were_redirected_on_the_same_host(host):
    jws = DetachedJws(header="X-Jws", keys=lambda credentials: f"{host}/moved")
    first = head(alg="ES256", kid="e1")
    assert verified(jws, first + b".." + b64(es256(first + b"." + b64(BODY)))).plain == BODY


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"alg": "none", "kid": "r1"}, "signature_malformed"),
        ({"alg": "HS256", "kid": "r1"}, "signature_malformed"),
        ({"alg": "ES256", "kid": "r1"}, "signature_wrong"),
        ({"alg": "RS256"}, "signature_malformed"),
        ({"alg": "RS256", "kid": "secret"}, "signature_wrong"),
        ({"alg": "RS256", "kid": "r1", "crit": ["exp"]}, "signature_malformed"),
    ],
)
def test_another_algorithm_or_key_is_refused(host, fields, expected):
    jws, first = DetachedJws(header="X-Jws", keys=f"{host}/keys"), head(**fields)
    assert code(jws, first + b".." + b64(rs256(first + b"." + b64(BODY)))) == expected


@pytest.mark.parametrize(
    "value", [b"", b".", b"..", b"a.b.c", UNENCODED + b"..", UNENCODED + b".x.AAAA", b"\xff.." * 3, b"." * 9_000]
)
def test_any_other_text_in_the_header_is_refused(host, value):
    assert code(DetachedJws(header="X-Jws", keys=f"{host}/keys"), value) in ("signature_malformed", "signature_wrong")


#: The name of a key of each algorithm, and the function that signs with it.
SIGNERS = {"RS256": ("r1", rs256), "ES256": ("e1", es256), "EdDSA": ("d1", ED.sign)}


@pytest.mark.parametrize("algorithm", SIGNERS)
def test_with_each_algorithm_only_the_signed_body_verifies(host, algorithm):
    jws, (key, sign) = DetachedJws(header="X-Jws", keys=f"{host}/keys"), SIGNERS[algorithm]
    first = head(alg=algorithm, kid=key)
    value = first + b".." + b64(sign(first + b"." + b64(BODY)))
    assert verified(jws, value).plain == BODY
    assert code(jws, value, BODY + b" ") == "signature_wrong"


@pytest.mark.parametrize(
    ("algorithm", "key"),
    [(algorithm, key) for algorithm in SIGNERS for key in ("r1", "e1", "d1") if SIGNERS[algorithm][0] != key],
)
def test_a_signature_that_another_key_made_is_refused(host, algorithm, key):
    jws, first = DetachedJws(header="X-Jws", keys=f"{host}/keys"), head(alg=algorithm, kid=key)
    assert code(jws, first + b".." + b64(SIGNERS[algorithm][1](first + b"." + b64(BODY)))) == "signature_wrong"


def test_a_detached_signature_with_a_body_inside_is_refused(host):
    jws, first = DetachedJws(header="X-Jws", keys=f"{host}/keys"), head(alg="RS256", kid="r1")
    value = b".".join([first, b64(BODY), b64(rs256(first + b"." + b64(BODY)))])
    assert code(jws, value) == "signature_malformed"


def test_a_missing_and_a_long_header_are_refused_with_the_reason(host):
    for verifier in (
        DetachedJws(header="X-Jws", keys=f"{host}/keys"),
        BodyHashJwt(header="X-Jws", keys=f"{host}/keys"),
    ):
        with pytest.raises(NotVerified, match="There is no X-Jws") as caught:
            verifier.verify(WebhookRequest(BODY, at=AT), Credentials())
        assert caught.value.code == "signature_missing"
        with pytest.raises(NotVerified, match="is longer than"):
            verified(verifier, b"." * 9_000)


NOW = int(AT.timestamp())
HASH = sha256(BODY).hexdigest()


def token(first: bytes | None = None, **claims: Any) -> bytes:
    first = first or head(alg="ES256", kid="e1")
    middle = b64(json.dumps({"iat": NOW, "request_body_sha256": HASH} | claims).encode())
    return b".".join([first, middle, b64(es256(first + b"." + middle))])


def test_a_token_with_the_hash_of_the_body_verifies_within_its_time(host):
    jwt = BodyHashJwt(header="X-Jws", keys=f"{host}/keys")
    assert verified(jwt, token()).plain == BODY
    assert verified(jwt, token(request_body_sha256=HASH.upper())).plain == BODY
    assert code(jwt, token(), b"{}") == "signature_wrong"
    for sign in (1, -1):
        assert verified(jwt, token(iat=NOW + sign * 300)).plain == BODY
        assert code(jwt, token(iat=NOW + sign * 301)) == "signature_stale"


@pytest.mark.parametrize("odd", [10**400, -(10**400), 10**18, None, True, "1", 1.5])
def test_a_token_without_a_time_in_whole_seconds_is_refused(host, odd):
    assert code(BodyHashJwt(header="X-Jws", keys=f"{host}/keys"), token(iat=odd)) == "signature_malformed"


@pytest.mark.parametrize("odd", [None, 1, [HASH], "", "\u00e9", HASH[:-1]])
def test_a_token_without_the_hash_of_the_body_is_refused(host, odd):
    assert code(BodyHashJwt(header="X-Jws", keys=f"{host}/keys"), token(request_body_sha256=odd)) == "signature_wrong"


def test_a_token_with_changed_claims_is_refused(host):
    jwt, (first, _, signature) = BodyHashJwt(header="X-Jws", keys=f"{host}/keys"), token().split(b".")
    middle = b64(json.dumps({"iat": NOW, "request_body_sha256": sha256(b"{}").hexdigest()}).encode())
    assert code(jwt, b".".join([first, middle, signature]), b"{}") == "signature_wrong"


def test_a_token_that_claims_to_be_over_the_body_as_it_is_is_refused(host):
    jwt = BodyHashJwt(header="X-Jws", keys=f"{host}/keys")
    first = head(alg="ES256", kid="e1", b64=False, crit=["b64"])
    assert code(jwt, token(first)) == "signature_malformed"


def test_only_the_sender_signs(host):
    for verifier in (
        DetachedJws(header="X-Jws", keys=f"{host}/keys"),
        BodyHashJwt(header="X-Jws", keys=f"{host}/keys"),
    ):
        with pytest.raises(ConfigurationError, match="only its sender has the key"):
            verifier.sign(WebhookRequest(BODY), Credentials())


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/elsewhere", "redirects to another host"),
        ("/around", "redirects too often"),
        ("/broken", "500"),
        ("/huge", "is larger than 262144 bytes"),
    ],
)
def test_keys_that_cannot_be_fetched_are_a_503_and_a_line_in_the_log(host, path, says):
    keys = KeySet(f"{host}{path}")
    with capture_logs() as logs:
        with pytest.raises(Unavailable, match="are being fetched"):
            keys.key("r1")
        assert keys._thread is not None
        keys._thread.join(TIMEOUT)
    assert says in next(line["error"] for line in own(logs) if line["url"] == keys.url)
    with pytest.raises(Unavailable):
        keys.key("r1")


def test_names_that_strangers_invent_cause_one_fetch_in_a_while(monkeypatch):
    now, fetched = [0.0], []

    def fetch(keys: KeySet) -> None:
        fetched.append(now[0])
        keys._keys, keys._fetched_at = {"r1": RSA.public_key()}, now[0]

    monkeypatch.setattr(KeySet, "_fetch", fetch)
    keys = KeySet("https://shop.example/keys", clock=lambda: now[0])
    for now[0] in (0.0, 1.0, 29.0, 31.0, 32.0):
        for name in ("a", "b"):
            with pytest.raises((Unavailable, NotVerified)):
                keys.key(name)
            keys._thread.join(TIMEOUT)
    assert fetched == [0.0, 31.0]


def test_a_known_key_is_used_while_its_set_is_fetched_again_after_an_hour(monkeypatch):
    now, fetched = [0.0], []
    monkeypatch.setattr(KeySet, "_fetch", lambda keys: fetched.append(now[0]))
    keys = KeySet("https://shop.example/keys", clock=lambda: now[0])
    keys._keys, keys._fetched_at = {"r1": "the key"}, 0.0
    for now[0] in (3_600.0, 3_601.0):
        assert keys.key("r1") == "the key"
    keys._thread.join(TIMEOUT)
    assert fetched == [3_601.0]


def test_a_key_set_that_arrives_byte_by_byte_is_given_up_and_may_be_fetched_again(host, monkeypatch):
    monkeypatch.setattr(key_sets, "FETCH_SECONDS", 1.0)
    keys = KeySet(f"{host}/dripping")
    with capture_logs() as logs:
        keys.begin()
        assert keys._thread is not None
        keys._thread.join(TIMEOUT)
        assert not keys._thread.is_alive()
    (told,) = own(logs)
    assert "took longer than 1 s" in told["error"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has 127.0.0.2 without any set-up")
def test_a_key_set_is_fetched_although_the_first_address_of_its_host_drops_packets(host, monkeypatch):
    port = urlsplit(host).port

    def resolve(*_: Any, **__: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", (each, port)) for each in (DROPPING, "127.0.0.1")]

    monkeypatch.setattr(key_sets, "FETCH_SECONDS", 1.0)
    monkeypatch.setattr(key_sets, "CONNECT_SECONDS", 1.0)
    keys = KeySet(f"http://localhost:{port}/keys")
    with dropping(port), monkeypatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", resolve)
        keys.begin()
        keys._thread.join(TIMEOUT)
    assert keys.key("r1") is not None


def test_the_key_sets_of_many_sources_are_all_remembered():
    first = key_set("https://shop.example/keys?0")
    for number in range(1, 300):
        key_set(f"https://shop.example/keys?{number}")
    assert key_set("https://shop.example/keys?0") is first


def test_an_expired_key_set_is_not_used(host):
    now = [0.0]
    keys = KeySet(f"{host}/keys", clock=lambda: now[0])
    with pytest.raises(Unavailable):
        keys.key("r1")
    keys._thread.join(TIMEOUT)
    assert keys.key("r1") is not None
    keys.url = f"{host}/broken"
    now[0] = 90_000.0
    with pytest.raises(Unavailable):
        keys.key("r1")
    keys._thread.join(TIMEOUT)


@pytest.mark.parametrize("url", ["http://shop.example/keys", "ftp://127.0.0.1/keys", "keys"])
def test_keys_are_fetched_over_https_only(url):
    with pytest.raises(WiringError, match="by https"):
        KeySet(url)


@pytest.mark.parametrize("document", [b"", b"[]", b'{"keys": 1}', b'{"keys": %s}' % json.dumps(["x"] * 65).encode()])
def test_an_answer_that_is_not_a_key_set_is_refused(document):
    with pytest.raises(ValueError, match="it "):
        public_keys(document)


@pytest.mark.parametrize(
    "change",
    [
        {"use": "enc"},
        {"kid": 7},
        {"crv": "X25519"},
        {"crv": "P-256"},
        {"kty": "EC"},
        {"kty": "oct"},
        {"x": "AAAA"},
        {"x": 7},
        {"x": "!"},
    ],
)
def test_a_key_that_no_verifier_uses_is_left_out(change):
    usual = {"kty": "OKP", "kid": "d1", "crv": "Ed25519", "x": b64(ED.public_key().public_bytes_raw()).decode()}
    document = {"keys": [usual | change, usual | {"kid": "right"}]}
    assert public_keys(json.dumps(document).encode()).keys() == {"right"}


def test_a_secret_beside_a_key_set_is_refused_at_start():
    jws = DetachedJws(header="X-Jws", keys="https://shop.example/keys")
    assert "have no effect" in (jws.check(Credentials(allow_unsigned=True)) or "")
    assert jws.check(Credentials()) is None


# ── start ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def own(logs: Any) -> list[Any]:
    """Return the lines about keys, because other threads of the process log, too."""
    return [line for line in logs if line["event"] == "cannot fetch the keys of a sender"]


def new_source(url: str) -> Source:
    dialect = Dialect("signed", verify=DetachedJws(header="X-Jws", keys=url))
    return Source("signed", dialect, Credentials(), source_settings("signed", {}))


def test_a_server_that_starts_fetches_the_keys_before_the_first_request(host):
    source = new_source(f"{host}/keys?at-start")
    begin_fetching([source, source])
    wait_until(lambda: key_set(f"{host}/keys?at-start")._fetched_at)
    header = UNENCODED + b".." + b64(rs256(UNENCODED + b"." + BODY))
    assert source.dialect.verifier.verify(WebhookRequest(BODY, [(b"x-jws", header)], at=AT), Credentials())


def test_an_address_without_keys_does_not_delay_the_start_and_is_logged(host):
    with capture_logs() as logs:
        Keys.answers.clear()
        try:
            begin_fetching([new_source(f"{host}/broken?at-start"), new_source(f"{host}/elsewhere?at-start")])
            assert own(logs) == [], "the start goes on before an answer"
        finally:
            Keys.answers.set()
        wait_until(lambda: len(own(logs)) == 2, "both to be logged")
