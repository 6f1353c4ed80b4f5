"""Certificates of AWS SNS, fetched by URL from Amazon's hosts only, on a thread of their own, and kept."""

import logging
import re
import threading
import time
from collections.abc import Callable

import httpx
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from receiver import NotVerified
from receiver.errors import Unavailable

log = logging.getLogger(__name__)

#: The addresses of the certificates. The whole text must match, so that no other host, port, user or path is called.
ADDRESS = re.compile(
    r"https://sns\.[a-z0-9-]{1,40}\.amazonaws\.com(\.cn)?/SimpleNotificationService-[A-Za-z0-9]{1,80}\.pem"
)

#: Bounds: seconds and bytes of a fetch, addresses that are fetched at the same time, and certificates that are kept.
FETCH_SECONDS, LARGEST, MOST_FETCHES, MOST_KEPT = 10.0, 16_384, 4, 32

#: Seconds for which an address is left alone after a fetch that failed, because a stranger may have invented it.
PAUSE = 5.0


def fetch(url: str) -> bytes:
    """Fetch a certificate; redirects are errors. Raises `httpx.HTTPError`, and `ValueError` if it is too large."""
    with httpx.Client(timeout=FETCH_SECONDS, follow_redirects=False) as client, client.stream("GET", url) as answer:
        answer.raise_for_status()
        content = b""
        for part in answer.iter_bytes():
            content += part
            if len(content) > LARGEST:
                raise ValueError(f"it is larger than {LARGEST} bytes")
        return content


class Certificates:
    """The public keys of certificates, by their addresses. Safe to use from several threads."""

    def __init__(self, fetch: Callable[[str], bytes] = fetch, *, pause: float = PAUSE) -> None:
        self._fetch, self._pause = fetch, pause
        self._lock = threading.Lock()
        self._kept: dict[str, RSAPublicKey] = {}
        self._fetching: set[str] = set()

    def key(self, url: str) -> RSAPublicKey:
        """Return the key of the certificate at this address, without waiting.

        Raises `NotVerified` for an address elsewhere, and `Unavailable`, a 503, while the certificate is fetched.
        """
        if ADDRESS.fullmatch(url) is None:
            raise NotVerified("signature_malformed", "SigningCertURL is not the address of a certificate of SNS.")
        with self._lock:
            found = self._kept.get(url)
            if found is not None:
                return found
            if url not in self._fetching and len(self._fetching) < MOST_FETCHES and len(self._kept) < MOST_KEPT:
                self._fetching.add(url)
                threading.Thread(target=self._keep, args=(url,), name="certificate", daemon=True).start()
        raise Unavailable("The certificate of SNS is being fetched. Send it again later.", retry_after=5)

    def _keep(self, url: str) -> None:
        try:
            key = x509.load_pem_x509_certificate(self._fetch(url)).public_key()
            if not isinstance(key, RSAPublicKey):
                raise ValueError("its key is not RSA")
        except (httpx.HTTPError, ValueError) as error:
            log.warning("cannot fetch the certificate %s: %s", url, error)
            key = None
            time.sleep(self._pause)
        with self._lock:
            self._fetching.discard(url)
            if key is not None:
                self._kept[url] = key
