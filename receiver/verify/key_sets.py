"""Key sets (JWKS, RFC 7517): public keys fetched from their owner on a separate thread, so that no request waits.

A request whose key has not been fetched yet is answered with 503, so that its sender retries.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from functools import cache
from time import monotonic
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx
import structlog
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from receiver import codec
from receiver.errors import NotVerified, Unavailable, Unreadable, WiringError
from receiver.http_calls import usable_environment
from receiver.logs.repeats import Repeats
from receiver.logs.safe_text import told_with_type
from receiver.verify.encodings import read_base64url

log = Repeats(structlog.get_logger(__name__))

#: Seconds after which a set is fetched again, seconds after which it expires, and seconds between two tries.
REFRESHED_AFTER, VALID_FOR, FETCH_PAUSE = 3_600.0, 86_400.0, 30.0

#: Limits of a fetch: seconds, bytes of the set, keys of the set, and redirects to the same host.
FETCH_SECONDS, LARGEST_SET, MOST_PUBLIC_KEYS, MOST_REDIRECTS = 10.0, 262_144, 64, 3

#: Seconds for connecting to one address of the host, after which the next address is tried.
CONNECT_SECONDS = 3.0

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class KeySet:
    """The public keys at one address. Safe to use from several threads."""

    def __init__(self, url: str, *, clock: Callable[[], float] = monotonic) -> None:
        """Create the set without fetching. Raises `WiringError` for a URL other than https, except on this machine."""
        parts = urlsplit(url)
        if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in LOOPBACK):
            raise WiringError(
                f"A key set is fetched by https, so strangers cannot replace its keys: write an https URL, not {url!r}."
            )
        self.url = url
        self._clock = clock
        self._lock = threading.Lock()
        self._keys: Mapping[str, Any] = {}
        self._fetched_at: float | None = None
        self._tried_at: float | None = None
        self._thread: threading.Thread | None = None

    def key(self, name: str) -> Any:
        """The public key of this name.

        Raises `Unavailable` until the set has been fetched, and `NotVerified` if the set lacks the key.
        """
        now = self._clock()
        with self._lock:
            age = None if self._fetched_at is None else now - self._fetched_at
            found = self._keys.get(name) if age is not None and age < VALID_FOR else None
            if found is None or age is None or age > REFRESHED_AFTER:
                self._fetch_soon(now)
            is_recent = age is not None and age <= FETCH_PAUSE
        if found is not None:
            return found
        if is_recent:
            raise NotVerified("signature_wrong", "The key set of this sender has no key of the name in the signature.")
        raise Unavailable("The keys of this sender are being fetched. Send it again later.", retry_after=5)

    def begin(self) -> None:
        """Begin to fetch missing keys, so that the first request need not wait for them. Does not block."""
        with self._lock:
            if self._fetched_at is None:
                self._fetch_soon(self._clock())

    def _fetch_soon(self, now: float) -> None:
        is_under_way = self._thread is not None and self._thread.is_alive()
        if is_under_way or (self._tried_at is not None and now - self._tried_at < FETCH_PAUSE):
            return
        self._tried_at = now
        self._thread = threading.Thread(target=self._fetch, name="key-set", daemon=True)
        self._thread.start()

    def _fetch(self) -> None:
        try:
            with usable_environment("The keys cannot be fetched"):
                keys = public_keys(self._content())
        except Exception as error:
            about = {"url": self.url}
            log.warning("cannot fetch the keys of a sender", about=about, error=told_with_type(error))
            return
        with self._lock:
            self._keys, self._fetched_at = keys, self._clock()

    def _content(self) -> bytes:
        """Download the document. Raises `ValueError` for a document too large or too slow, or a redirect elsewhere."""
        url, timeout = self.url, httpx.Timeout(FETCH_SECONDS, connect=CONNECT_SECONDS)
        with httpx.Client(timeout=timeout, follow_redirects=False) as client:
            for _ in range(MOST_REDIRECTS + 1):
                with client.stream("GET", url) as answer:
                    if not answer.is_redirect:
                        answer.raise_for_status()
                        # Addresses that drop packets take no time from the answer of another one.
                        return _bounded(answer, monotonic() + FETCH_SECONDS)
                    target = urljoin(url, answer.headers.get("location", ""))
                if urlsplit(target)[:2] != urlsplit(self.url)[:2]:
                    raise ValueError("it redirects to another host, and such redirects are not followed")
                url = target
        raise ValueError("it redirects too often")


def _bounded(answer: httpx.Response, until: float) -> bytes:
    """Read the content until a moment of the monotonic clock. Raises `ValueError` if it is late or too large."""
    content = b""
    for part in answer.iter_bytes():
        content += part
        # The client's time limit starts again with each part, so single bytes could prolong the fetch without end.
        if monotonic() > until:
            raise ValueError(f"it took longer than {FETCH_SECONDS:g} s")
        if len(content) > LARGEST_SET:
            raise ValueError(f"it is larger than {LARGEST_SET} bytes")
    return content


@cache
def key_set(url: str) -> KeySet:
    """The key set at this address, shared by all sources. Raises `WiringError`.

    The cache is unbounded, because only settings name key sets.
    """
    return KeySet(url)


def public_keys(document: bytes) -> dict[str, Any]:
    """The keys of a set by their names, without the kinds that no verifier uses.

    Raises `ValueError` for a document that is not a key set.
    """
    try:
        found = codec.decode(document)
    except Unreadable as error:
        raise ValueError(f"it is not JSON: {error}") from None
    listed = found.get("keys") if isinstance(found, dict) else None
    if not isinstance(listed, list) or len(listed) > MOST_PUBLIC_KEYS:
        raise ValueError(f"it has no list `keys` of at most {MOST_PUBLIC_KEYS}")
    keys = {}
    for each in listed:
        if isinstance(each, dict) and isinstance(each.get("kid"), str) and each.get("use", "sig") == "sig":
            key = _public_key(each)
            if key is not None:
                keys[each["kid"]] = key
    return keys


def _public_key(jwk: Mapping[str, Any]) -> Any:
    try:
        if jwk.get("kty") == "RSA":
            return rsa.RSAPublicNumbers(_number(jwk["e"]), _number(jwk["n"])).public_key()
        if jwk.get("kty") == "EC" and jwk.get("crv") == "P-256":
            return ec.EllipticCurvePublicNumbers(_number(jwk["x"]), _number(jwk["y"]), ec.SECP256R1()).public_key()
        if jwk.get("kty") == "OKP" and jwk.get("crv") == "Ed25519":
            return ed25519.Ed25519PublicKey.from_public_bytes(read_base64url(jwk["x"].encode()))
    except (KeyError, ValueError, AttributeError, TypeError):
        return None
    return None


def _number(text: str) -> int:
    return int.from_bytes(read_base64url(text.encode()))
