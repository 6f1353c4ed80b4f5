"""Questions to a source's API, and the moment from which the answers count."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx

from receiver.dialects.forks import ending_forks
from receiver.dialects.listing import Wanted
from receiver.dialects.sources import Source
from receiver.errors import ApiError, ConfigurationError
from receiver.logs.safe_text import name_of, quoted, told_with_type
from receiver.mirror.rows import table_name
from receiver.moments import is_zero

#: Answers below 500 that concern the source as a whole, and may be others later: the key is refused or out of date, or
#: too many requests came.
PASSING = (401, 403, 408, 425, 429)


class Asking:
    """A client of one source's API. Answers count from the first Date header, or from our clock if that is earlier."""

    def __init__(self, source: Source, clock: Callable[[], datetime]) -> None:
        """Raise `ConfigurationError` for a source without an API."""
        with ending_forks():
            client = source.client()
        if client is None:
            raise ConfigurationError(
                f"The source {source.name} has no `api_url`: set it, and the keys that its API wants."
            )
        self.client = client
        self._source, self._clock = source.name, clock
        self._dates: list[datetime] = []
        #: Whether the code in the last block of `telling_of` sent a request.
        self.has_asked = False
        #: Whether its last request has an answer that waiting would not change, even if that is an error.
        self.has_answer = False
        client.event_hooks["request"].append(self._note_request)
        client.event_hooks["response"].append(self._note)

    def close(self) -> None:
        self.client.close()

    def begin(self) -> None:
        """Begin a question of one or more requests."""
        self._asked_at = self._clock()
        self._dates.clear()

    @property
    def as_of(self) -> datetime:
        """The moment from which the answers since `begin` count."""
        return min([self._asked_at, *self._dates[:1]])

    def note_read(self, rows: int) -> None:
        """Set the number of rows read so far, for error messages."""
        self._read = rows

    @contextmanager
    def telling(self, read: int) -> Iterator[None]:
        """Run a dialect's code that reads a list in the block, and turn failures of the API into `ApiError`.

        `read` is the number of rows read before. Ends a process that the code forked, in which it came back.
        """
        self._read = read
        try:
            with ending_forks():
                yield
        except httpx.HTTPError as error:
            raise ApiError(
                f"The list of {self._source} broke off after {self._read} rows ({_told_of_call(error)}), so nothing "
                "was deactivated. Check `api_url`, and run it again."
            ) from error

    @contextmanager
    def telling_of(self, row: Wanted) -> Iterator[None]:
        """Run a dialect's code that looks up this row in the block, as `telling` does with code that reads a list."""
        self.has_asked = self.has_answer = False
        try:
            with ending_forks():
                yield
        except httpx.HTTPError as error:
            self.has_asked, self.has_answer = True, False
            raise ApiError(
                f"{self._source} did not answer about {table_name(row.table)} {quoted(row.external_id)} "
                f"({_told_of_call(error)}). Check `api_url`, and try again."
            ) from error

    def _note_request(self, _: httpx.Request) -> None:
        self.has_asked, self.has_answer = True, False

    def _note(self, response: httpx.Response) -> None:
        self.has_answer = response.status_code < 500 and response.status_code not in PASSING
        if self._dates:
            return
        try:
            date = parsedate_to_datetime(response.headers["date"]).astimezone(UTC)
        except (KeyError, ValueError, OverflowError):
            return
        if not is_zero(date):
            self._dates.append(date)


def _told_of_call(error: httpx.HTTPError) -> str:
    """The error with its text, unless that may quote a header with a key, as that of a request that cannot be sent."""
    return name_of(error) if isinstance(error, httpx.LocalProtocolError) else told_with_type(error)
