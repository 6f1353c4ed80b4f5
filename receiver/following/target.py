"""Targets: posts one change to a user's endpoint, and interprets the answer.

It follows no redirects, uses no proxy from the environment, connects only to checked addresses, and has one timeout for
the whole exchange, so that a slow answer cannot prolong it.
"""

from __future__ import annotations

import asyncio
import re
import ssl
import threading
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import Enum
from time import monotonic
from typing import Any, NamedTuple

import httpx

from receiver.codec import storable
from receiver.errors import ConfigurationError
from receiver.following.addresses import AddressKind, Misled, Resolve, of_kind, resolve, resolve_beside
from receiver.following.feed import FeedItem
from receiver.http_calls import no_cookies, usable_environment
from receiver.http_urls import flaw_for_calls
from receiver.logs.safe_text import told, told_with_type
from receiver.release import release
from receiver.verify.request import WebhookRequest
from receiver.verify.signatures import HmacSha256
from receiver.verify.verifiers import Credentials, Secret

#: The header of the signature, in the default form of `HmacSha256`.
SIGNATURE_HEADER = "X-Webhook-Signature"

#: Seconds to wait for an outstanding answer when the process stops.
END_GRACE = 2.0

#: Seconds between checks whether the process stops.
END_POLL = 0.25

#: Seconds for which a resolved name is cached.
ADDRESSES_KEPT = 30.0

#: Seconds for which an idle connection is kept: fewer than on servers, which could close it as a request arrives.
IDLE_CONNECTION = 4.0

#: The longest wait that a target may ask for, in seconds.
LONGEST_RETRY_AFTER = 3_600.0

#: Bytes of an answer that are read, and characters of it that are reported.
MOST_ANSWER, LONGEST_SAYS = 65_536, 300

#: Statuses below 500 that do not depend on the change, which is retried later.
LATER = frozenset({408, 425, 429})

#: The statuses from 500 of a target that is away or busy.
TARGET_AWAY = frozenset({502, 503, 504})

#: The only status from 500 that a change may have caused: it is that of an exception in most frameworks.
EXCEPTION = 500

GONE = 410


class PostVerdict(Enum):
    """The meaning of an answer for the change."""

    ACCEPTED = "accepted"
    #: The target refuses this change: 4xx.
    REFUSED = "refused"
    #: The target accepts no change at present.
    TROUBLE = "trouble"
    #: An error at the target, which the change may have caused: 500.
    BROKEN = "broken"
    #: The target wants no further changes: 410.
    GONE = "gone"
    #: The process stopped before the answer.
    UNKNOWN = "unknown"


class TargetAnswer(NamedTuple):
    """The answer of a target to one change."""

    verdict: PostVerdict
    #: The answer as a sentence.
    says: str
    status: int | None = None
    #: Seconds to wait, if the target sent Retry-After.
    retry_after: float | None = None

    @property
    def may_be_lasting(self) -> bool:
        """Whether a target that works may give this answer to the same change each time."""
        return self.status is not None and self.status >= EXCEPTION and self.status not in TARGET_AWAY


class PostStage(Enum):
    """The stage that a post has reached, which a timeout is about."""

    RESOLVING = "resolving"
    CONNECTING = "connecting"
    ANSWERING = "answering"


class Target:
    """Posts changes, signed if there is a secret. Not thread-safe."""

    def __init__(
        self,
        url: str,
        *,
        follower: str,
        secret: bytes | None = None,
        timeout: float = 10.0,
        reach: str = "",
        ask: Resolve = resolve,
    ) -> None:
        """`reach` is the follower's stored kind of address. Raises `ConfigurationError` for an invalid URL."""
        self._url = target_url(url)
        self.reach = reach
        self._host, self._port = _host_and_port(self._url)
        self._ask, self._timeout = ask, timeout
        self._credentials = Credentials(secrets=() if secret is None else (Secret(secret),))
        self._verifier = HmacSha256(header=SIGNATURE_HEADER)
        self._headers = {
            "Host": self._url.netloc.decode("ascii"),
            "Content-Type": "application/json",
            "Accept-Encoding": "identity",
            "User-Agent": f"hookmirror/{release()}",
            "Hookmirror-Follower": follower,
        }
        self._auth = (self._url.username, self._url.password) if self._url.userinfo else None
        self._addresses: list[str] = []
        self._asked_at = 0.0
        #: The address that answered last, which is tried first.
        self._preferred = ""
        self._stage = PostStage.RESOLVING
        self._runner = asyncio.Runner()
        self._client = _new_client(self._url, timeout)

    @property
    def shown(self) -> str:
        """The URL without user, password and query, which may be secret."""
        return shown_target(self._url)

    def close(self) -> None:
        with self._runner:
            self._runner.run(self._client.aclose())

    def post(self, item: FeedItem, stopping: threading.Event) -> TargetAnswer:
        """Post one change, and return soon after `stopping` is set. Raises nothing: a failure is an answer, too."""
        return self._runner.run(self._post(item, stopping))

    async def _post(self, item: FeedItem, stopping: threading.Event) -> TargetAnswer:
        asking = asyncio.ensure_future(self._answer(item))
        give_up_at = None
        while not asking.done():
            await asyncio.wait({asking}, timeout=END_POLL)
            if stopping.is_set():
                give_up_at = give_up_at or monotonic() + END_GRACE
                if monotonic() >= give_up_at and not asking.done():
                    asking.cancel()
        with suppress(asyncio.CancelledError):
            return await asking
        return TargetAnswer(PostVerdict.UNKNOWN, "This process stopped before the answer.")

    async def _answer(self, item: FeedItem) -> TargetAnswer:
        try:
            async with asyncio.timeout(self._timeout):
                return await self._ask_each_address(item)
        except (TimeoutError, httpx.TimeoutException):
            says = self._says_of_timeout()
        except ssl.SSLError as error:
            # Since TLS 1.3, a server refuses its client's certificate after the handshake; httpx lets this error pass.
            says = (
                f"The encrypted connection to {self._host} broke ({told_with_type(error)}): let the target demand "
                "no certificate of this client, or mend its TLS."
            )
        except OSError as error:
            says = f"The host {self._host} cannot be resolved ({told(error)}): correct --to, or mend its DNS."
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            says = f"There was no answer ({told_with_type(error)}): start the target, or correct --to."
        except Misled as error:
            says = str(error)
        self._addresses = []
        return TargetAnswer(PostVerdict.TROUBLE, says)

    def _says_of_timeout(self) -> str:
        within = f"within {self._timeout:g} s"
        if self._stage is PostStage.RESOLVING:
            return f"The host {self._host} was not resolved {within}: correct --to, or mend its DNS."
        if self._stage is PostStage.CONNECTING:
            return (
                f"No connection was made {within} to {self._host} ({', '.join(self._addresses)}): start the target, "
                "correct --to, or let its firewall pass this machine."
            )
        return f"There was no answer {within}: let the target answer before it does the work, or raise --timeout."

    async def _ask_each_address(self, item: FeedItem) -> TargetAnswer:
        addresses = await self._right_addresses()
        # An address that drops packets must leave time for the others, and for the answer.
        share = self._timeout / (len(addresses) + 1)
        for address in addresses[:-1]:
            with suppress(httpx.ConnectError, httpx.ConnectTimeout):
                return await self._ask_at(address, item, connect=share)
        return await self._ask_at(addresses[-1], item, connect=self._timeout)

    async def _right_addresses(self) -> list[str]:
        """Resolve the host, and return its addresses, beginning with the one that answered last."""
        self._stage = PostStage.RESOLVING
        if not self._addresses or monotonic() - self._asked_at > ADDRESSES_KEPT:
            found = await resolve_beside(self._ask, self._host, self._port)
            self._addresses, kind = of_kind(self._host, found, self.reach)
            self._asked_at, self.reach = monotonic(), AddressKind(kind).value
        return sorted(self._addresses, key=lambda address: address != self._preferred)

    async def _note_stage(self, event: str, _: Mapping[str, Any]) -> None:
        """Note that there is a connection, new or idle: httpcore calls this with each event of a request."""
        if event.endswith("send_request_headers.started"):
            self._stage = PostStage.ANSWERING

    async def _ask_at(self, address: str, item: FeedItem, *, connect: float) -> TargetAnswer:
        """Post to this address, with the host's name for the Host header and the certificate.

        `connect` is the time for each step of connecting, in seconds.
        """
        self._stage = PostStage.CONNECTING
        body, signature = self._verifier.sign(WebhookRequest(item.body), self._credentials)
        headers = {**self._headers, "Idempotency-Key": item.key, **signature}
        request = self._client.build_request(
            "POST",
            self._url.copy_with(host=address, username=None, password=None),
            content=body,
            headers=headers,
            extensions={
                "timeout": httpx.Timeout(self._timeout, connect=connect).as_dict(),
                "sni_hostname": self._host,
                "trace": self._note_stage,
            },
        )
        response = await self._client.send(request, auth=self._auth, stream=True)
        try:
            said = b""
            async for some in response.aiter_raw():
                said += some[:MOST_ANSWER]
                if len(said) >= MOST_ANSWER:
                    break
        finally:
            await response.aclose()
        self._preferred = address
        return meaning(response.status_code, response.headers, said)


def _new_client(url: httpx.URL, timeout: float) -> httpx.AsyncClient:
    with usable_environment("The target cannot be called"):
        verify = ssl.create_default_context() if url.scheme == "https" else False
    return httpx.AsyncClient(
        verify=verify,
        trust_env=False,
        follow_redirects=False,
        cookies=no_cookies(),
        timeout=timeout,
        limits=httpx.Limits(max_connections=1, keepalive_expiry=IDLE_CONNECTION),
    )


def meaning(status: int, headers: Mapping[str, str], said: bytes, *, now: datetime | None = None) -> TargetAnswer:
    """Interpret an answer by its status."""
    words = _words_of(said)
    says = f"The target answered {status}{f': {words}' if words else ''}."
    retry_after = _retry_after(headers.get("retry-after", ""), now or datetime.now(UTC))
    if 200 <= status < 300:
        return TargetAnswer(PostVerdict.ACCEPTED, says, status)
    if status == GONE:
        return TargetAnswer(PostVerdict.GONE, says, status)
    if 300 <= status < 400:
        to = _words_of(headers.get("location", "").encode()) or "nowhere"
        says = f"The target answered {status}, a redirect to {to}, which is not followed: name that URL in --to."
        return TargetAnswer(PostVerdict.TROUBLE, says, status)
    if status == EXCEPTION:
        return TargetAnswer(PostVerdict.BROKEN, says, status, retry_after)
    is_refused = 400 <= status < 500 and status not in LATER
    return TargetAnswer(PostVerdict.REFUSED if is_refused else PostVerdict.TROUBLE, says, status, retry_after)


def target_url(url: str) -> httpx.URL:
    """Parse the target's URL. Raises `ConfigurationError`, which says what is wrong with it."""
    flaw = flaw_for_calls(url)
    try:
        if flaw is None:
            return httpx.URL(url).copy_with(fragment=None)
    except httpx.InvalidURL:
        flaw = "is not a valid URL"
    raise ConfigurationError(
        f"--to {flaw}: it takes the URL that changes are posted to, such as https://erp.example/catalog-changes."
    )


def _host_and_port(url: httpx.URL) -> tuple[str, int]:
    """The host in ASCII, because Python's own codec knows an older standard and takes some names for others."""
    return url.raw_host.decode("ascii"), url.port or {"http": 80, "https": 443}[url.scheme]


def shown_target(url: httpx.URL) -> str:
    """Format the URL without parts that may be secret."""
    return f"{url.scheme}://{url.netloc.decode('ascii')}{url.path}{'?…' if url.query else ''}"


def _retry_after(text: str, now: datetime) -> float | None:
    """Parse Retry-After, a number of seconds or a date, into seconds; None for any other text."""
    if re.fullmatch(r"\s*[0-9]{1,9}\s*", text):
        return min(float(text), LONGEST_RETRY_AFTER)
    try:
        moment = parsedate_to_datetime(text)
        until = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
        return min(max((until - now).total_seconds(), 0.0), LONGEST_RETRY_AFTER)
    except (ValueError, TypeError, OverflowError):
        return None


def _words_of(said: bytes) -> str:
    """Condense an answer's body into one line."""
    text = storable(said[: 4 * LONGEST_SAYS].decode("utf-8", "replace"))
    return " ".join(text.split())[:LONGEST_SAYS].rstrip(".")
