"""Values of headers for an envelope: those that the signature covers, and the one that the dialect trusts without that.

They are kept with the delivery, so that every attempt and replay reads the same values.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NoReturn

#: Keys among the kept headers that are no possible names of headers. Their values are the names of the signed headers,
#: separated by commas, and the name of the trusted header. If the dialect reads headers, the first key begins the kept
#: headers.
SIGNED_MARK, TRUSTED_MARK = ":signed", ":trusted"

NO_HEADERS: Mapping[str, str] = {}


class KeptBody(bytes):
    """A verified body with the kept headers of its request."""

    headers: Mapping[str, str] = NO_HEADERS

    @classmethod
    def of(cls, body: bytes, headers: Mapping[str, str]) -> KeptBody:
        made = cls(body)
        made.headers = headers
        return made


class TrustedValue:
    """The value of a header that no signature covers. It may choose the handler, and nothing else.

    It can be compared and be the `event_type` of an envelope, but it cannot be converted to text.
    """

    __slots__ = ("_header", "_text")

    def __init__(self, header: str, text: str) -> None:
        self._header, self._text = header, text

    def __eq__(self, other: object) -> bool:
        return self._text == (other._text if isinstance(other, TrustedValue) else other)

    def __hash__(self) -> int:
        return hash(self._text)

    def startswith(self, text: str) -> bool:
        """Whether the value begins with this text."""
        return self._text.startswith(text)

    def endswith(self, text: str) -> bool:
        """Whether the value ends with this text."""
        return self._text.endswith(text)

    def __repr__(self) -> str:
        return f"the value of {self._header}, which is not signed"

    def __str__(self) -> NoReturn:
        raise TypeError(
            f"the value of {self._header} is not signed, so it may be compared and be the event_type, and nothing else"
        )

    def __format__(self, form: str) -> NoReturn:
        str(self)
        raise AssertionError

    def as_event_type(self) -> str:
        """Return the text; only the framework may call this."""
        return self._text


def mark(headers: dict[str, str], signed: frozenset[str], trusted: str | None) -> dict[str, str]:
    """Put marks with the names of the headers that an envelope may read in front of the kept headers."""
    marks = {SIGNED_MARK: ",".join(sorted(signed.intersection(headers)))}
    if trusted is not None and trusted in headers:
        marks[TRUSTED_MARK] = trusted
    return marks | headers


def joined_headers(*parts: Mapping[str, str]) -> dict[str, str]:
    """Join headers. Of a name in several spellings, the last one stays with its value."""
    found = {name.lower(): (name, value) for part in parts for name, value in part.items()}
    return dict(found.values())


def signed_values(body: bytes) -> Mapping[str, str]:
    """The values of the headers that the signature of this body covers, by their names in lower case."""
    headers = body.headers if isinstance(body, KeptBody) else NO_HEADERS
    return {name: headers[name] for name in headers.get(SIGNED_MARK, "").split(",") if name in headers}


def trusted_value(body: bytes) -> TrustedValue | None:
    """The value of the trusted header; None if the request had none."""
    headers = body.headers if isinstance(body, KeptBody) else NO_HEADERS
    name = headers.get(TRUSTED_MARK)
    return None if name is None else TrustedValue(name, headers[name])


def unmarked(headers: Mapping[str, str]) -> dict[str, str]:
    """The kept headers without the marks, as people see them."""
    return {name: value for name, value in headers.items() if not name.startswith(":")}
