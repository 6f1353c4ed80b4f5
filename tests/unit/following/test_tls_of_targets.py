"""The name and the encrypted connection of a target: the right host is asked, and a failure is told as what it is."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from targets import receiving
from waiting import TIMEOUT

from receiver.following.feed import FeedItem, MirrorKey
from receiver.following.target import PostVerdict, Target

ITEM = FeedItem(1, MirrorKey("products", "shop", "A1"), "mark", "key", b'{"external_id": "A1"}')


@pytest.fixture
def demanding(tmp_path, monkeypatch) -> Iterator[int]:
    """Run a server for erp.test that demands a certificate of its client; give its port."""
    file = tmp_path / "erp.pem"
    file.write_bytes(_certificate("erp.test"))
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(file)
    context.load_verify_locations(file)
    context.verify_mode = ssl.CERT_REQUIRED
    with socket.create_server(("127.0.0.1", 0)) as server, closing(_Refusing(server, context)):
        yield server.getsockname()[1]


class _Refusing:
    """Makes one handshake, which fails, and keeps the connection open until the end of the test."""

    def __init__(self, server: socket.socket, context: ssl.SSLContext) -> None:
        self._server, self._context = server, context
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._refuse, daemon=True)
        self._thread.start()

    def _refuse(self) -> None:
        connection, _ = self._server.accept()
        with self._context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False) as wrapped:
            with suppress(ssl.SSLError):
                wrapped.do_handshake()
            self._ended.wait(TIMEOUT)

    def close(self) -> None:
        self._ended.set()
        self._thread.join(TIMEOUT)


def _certificate(host: str) -> bytes:
    """Make a certificate that signs itself, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    form = serialization.PrivateFormat.PKCS8
    kept = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    return made.public_bytes(serialization.Encoding.PEM) + kept


def test_a_target_that_demands_a_certificate_is_not_told_as_an_unknown_host(demanding):
    url = f"https://erp.test:{demanding}/changes"
    with closing(Target(url, follower="erp", timeout=TIMEOUT, ask=lambda *_: ["127.0.0.1"])) as target:
        answer = target.post(ITEM, threading.Event())
    assert answer.verdict is PostVerdict.TROUBLE
    assert answer.says.startswith("The encrypted connection to erp.test broke (SSLError: ")
    assert "CERTIFICATE_REQUIRED" in answer.says
    assert "resolved" not in answer.says


def test_the_resolved_host_is_the_one_of_the_url_and_not_another_spelling():
    asked = []

    def ask(host: str, _: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"]

    # Python's own codec, which knows an older standard, would take this for fass.example.
    with receiving() as endpoint:
        url = f"http://fa\N{LATIN SMALL LETTER SHARP S}.example:{endpoint.port}/changes"
        with closing(Target(url, follower="erp", timeout=TIMEOUT, ask=ask)) as target:
            assert target.post(ITEM, threading.Event()).verdict is PostVerdict.ACCEPTED
    assert asked == ["xn--fa-hia.example"]
    assert endpoint.posts[0].headers["host"] == f"xn--fa-hia.example:{endpoint.port}"
