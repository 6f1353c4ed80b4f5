"""Dialects: the signature, the envelope and the handlers of one kind of system.

Wrong wiring raises an error at import, with advice in its message.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from functools import cached_property
from typing import Any, NoReturn, TypeVar

import httpx
from pydantic import BaseModel, TypeAdapter

from receiver import codec
from receiver.dialects.annotations import (
    adapter,
    check_alone,
    check_plain,
    check_takes_event,
    check_takes_request,
    hints,
    validate,
)
from receiver.dialects.challenges import METHODS, Challenge
from receiver.dialects.forms import read_form, write_form
from receiver.dialects.handlers import Handler, handlers_with, most_specific
from receiver.dialects.headers import NEVER_KEPT, kept_headers
from receiver.dialects.items import MOST_EVENTS, collect
from receiver.dialects.listing import ListPart, SourceListing, SourceLookup, check_tables, listing_with, lookup_with
from receiver.dialects.patterns import patterns_of
from receiver.dialects.replies import SenderReply, accepting, refusing
from receiver.dialects.taking_headers import as_kept, headers_taken, values_of
from receiver.envelope import Bundle, Envelope, ReadBody
from receiver.errors import ConfigurationError, Unreadable, WiringError
from receiver.loading import is_of_the_code, told_with_place
from receiver.logs.safe_text import sentence, told, told_with_type
from receiver.mirror.news import Mirror
from receiver.mirror.rows import MirrorRow
from receiver.settings.settings import SourceSettings
from receiver.verify.verifiers import Verifier, secret_headers, signature_headers

Function = TypeVar("Function", bound=Callable[..., Any])


class Dialect:
    """The signature, envelope and handlers of one kind of system; several sources may share a dialect.

        shop = Dialect("shop", verify=HmacSha256(header="X-Webhook-Signature"))

    `@shop.envelope` then registers the function that reads bodies, and `@shop.on(…)` registers handlers of events.

    With `decompress`, bodies may be compressed with gzip or deflate, and signed before or after compression.
    `keep_headers` are request headers to keep with each delivery, in addition to the usual ones and the signature's.
    `trusts_header` is a header that no signature covers; it may only choose the handler.
    `settings` is the model of the dialect's own settings: a source's table `[sources.<name>.settings]`.
    With `form`, bodies may be forms. If `form` is the name of a field, its JSON is read; if True, all fields are.
    `on_accept` and `on_refusal` replace the usual replies to the sender.
    """

    #: The challenge functions, in the order in which they are called.
    challenges: tuple[Challenge, ...] = ()
    listing_of: SourceListing | None = None
    lookup_of: SourceLookup | None = None
    _read: Callable[[Any], Any] | None = None
    _takes: tuple[str, ...] = ()
    _connect: Callable[[SourceSettings], httpx.Client] | None = None

    def __init__(
        self,
        name: str,
        *,
        verify: Verifier,
        decompress: bool = False,
        keep_headers: Iterable[str] = (),
        trusts_header: str | None = None,
        settings: type[BaseModel] | None = None,
        form: bool | str = False,
        on_accept: SenderReply | None = None,
        on_refusal: SenderReply | int | None = None,
    ) -> None:
        """Raises `WiringError` for an invalid name of a header, and for a header that carries a secret."""
        check_takes_request(name, verify)
        self.name = name
        self.verifier = verify
        self.decompress = decompress
        #: The name in lower case.
        self.trusts_header = None if trusts_header is None else trusts_header.lower()
        hidden = secret_headers(verify)
        self.kept_headers = kept_headers(keep_headers, name, hidden)
        self.kept_headers |= kept_headers(filter(None, [trusts_header]), name, hidden)
        self.kept_headers |= {each.encode(): each for each in signature_headers(verify) or () if each not in NEVER_KEPT}
        self.settings_model = settings
        self.form = form
        self.on_accept = accepting(name, on_accept)
        self.on_refusal = refusing(name, on_refusal)
        self._compose: Callable[..., Any] = _compose_by_convention
        self._handlers: list[Handler] = []
        self._hydrators: list[Handler] = []
        self._found: dict[str, Handler | None] = {}

    def __repr__(self) -> str:
        return f"Dialect({self.name!r})"

    # ── for the author of a dialect ───────────────────────────────────────────────────────────────────────

    def envelope(self, function: Function, *, override: bool = False) -> Function:
        """Register the function that reads a body: `def read(body: Model) -> Envelope`; `dict` gets the parsed JSON.

        The function may also take `signed`, the headers that the signature covers, and `trusted`, the value of
        `trusts_header`. For bodies with several events it returns a list of envelopes in their order: see `each`.
        """
        taken = headers_taken(function, self.name, self.verifier, self.trusts_header)
        check_plain(self.name, function, "an envelope", ("body", *taken))
        check_alone(self.name, "an envelope", self._read, "envelope", override=override)
        self._read, self._takes = function, taken
        self.__dict__.pop("_body", None)
        return function

    def challenge(self, function: Function, *, before_verifying: bool = False) -> Function:
        """Register a function that answers challenges: `def answer(asked: ChallengeRequest) -> SenderReply | None`.

        It returns None for a request that is not a challenge. It is called for every GET and OPTIONS, and for every
        verified POST; with `before_verifying`, for every POST before verification. The ready-made functions, such as
        `EchoQuery`, set `before_verifying` themselves.
        """
        check_plain(self.name, function, "a challenge function", ("asked",))
        before = getattr(function, "before_verifying", before_verifying)
        methods = getattr(function, "methods", METHODS)
        self.challenges += (Challenge(function, methods, before),)
        return function

    def on(self, *event_types: str, override: bool = False) -> Callable[[Function], Function]:
        """Register a handler: `def handle(event: Event[Model], mirror: Mirror) -> None`.

        The most specific pattern wins, and each event type has exactly one handler. A second function of any kind
        raises `WiringError`, unless it has `override=True`: so a plugin can replace one of another author's dialect.
        """
        patterns = patterns_of(event_types, f"@{self.name}.on")

        def register(function: Function) -> Function:
            check_takes_event(self.name, function, "a handler", mirror=Mirror)
            self._handlers[:] = handlers_with(self._handlers, patterns, function, self.name, override=override)
            self._found.clear()
            return function

        return register

    def hydrate(self, *event_types: str, override: bool = False) -> Callable[[Function], Function]:
        """Register the function that fetches a thin event's data: `def fetch(event: Event, api: httpx.Client) -> Any`.

        It runs before the handler and outside every transaction, if the source has an `api_url`. The handler gets the
        result as the event's `hydrated`. Only this function may do I/O for an event.
        """
        patterns = patterns_of(event_types, f"@{self.name}.hydrate")

        def register(function: Function) -> Function:
            check_takes_event(self.name, function, "a hydrate function", api=httpx.Client)
            self._hydrators[:] = handlers_with(self._hydrators, patterns, function, self.name, override=override)
            return function

        return register

    def connect(self, function: Function, *, override: bool = False) -> Function:
        """Register the function that makes an API client: `def client(source: SourceSettings) -> httpx.Client`."""
        check_plain(self.name, function, "a connect function", ("source",))
        check_alone(self.name, "a connect function", self._connect, "connect", override=override)
        self._connect = function
        return function

    def listing(self, *tables: type[MirrorRow], override: bool = False) -> Callable[[Function], Function]:
        """Register a walk through a source's whole list: `def walk(api: httpx.Client) -> Iterator[Listed]`."""
        check_tables(tables, f"@{self.name}.listing")

        def register(function: Function) -> Function:
            check_plain(self.name, function, "a listing", ("api",))
            walk = ListPart(tables, walk=function)
            self.listing_of = listing_with(self.listing_of, walk, self.name, override=override)
            return function

        return register

    def pages(
        self, *tables: type[MirrorRow], names_only: bool = False, override: bool = False
    ) -> Callable[[Function], Function]:
        """Register the function that reads a page of a list: `def read(api: httpx.Client, start: Any) -> ListPage`.

        `start` is None for the first page, then the `next` of the previous page. Several functions are called in the
        order of their registration. With `names_only`, the pages only name the rows, and the lookup fetches each row.
        """
        check_tables(tables, f"@{self.name}.pages")

        def register(function: Function) -> Function:
            check_plain(self.name, function, "a function for pages", ("api", "start"))
            part = ListPart(tables, read=function, names_only=names_only)
            self.listing_of = listing_with(self.listing_of, part, self.name, override=override)
            return function

        return register

    def lookup(self, *tables: type[MirrorRow], override: bool = False) -> Callable[[Function], Function]:
        """Register the function that asks for one row: `def ask(api: httpx.Client, wanted: Wanted) -> list[Listed]`.

        It returns the rows that the answer holds; an empty list if the source says that the wanted row is gone.
        """
        check_tables(tables, f"@{self.name}.lookup")

        def register(function: Function) -> Function:
            check_plain(self.name, function, "a lookup", ("api", "wanted"))
            self.lookup_of = lookup_with(self.lookup_of, tables, function, self.name, override=override)
            return function

        return register

    def compose(self, function: Function, *, override: bool = False) -> Function:
        """Register the inverse of the envelope, for the test kit and `hookmirror send`:

        `def write(event_type: str, entity_id: str, at: datetime, data: Any) -> Any`, the body as a JSON value. Not
        needed where the body is `{"type", "id", "timestamp", "data"}`.
        """
        check_plain(self.name, function, "a compose function", ("event_type", "entity_id", "at", "data"))
        registered = None if self._compose is _compose_by_convention else self._compose
        check_alone(self.name, "a compose function", registered, "compose", override=override)
        self._compose = function
        return function

    # ── for the framework ────────────────────────────────────────────────────────────────────────────────

    def read(self, plain: bytes, *, most_events: int = MOST_EVENTS) -> ReadBody:
        """The envelope of a verified body; a bundle of them where the envelope function returns a list.

        Raises `Unreadable` for more than `most_events` items, and for every error of the envelope function except
        MemoryError, which says nothing about the body.
        """
        assert self._read is not None, "check() comes first"
        document = read_form(plain, self.form) if self.form else codec.decode(plain)
        try:
            body = document if self._body is None else validate(self._body, document, "body")
            envelope = self._read(body, **values_of(plain, self._takes)) if self._takes else self._read(body)
            if type(envelope) is Envelope:
                return envelope
            return collect(envelope, self.name, most=most_events)
        except MemoryError:
            raise
        except (Unreadable, RecursionError) as error:
            raise Unreadable(told(error)) from None
        except BaseException as error:
            # An authentic body is never lost: if its dialect fails, it is stored with the reason, and can be replayed.
            # Even SystemExit is caught, because it would end the endpoint for every source.
            raise Unreadable(f"The envelope of {self.name} failed: {sentence(told_with_type(error))}") from None

    def handler_for(self, event_type: str) -> Handler | None:
        """The handler for this event type; None if there is none."""
        try:
            return self._found[event_type]
        except KeyError:
            found = most_specific(self._handlers, event_type)
            if len(self._found) < 1_000:
                self._found[event_type] = found
            return found

    def hydrator_for(self, event_type: str) -> Handler | None:
        return most_specific(self._hydrators, event_type)

    def client(self, source: SourceSettings) -> httpx.Client | None:
        """Make a client of the source's API; None if the source has no `api_url`, or the dialect has no client."""
        if source.api_url is None or self._connect is None:
            return None
        return self._connect(source)

    def write(self, event_type: str, entity_id: str, *, at: datetime, data: Any) -> bytes:
        """Write a body for this event in the sender's form. Raises `ConfigurationError` if it reads otherwise."""
        try:
            document = self._compose(event_type, entity_id, at, data)
            body = write_form(document, self.form) if self.form else codec.encode(document)
        except BaseException as error:
            if not is_of_the_code(error):
                raise
            reason = told_with_place(error).rstrip(".")
            raise ConfigurationError(
                f"No body of {self.name} can be made from these flags ({reason}): {self._other_than_these_flags()}"
            ) from error
        try:
            signed = dict.fromkeys(getattr(self.verifier, "signed_headers", ()), "example")
            read = self.read(self.as_kept(body, signed | self.usual_headers(event_type)))
            envelope = read.item(0) if isinstance(read, Bundle) else read
        except Unreadable as error:
            self._refuse_composed(told(error))
        if envelope.event_type != event_type:
            self._refuse_composed(f"it reads as {envelope.event_type}")
        return body

    def usual_headers(self, event_type: str) -> dict[str, str]:
        """The headers that a sender adds for this event: the trusted header with the event type, if there is one."""
        return {} if self.trusts_header is None else {self.trusts_header: event_type}

    def as_kept(self, body: bytes, headers: Mapping[str, str]) -> bytes:
        """Combine the body with the headers that the envelope reads."""
        return as_kept(body, headers, self.verifier, self.trusts_header) if self._takes else body

    def check(self) -> None:
        """Raise `WiringError` if the dialect cannot work."""
        if self._read is None:
            raise WiringError(f"The dialect {self.name} has no envelope: write one with @{self.name}.envelope.")
        _ = self._body
        if self.listing_of is not None:
            self.listing_of.check(self.lookup_of, self.name)

    @property
    def reads_headers(self) -> bool:
        """Whether the envelope function reads headers."""
        return bool(self._takes)

    @property
    def handlers(self) -> tuple[Handler, ...]:
        return tuple(self._handlers)

    @property
    def functions(self) -> tuple[Callable[..., Any], ...]:
        """The functions whose code decides the result of a delivery, in the order of their registration."""
        return (*filter(None, [self._read]), *(each.function for each in (*self._hydrators, *self._handlers)))

    @property
    def event_types(self) -> list[str]:
        """The patterns of the event types that handlers take."""
        return [handler.pattern.text for handler in self._handlers]

    @cached_property
    def _body(self) -> TypeAdapter[Any] | None:
        assert self._read is not None
        parameter = next(iter(inspect.signature(self._read).parameters))
        return adapter(hints(self._read).get(parameter, dict), self._read)

    def _refuse_composed(self, reason: str) -> NoReturn:
        raise ConfigurationError(
            f"The envelope of {self.name} does not read a body made from these flags ({reason.rstrip('.')}): "
            f"{self._other_than_these_flags()}"
        )

    def _other_than_these_flags(self) -> str:
        verb = "write" if self._compose is _compose_by_convention else "correct"
        return f"give other flags, {verb} @{self.name}.compose, or send a fixture file."


def _compose_by_convention(event_type: str, entity_id: str, at: datetime, data: Any) -> dict[str, Any]:
    return {"type": event_type, "id": entity_id, "timestamp": at, "data": data}
