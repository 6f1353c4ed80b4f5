"""The site: routes of all pages and buttons, the check of each visit, and the error pages."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

import structlog
from sqlalchemy.exc import SQLAlchemyError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive as AsgiReceive
from starlette.types import Scope as AsgiScope
from starlette.types import Send as AsgiSend

from receiver.api.operations import Operation
from receiver.api.reads import Reads
from receiver.api.routes import Address
from receiver.console import downloads
from receiver.console.answers import (
    DONE,
    SAID,
    SEAL,
    WHEN,
    Addresses,
    Attachment,
    SeeOther,
    attachment,
    fault_answer,
    page_answer,
    redirect,
    refusal_answer,
)
from receiver.console.contents import BUTTON_BY_NAME, BUTTONS, MENU, PAGES, lead
from receiver.console.footers import footer_of
from receiver.console.forms import Forms
from receiver.console.guests import Guests
from receiver.console.headers import BARE_HEADERS
from receiver.console.hosts import refuse_other_hosts
from receiver.console.live import NO_ANSWER, Live, marks_of
from receiver.console.page import CONSOLE_PATH, ConsolePage, read_parts
from receiver.console.page_reads import PageReads
from receiver.console.pressing import Pressing
from receiver.console.rendering import compile_templates
from receiver.console.sign_in import FILES, SignIn
from receiver.console.static_files import static_files
from receiver.console.visit import Visit, VisitedParts
from receiver.database.errors import describe_for_all
from receiver.errors import BadRequest, NotAuthorized, NotFound, Refused, Unavailable
from receiver.ingest.incoming import Incoming
from receiver.logs.repeats import Repeats
from receiver.logs.safe_text import told
from receiver.sessions.links import Links
from receiver.sessions.sessions import Sessions
from receiver.settings.console import ConsoleSettings

log = Repeats(structlog.get_logger(__name__))

PageHandler = Callable[[Request], Awaitable[Response]]

#: How long a page shows the message about an action. It may be open for hours, or its address be sent to others.
NOTICE_SECONDS = 90

#: The formats of downloads, each with its media type.
FORMATS = {"csv": "text/csv; charset=utf-8", "jsonl": "application/jsonl"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsoleParts:
    """The parts of a process that the console needs."""

    #: The operations of the API, by name.
    operations: Mapping[str, Operation]
    #: The names of the sources in the settings.
    sources: Sequence[str]
    #: The reads of the API, whose turns pages share.
    reads: Reads
    sessions: Sessions
    links: Links
    #: Bounds the time and the memory of forms.
    incoming: Incoming
    settings: ConsoleSettings


class Console:
    """The ASGI application below `/console`."""

    def __init__(self, parts: ConsoleParts) -> None:
        compile_templates()
        self._parts = parts
        self._hosts = parts.settings.console_host_names
        self._guests = Guests(parts.sessions, parts.settings)
        self._visited = VisitedParts(
            operations=parts.operations,
            database=parts.sessions.database,
            sources=parts.sources,
            hides_bodies=parts.settings.console_hide_bodies,
        )
        self._reads = PageReads(parts.reads, key_of=self._guests.key_of)
        forms = Forms(parts.incoming, origin=parts.settings.console_origin)
        self._sign_in = SignIn(parts.sessions, parts.links, self._guests, self._reads, forms)
        self._pressing = Pressing(self._visited, self._sign_in, self._guests, self._reads, forms)
        self.live = Live(parts.sessions.database, parts.reads, most=parts.settings.console_streams)
        routes = [
            Address(CONSOLE_PATH + path, self._guarded(handler, is_page=_is_page(method, path)), methods=[method])
            for method, path, handler in self._addresses()
        ]
        self._app = Starlette(routes=routes, exception_handlers={HTTPException: self._answer_unknown})
        self._app.router.redirect_slashes = False

    async def __call__(self, scope: AsgiScope, receive: AsgiReceive, send: AsgiSend) -> None:
        request = Request(scope, receive)
        try:
            refuse_other_hosts(request.headers.get("host", ""), self._hosts)
        except BadRequest as refusal:
            await refusal_answer(request, refusal)(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _addresses(self) -> list[tuple[str, str, PageHandler]]:
        """Method, path below the console, and handler of each address."""
        found: list[tuple[str, str, PageHandler]] = [
            ("GET", "", self._go_home),
            ("GET", "/static/{name}", self._static),
            ("GET", "/live", self._live_hints),
            ("GET", "/sign-in", self._sign_in.show),
            ("POST", "/sign-in", self._sign_in.begin),
            ("POST", "/sign-out", self._sign_in.end),
        ]
        for button in BUTTONS:
            found.append(("GET", button.path, partial(self._pressing.show, button)))
            found.append(("POST", button.path, partial(self._pressing.press, button)))
        for page in PAGES:
            ends = FORMATS if page.follows_in else ()
            found += [("GET", f"{page.path}.{end}", partial(self._download, page, end)) for end in ends]
        # Addresses that end in a path of any length come last, since they match others, too.
        found += [("GET", page.path, partial(self._show, page)) for page in sorted(PAGES, key=_is_open_ended)]
        return found

    def _guarded(self, handler: PageHandler, *, is_page: bool) -> PageHandler:
        """The handler, with its errors shown as pages. With `is_page`, the browser asks again by itself."""

        async def answered(request: Request) -> Response:
            try:
                return await handler(request)
            except NotAuthorized as refusal:
                return self._sign_in.wanted(request, refusal)
            except BadRequest as refusal:
                has_filters = request.method == "GET" and bool(request.url.query)
                return refusal_answer(request, refusal, has_filters=has_filters)
            except Refused as refusal:
                return refusal_answer(request, refusal, is_page=is_page)
            except SQLAlchemyError as error:
                says = "cannot show a page, because of the database"
                log.warning(says, about={}, path=request.url.path[:200], error=told(error))
                gone = Unavailable(describe_for_all(error))
                return refusal_answer(request, gone, reason=NO_ANSWER, is_page=is_page)
            except ClientDisconnect:
                # The browser has gone, so nobody reads this answer.
                return Response(status_code=400, headers=BARE_HEADERS)
            except Exception:
                log.exception("a page failed", about={}, path=request.url.path[:200])
                return fault_answer(request)

        return answered

    # ── pages ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def _show(self, page: ConsolePage, request: Request) -> Response:
        def answer() -> Response:
            visit = self._visit(page, request)
            with page.reading(visit):
                # Marks are read before the content, so that a change in between causes a hint more and not a hint less.
                marks = marks_of(visit.database).told() if page.live else ""
                content = page.show(visit)
            if isinstance(content, SeeOther):
                return redirect(request, content.address)
            if isinstance(content, Attachment):
                return attachment(content)
            return page_answer(request, page.template, marks=marks, **self._shown(page, visit, content))

        return await self._reads.run(request, page.name, answer)

    def _shown(self, page: ConsolePage, visit: Visit, content: Any) -> dict[str, Any]:
        return {
            "page": page,
            "visit": visit,
            "content": content,
            "menu": MENU,
            "lead": lead,
            "buttons": BUTTON_BY_NAME,
            "footer": footer_of(page, visit),
            "notice": self._notice(visit),
            "now": visit.now,
        }

    def _notice(self, visit: Visit) -> str | None:
        """The message about the action of the button that led to this page, unless that was a while ago."""
        when = visit.query.get(WHEN, "")
        if when.isdecimal() and visit.now.timestamp() - int(when[:15]) > NOTICE_SECONDS:
            return None
        done, said = BUTTON_BY_NAME.get(visit.query.get(DONE, "")), visit.query.get(SAID, "")
        if done is None or isinstance(done.says, str):
            return None if done is None else str(done.says)
        return said if self._guests.is_sealed(visit.guest, said, visit.query.get(SEAL, "")) else None

    def _visit(self, page: ConsolePage, request: Request) -> Visit:
        """Make the visit. Raises `NotAuthorized` for a stranger, and `BadRequest` for an unknown filter."""
        now = datetime.now(UTC)
        guest = self._guests.signed_in(request, now=now)
        visit = Visit(
            self._visited,
            guest,
            to=Addresses(request).to,
            path=read_parts(request.path_params),
            query=_query_of(request),
            now=now,
        )
        own = {parameter.name for parameter in (*self._parts.operations[page.operation].query, *page.parameters)}
        visit.refuse_unknown(frozenset((own | {DONE, WHEN, SAID, SEAL}) - {*page.leaves_out, *dict(page.given)}))
        return visit

    def _is_there(self, request: Request) -> bool:
        return self._guests.is_still_there(request, now=datetime.now(UTC))

    async def _download(self, page: ConsolePage, end: str, request: Request) -> Response:
        operation = self._parts.operations[page.operation]
        assert operation.answer is not None
        visit = await self._reads.run(request, page.name, lambda: self._visit(page, request))
        names = [parameter.name for parameter in operation.parameters]
        hidden = () if visit.sees_bodies else page.bodies

        async def ask(words: Mapping[str, str]) -> downloads.DownloadPart:
            def read() -> downloads.DownloadPart:
                # A session may end while a file of a million lines is being written.
                if not self._is_there(request):
                    raise NotAuthorized("The session has ended.")
                answer = operation.answer(visit.question(operation, words))  # type: ignore[misc]
                return downloads.part_of(answer, words, follows_in=page.follows_in, without=hidden)

            return await self._reads.run(request, page.name, read)

        # The first page is read before the file begins, so that wrong filters are answered with an error.
        first = await ask(downloads.words_of_first({**visit.query, **visit.path}, names))
        schema = (operation.answers if operation.by_table is None else operation.by_table[visit.path["table"]])[200]
        columns = downloads.columns_of(schema, without=hidden)
        content = downloads.lines(downloads.patient(ask), first=first, end=end, columns=columns)
        return downloads.Download(content, downloads.file_name((page.name, *visit.path.values()), end), FORMATS[end])

    async def _live_hints(self, request: Request) -> Response:
        """Stream hints of changes to an open page, or answer 204 at the limit of streams. Raises `NotAuthorized`."""
        now = datetime.now(UTC)
        guest = await self._reads.run(request, "live", lambda: self._guests.signed_in(request, now=now, by_itself=True))

        async def is_there() -> bool:
            # A person without a session was signed in by a proxy, and only the proxy can sign them out.
            return guest.session is None or await self._reads.run(request, "live", lambda: self._is_there(request))

        try:
            seen = request.query_params.get("seen")
            return self.live.stream(self._guests.bound_to(guest), is_there=is_there, seen=seen)
        except Unavailable:
            # A browser takes a 204 as the end and does not try again; the page asks by itself from then on.
            return Response(status_code=204, headers=BARE_HEADERS)

    # ── other addresses ───────────────────────────────────────────────────────────────────────────────────────

    async def _go_home(self, request: Request) -> Response:
        return redirect(request, "/")

    async def _static(self, request: Request) -> Response:
        found = static_files().get(request.path_params["name"])
        if found is None:
            raise NotFound("There is no such file: load the page again.")
        return found

    async def _answer_unknown(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if error.status_code == 405:
            refusal = Refused("This address does not take this method: go to the overview.")
            refusal.status = 405
            answer = refusal_answer(request, refusal)
            answer.headers.update(error.headers or {})
            return answer
        return refusal_answer(request, NotFound("There is no such page: go to the overview."))


def _is_open_ended(page: ConsolePage) -> bool:
    return ":path}" in page.path


def _is_page(method: str, path: str) -> bool:
    """Whether the address gives a page, and no file."""
    return method == "GET" and not path.endswith(FILES)


def _query_of(request: Request) -> dict[str, str]:
    """The query. The last value of a filter that is given twice counts."""
    return dict(request.query_params)
