"""Downloads: all items of a filtered list as CSV or JSON Lines, read from the API page by page."""

from __future__ import annotations

import asyncio
import csv
import io
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple, get_args

import msgspec
import structlog
from sqlalchemy.exc import SQLAlchemyError
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from receiver.codec import decode, encode
from receiver.console.headers import DOWNLOAD_HEADERS
from receiver.database.errors import describe_for_all
from receiver.database.page_sizes import LARGEST_PAGE
from receiver.errors import Refused, Unavailable
from receiver.ingest.closing import ABORT
from receiver.logs.repeats import Repeats

log = Repeats(structlog.get_logger(__name__))

#: Finds where a spreadsheet would begin a formula: at the beginning of a cell that is not a number. Where numbers have
#: decimal commas, semicolons separate cells, so a cell may begin behind a semicolon, too. The quotes around a cell of
#: ours then stand in the middle of one, where they enclose nothing, so that a row may begin behind a line end.
#: A digit can belong to one part of the number only: otherwise a long row of digits before a letter takes minutes.
_FORMULA = re.compile(
    r"""(?:^|[;\t])["' ]*(?=[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20])(?!^[+-](?:\d+(?:\.\d+)?|\.\d+)\Z)"""
    r"""|[\r\n]["' ]*(?=[=+\-@\uff1d\uff0b\uff0d\uff20])"""
)


#: Begins a CSV. Without it, Excel reads the file in the code page of Windows, so that letters such as é are wrong
#: (Microsoft Support, "Opening CSV UTF-8 files correctly in Excel").
BYTE_ORDER_MARK = b"\xef\xbb\xbf"

#: Seconds for which a page is asked for again. Beside many webhooks, a read may be refused for a while.
LONGEST_PAGE_RETRY = 60.0


class DownloadPart(NamedTuple):
    """One page of a list: its items as JSON, and the query of the next page."""

    items: list[bytes]
    following: Mapping[str, str] | None


#: Reads the page of a query.
Ask = Callable[[Mapping[str, str]], Awaitable[DownloadPart]]


class CutOff(Exception):
    """A file cannot be completed; the message says why."""


def part_of(answer: Any, words: Mapping[str, str], *, follows_in: str, without: Collection[str] = ()) -> DownloadPart:
    """One page as the API answered it. Its items lack the members in `without`."""
    whole = msgspec.json.decode(encode(answer), type=dict[str, msgspec.Raw])
    items = msgspec.json.decode(whole["items"], type=list[msgspec.Raw])
    if without:
        items = [_without(item, without) for item in items]
    following = msgspec.json.decode(whole["next"]) if "next" in whole else None
    # Relative times stay the moments of the first page. Otherwise they would move from page to page.
    times = msgspec.json.decode(whole["times"], type=dict[str, str]) if "times" in whole else {}
    # The change feed always names a next page. At its end, that is the same page again.
    is_end = following is None or words.get(follows_in) == str(following)
    goes_on = None if is_end else {**words, **times, follows_in: str(following)}
    return DownloadPart([bytes(item) for item in items], goes_on)


def _without(item: msgspec.Raw, names: Collection[str]) -> msgspec.Raw:
    members = msgspec.json.decode(item, type=dict[str, msgspec.Raw])
    return msgspec.Raw(msgspec.json.encode({name: value for name, value in members.items() if name not in names}))


def words_of_first(words: Mapping[str, str], names: Sequence[str]) -> dict[str, str]:
    """The query of the first page: all filters, and the largest size of a page."""
    kept = {name: text for name, text in words.items() if name in names and name != "count"}
    return kept | ({"limit": str(LARGEST_PAGE)} if "limit" in names else {})


def patient(ask: Ask, *, longest: float = LONGEST_PAGE_RETRY) -> Ask:
    """Make an `ask` that waits and asks again, for `longest` seconds, while a page cannot be read. Raises `CutOff`."""

    async def asked(words: Mapping[str, str]) -> DownloadPart:
        end = time.monotonic() + longest
        while True:
            try:
                return await ask(words)
            except Unavailable as unavailable:
                refusal = unavailable
            except SQLAlchemyError as error:
                refusal = _unread(error)
            except Refused as final:
                raise CutOff(final.message) from None
            if time.monotonic() + refusal.retry_after > end:
                raise CutOff(refusal.message)
            await asyncio.sleep(refusal.retry_after)

    return asked


def _unread(error: SQLAlchemyError) -> Unavailable:
    return Unavailable(describe_for_all(error))


def file_name(parts: Sequence[str], end: str) -> str:
    """The name of a file, made of the page's name and of the parts of its address, such as `rows-products.csv`."""
    return "-".join(re.sub(r"[^0-9A-Za-z_.-]+", "_", part) for part in parts) + f".{end}"


class Download(StreamingResponse):
    """The answer with a file. If the file cannot be completed, the connection ends, and a line of the log says why."""

    def __init__(self, content: AsyncIterator[bytes], name: str, media_type: str) -> None:
        headers = DOWNLOAD_HEADERS | {"Content-Disposition": f'attachment; filename="{name}"'}
        super().__init__(content, 200, headers, media_type)
        self._name = name

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        except CutOff as error:
            log.warning("a download was cut off", about={"file": self._name}, why=str(error))
            if ABORT not in scope:
                # Another server ends the connection after an error.
                raise
            scope[ABORT]()
            while (await receive())["type"] != "http.disconnect":
                pass


def columns_of(schema: type[msgspec.Struct], *, without: Collection[str] = ()) -> list[str]:
    """The members of the items in a list's answer, without those that an item may lack."""
    (items,) = (each.type for each in msgspec.structs.fields(schema) if each.name == "items")
    (item,) = get_args(items)
    members = msgspec.structs.fields(item)
    return [each.encode_name for each in members if each.default is not msgspec.UNSET and each.name not in without]


async def lines(ask: Ask, *, first: DownloadPart, end: str, columns: Sequence[str]) -> AsyncIterator[bytes]:
    """Yield the whole list in the format `end` (`csv` or `jsonl`), beginning with the page that was read first.

    A CSV has the columns of its first item; `columns` are those of an empty one.
    """
    part = first
    if end == "csv":
        columns = list(decode(part.items[0])) if part.items else columns
        yield BYTE_ORDER_MARK + _csv([columns])
    while True:
        if end == "jsonl":
            yield b"".join(item + b"\n" for item in part.items)
        else:
            yield _csv([[_cell(row.get(column)) for column in columns] for row in map(decode, part.items)])
        if part.following is None:
            return
        part = await ask(part.following)


def _csv(rows: Sequence[Sequence[str]]) -> bytes:
    written = io.StringIO()
    csv.writer(written).writerows(rows)
    return written.getvalue().encode("utf-8", "replace")


def _cell(value: Any) -> str:
    """A value as text that no spreadsheet takes for a formula."""
    if value is None:
        return ""
    text = value if isinstance(value, str) else encode(value).decode()
    return _FORMULA.sub(r"\g<0>'", text)
