"""Keeping: stores refused requests that another secret may verify, and verifies them again when a secret is added.

No ack waits for that: the endpoint puts refused requests into a small queue, and a thread stores them in batches. If
the queue is full, each request has the same chance to be kept, so that a stranger's flood does not displace all others.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from time import monotonic
from typing import NamedTuple

import structlog
from sqlalchemy.exc import SQLAlchemyError

from receiver.dialects.headers import NEVER_KEPT, captured_headers, captured_target, names_secret
from receiver.errors import Captured, HookmirrorError, NotVerified, Refused
from receiver.inbox import refused
from receiver.inbox.ids import DeliveryIds
from receiver.inbox.inbox import Inbox
from receiver.inbox.refused import Bounds, Refusal
from receiver.ingest.admission import Request, webhook_request
from receiver.ingest.challenging import answers_unsigned
from receiver.ingest.reverifying import TARGET, Reverified, WithinAccept, verify_again
from receiver.ingest.source import VerifiableSource
from receiver.logs.repeats import Repeats
from receiver.logs.safe_text import told
from receiver.metrics import metrics
from receiver.verify.diagnosis import likely_form, likely_mistake
from receiver.verify.request import RawHeaders, WebhookRequest
from receiver.verify.verifiers import Verifier, listed_headers, reads_target, signature_headers

log = structlog.get_logger(__name__)

#: The codes of refusals that a wrong secret causes.
CODES = frozenset({"signature_wrong", "not_decryptable"})

#: The codes of other refusals that are diagnosed, but not kept.
DIAGNOSED = frozenset({"signature_stale", "signature_malformed", "signature_missing"})

#: The most captured requests of one source, and the most bytes of them.
MOST_CAPTURED, MOST_CAPTURED_SIZE = 50, 4 * 1024 * 1024

#: The most waiting requests of one source, and the most bytes of all waiting requests.
QUEUE, QUEUE_BYTES = 64, 8 * 1024 * 1024

#: Seconds for which requests gather before they are written.
KEEPING_SECONDS = 0.5

#: Seconds between two attempts to write while the database fails.
TROUBLE_PAUSE = 5.0

#: Seconds after an explained refusal before the next one of its source and code is diagnosed.
DIAGNOSIS_PAUSE = 60.0

#: The same after one that no known mistake explains: a stranger's guesses would else use up the turn of the sender. The
#: pause is at least this long, and so many times as long as the diagnosis took, but no longer than the other.
UNEXPLAINED_PAUSE, UNEXPLAINED_COST = 1.0, 100

#: The most bytes of a body that is diagnosed without being kept.
LARGEST_DIAGNOSED = 1_048_576

#: By the code of a refusal, the line of the log that tells its likely reason.
LIKELY = {
    "signature_wrong": "the likely reason why signatures of a source are wrong",
    "signature_stale": "the likely reason why signatures of a source are stale",
    "signature_malformed": "the likely reason why signatures of a source are malformed",
    "signature_missing": "the likely reason why a source got a webhook without a signature",
}

UNSIGNED_CHALLENGE = (
    "It is a challenge that its sender does not sign: register its function with before_verifying=True, so that it is "
    "answered without a signature."
)

#: Seconds for the last batch when the process stops.
KEEPER_STOP_SECONDS = 2.0


class _Waiting(NamedTuple):
    request: Request
    code: str
    id: int
    received_at: datetime


class Keeper:
    """Keeps the requests that the endpoint of one process refuses."""

    def __init__(
        self,
        inbox: Inbox,
        sources: Mapping[str, VerifiableSource],
        bounds: Bounds | None,
        *,
        accepted: Callable[[], None] = lambda: None,
        along: Callable[[str], WithinAccept] = lambda _: lambda *_: None,
        rng: random.Random | None = None,
    ) -> None:
        """`inbox` must have a separate connection. Without `bounds`, no request is kept.

        `accepted` is called after kept requests were accepted.
        """
        self._inbox = inbox
        self._ids = DeliveryIds()
        self._sources, self._bounds = sources, bounds
        self._accepted, self._along = accepted, along
        self._rng = rng or random.Random()  # noqa: S311 (the choice of kept requests is no secret)
        self._log = Repeats(log)
        self._lock = threading.Lock()
        #: Held while requests are written, so that all taken ones are written when `flush` returns.
        self._flushing = threading.Lock()
        #: By source, the waiting requests, and the number of requests offered since the last write.
        self._waiting: dict[str, list[_Waiting]] = {}
        self._offered: dict[str, int] = {}
        self._bytes = 0
        self._to_verify: set[str] = set()
        #: By source and code, the refusals to diagnose, and the monotonic time from which on the next one is diagnosed.
        self._to_diagnose: dict[tuple[str, str], _Waiting] = {}
        self._diagnose_from: dict[tuple[str, str], float] = {}
        self._turn, self._stopping = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="keeper", daemon=True)

    def start(self) -> None:
        """Start the thread, which first verifies the kept requests with the present secrets."""
        self.verify_later(self._sources)
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._turn.set()
        self._thread.join(KEEPER_STOP_SECONDS)

    def renew(self, sources: Mapping[str, VerifiableSource], bounds: Bounds | None) -> None:
        """Use these sources and bounds from now on, and verify the kept requests of sources with new secrets again."""
        before, self._sources, self._bounds = self._sources, sources, bounds
        changed = [name for name, source in sources.items() if not _same_credentials(source, before.get(name))]
        self.verify_later(changed)

    def verify_later(self, names: Iterable[str]) -> None:
        with self._lock:
            self._to_verify.update(names)
        self._turn.set()

    # ── in the event loop ─────────────────────────────────────────────────────────────────────────────────────

    def offer(self, request: Request, refusal: Refused) -> None:
        """Queue a refused request to be kept, if another secret may verify it and there is room for it."""
        if self._bounds is None:
            return
        if not (isinstance(refusal, Captured) or _is_of_wrong_secret(refusal)):
            self._diagnose_later(request, refusal)
            return
        name = request.source.name
        with self._lock:
            lost = self._enqueue(_Waiting(request, refusal.code, self._ids.draw(), datetime.now(UTC)))
        if lost is not None:
            metrics.REFUSED_LOST.labels(name, lost).inc()
        self._turn.set()

    def _diagnose_later(self, request: Request, refusal: Refused) -> None:
        """Let the thread diagnose a refusal whose request is not kept, one at a time of each source and code."""
        key = (request.source.name, refusal.code)
        if refusal.code not in DIAGNOSED or len(request.body) > LARGEST_DIAGNOSED or not self._is_due(key):
            return
        with self._lock:
            self._to_diagnose[key] = _Waiting(request, refusal.code, 0, datetime.now(UTC))
        self._turn.set()

    def _is_due(self, key: tuple[str, str]) -> bool:
        return monotonic() >= self._diagnose_from.get(key, 0.0)

    def _enqueue(self, waiting: _Waiting) -> str | None:
        """Put a request into the queue. Returns why this request, or another one, was lost; None if none was."""
        name, size = waiting.request.source.name, len(waiting.request.body)
        queue = self._waiting.setdefault(name, [])
        self._offered[name] = offered = self._offered.get(name, 0) + 1
        if self._bounds is not None and size > self._bounds.bytes:
            return "too_large"
        if self._bytes + size > QUEUE_BYTES:
            return "queue_full"
        if len(queue) < QUEUE:
            self._bytes += size
            queue.append(waiting)
            return None
        place = self._rng.randrange(offered)
        if place < QUEUE:
            self._bytes += size - len(queue[place].request.body)
            queue[place] = waiting
        return "sampled"

    # ── in the thread that writes ─────────────────────────────────────────────────────────────────────────────

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._turn.wait()
            self._turn.clear()
            self._stopping.wait(KEEPING_SECONDS)
            try:
                self.flush()
                self._verify_those_asked_for()
            except Exception as error:
                # Every error is caught, because the next batch may succeed. Without memory, the line may fail, too.
                with suppress(MemoryError):
                    self._log.warning("cannot store or verify refused requests", about={}, error=told(error))
                self._stopping.wait(TROUBLE_PAUSE)
                self._turn.set()
        with suppress(SQLAlchemyError, HookmirrorError):
            self.flush()

    def flush(self) -> None:
        """Write the waiting requests, after those that another thread is writing.

        Raises SQLAlchemy's error; the requests are then lost, and counted.
        """
        with self._flushing:
            self._flush()

    def _flush(self) -> None:
        with self._lock:
            waiting, self._waiting = self._waiting, {}
            self._offered, self._bytes = {}, 0
            diagnosed, self._to_diagnose = self._to_diagnose, {}
        for one in (*diagnosed.values(), *(some[-1] for some in waiting.values() if some)):
            self._diagnose(one)
        bounds = self._bounds
        refusals = sorted(each for some in waiting.values() for each in map(self._refusal, some) if each is not None)
        if not refusals or bounds is None:
            return
        try:
            with self._inbox.database.write() as connection:
                for those, within in _by_bounds(refusals, bounds):
                    refused.keep(connection, those, within)
        except Exception:
            for each in refusals:
                metrics.REFUSED_LOST.labels(each.source, "database").inc()
            raise

    def _diagnose(self, waiting: _Waiting) -> None:
        """Log the likely mistake behind a refusal, at most once in a while for each source and code."""
        key = (waiting.request.source.name, waiting.code)
        if waiting.code not in DIAGNOSED | {"signature_wrong"} or not self._is_due(key):
            return
        began = monotonic()
        likely = self._likely(waiting)
        pause = DIAGNOSIS_PAUSE
        if likely is None:
            pause = min(pause, max(UNEXPLAINED_PAUSE, UNEXPLAINED_COST * (monotonic() - began)))
        else:
            log.warning(LIKELY[waiting.code], source=key[0], likely=likely)
        self._diagnose_from[key] = monotonic() + pause

    def _likely(self, waiting: _Waiting) -> str | None:
        """Find the likely mistake behind a refusal; None if no known mistake explains it."""
        source, request = waiting.request.source, webhook_request(waiting.request, at=waiting.received_at)
        if waiting.code == "signature_missing":
            unsigned = answers_unsigned(source, waiting.request.target, request.headers, request.body)
            return UNSIGNED_CHALLENGE if unsigned else None
        verifier = source.dialect.verifier
        if waiting.code in DIAGNOSED:
            return likely_form(verifier, request, source.credentials)
        others = {name: each.credentials for name, each in self._sources.items() if name != source.name}
        return likely_mistake(verifier, request, source.credentials, others)

    def _refusal(self, waiting: _Waiting) -> Refusal | None:
        """Make the row to store; None if it would contain a secret, or could not be verified again."""
        source, name = waiting.request.source, waiting.request.source.name
        verifier = source.dialect.verifier
        try:
            body, target = waiting.request.body, captured_target(waiting.request.target)
            if waiting.code == Captured.code:
                headers = _with_target(captured_headers(waiting.request.headers), target)
                return Refusal(waiting.id, name, waiting.code, waiting.received_at, headers, body)
            request = webhook_request(waiting.request, at=waiting.received_at)
            needed = _needed_headers(verifier, request)
            # Without its secret, a stored body could not be verified again, nor could an address that is signed.
            is_whole = target == request.target or not reads_target(verifier, request, source.credentials)
            if is_whole and needed is not None and verifier.redact(body, source.credentials) == body:
                headers = _with_target(_chosen(source, waiting.request.headers, needed), target)
                return Refusal(waiting.id, name, waiting.code, waiting.received_at, headers, body)
        except BaseException as error:
            # The verifier of a dialect may raise any error; even SystemExit may affect only this request.
            self._log.warning("cannot keep a refused request", about={"source": name}, error=told(error))
        metrics.REFUSED_LOST.labels(name, "secret").inc()
        return None

    def _verify_those_asked_for(self) -> None:
        with self._lock:
            names, self._to_verify = self._to_verify, set()
        if not names:
            return
        try:
            for name in sorted(names.intersection(refused.sources_with_any(self._inbox.database))):
                source = self._sources.get(name)
                if source is not None:
                    tell(name, verify_again(self._inbox, source, accepted=self._accepted, along=self._along(name)))
        except Exception:
            self.verify_later(names)
            raise


def _is_of_wrong_secret(refusal: Refused) -> bool:
    """Whether another secret may verify the request."""
    return refusal.code in CODES and isinstance(refusal, NotVerified) and not refusal.final


def tell(source: str, verified: Reverified) -> None:
    """Log the result of verifying again."""
    if verified.number:
        log.info("kept requests verify with a new secret", source=source, **verified._asdict())


def _by_bounds(refusals: Sequence[Refusal], bounds: Bounds) -> list[tuple[list[Refusal], Bounds]]:
    """Separate the requests to keep within `bounds` from captured requests, which have smaller bounds."""
    captured = [each for each in refusals if each.code == Captured.code]
    others = [each for each in refusals if each.code != Captured.code]
    closer = Bounds(min(bounds.number, MOST_CAPTURED), min(bounds.bytes, MOST_CAPTURED_SIZE), bounds.age)
    return [(some, within) for some, within in ((others, bounds), (captured, closer)) if some]


def _with_target(headers: RawHeaders, target: bytes) -> RawHeaders:
    """Add path and query to the headers, because the sender may have signed them."""
    return [*headers, (TARGET, target)] if target else headers


def _needed_headers(verifier: Verifier, request: WebhookRequest) -> frozenset[str] | None:
    """The headers, in lower case, that verifying this request again needs; None if one may be a secret itself."""
    named, listed = signature_headers(verifier), listed_headers(verifier, request)
    # The dialect's author has named the former, and the unverified request the latter.
    if named is None or not NEVER_KEPT.isdisjoint(named) or any(map(names_secret, listed)):
        return None
    return listed.union(named)


def _chosen(source: VerifiableSource, headers: RawHeaders, needed: Iterable[str]) -> RawHeaders:
    names = {name.encode() for name in needed} | source.dialect.kept_headers.keys()
    return [(name, value) for name, value in headers if name in names]


def _same_credentials(source: VerifiableSource, before: VerifiableSource | None) -> bool:
    return before is not None and source.credentials == before.credentials
