"""Filters of the templates: how pages show times, numbers and the texts of senders."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from markupsafe import Markup, escape

from receiver import codec
from receiver.database.damage import DAMAGES
from receiver.logs.escapes import visible
from receiver.logs.safe_text import whole_sentence
from receiver.logs.wording import counted, named_secret

#: Units of time: their seconds, their names, and the numbers from which the next unit is used.
_UNITS = ((1, "s", 90), (60, "min", 90), (3_600, "h", 36), (86_400, "days", None))

#: The dash that pages show for a missing value.
BLANK = Markup('<span class="nothing">–</span>')

YES, NO = Markup("yes"), Markup("no")


def moment(at: datetime | None) -> Markup:
    """A time in UTC. The page's script converts it to the reader's zone, and the title keeps UTC."""
    if at is None:
        return BLANK
    if type(at) in DAMAGES:
        return sent(at)
    utc = at.astimezone(UTC)
    shown = utc.isoformat(" ", "milliseconds").removesuffix("+00:00")
    # Not `Markup.format`, which is ten times slower, because a page has hundreds of times.
    written = f'<time datetime="{utc.isoformat()}" title="{shown} UTC">{shown[:-4]} UTC</time>'
    return Markup(written)  # noqa: S704 (a time has nothing to escape)


def ago(at: datetime | None, now: datetime) -> Markup:
    """The span since a time, such as `3 s ago`, with the time as title."""
    if at is None:
        return BLANK
    if type(at) in DAMAGES:
        return sent(at)
    utc = at.astimezone(UTC)
    told = f"{duration(now - at)} ago" if at <= now else f"in {duration(at - now)}"
    exact = utc.isoformat(" ", "seconds").removesuffix("+00:00")
    written = f'<time class="ago" datetime="{utc.isoformat()}" title="{exact} UTC">{told}</time>'
    return Markup(written)  # noqa: S704 (a time has nothing to escape)


def duration(length: timedelta | float | None) -> str:
    """A length of time, such as `3 s` or `14 min`."""
    if length is None:
        return "–"
    if type(length) in DAMAGES:
        return str(length)
    seconds = length.total_seconds() if isinstance(length, timedelta) else float(length)
    for unit, name, most in _UNITS:
        if most is None or seconds < most * unit:
            return f"{seconds / unit:.0f} {name}"
    raise AssertionError("the last unit has no end")


def number(value: int) -> str:
    """A count with thousands separators."""
    return f"{value:,}"


def sent(text: object) -> Markup:
    """The text of a sender, with markup escaped, htmx kept off it, and each invisible character written out."""
    if text is None or text == "":
        return BLANK
    written = f"<bdi hx-ignore>{escape(visible(str(text)))}</bdi>"
    return Markup(written)  # noqa: S704 (the text is escaped)


def told(text: object) -> Markup:
    """A sentence of ours that may quote a sender: as `sent`, with the text between backticks as code."""
    if text is None or text == "":
        return BLANK
    # Every second part stands between two backticks, except one behind a last backtick that has no partner.
    *parts, last = visible(str(text)).split("`")
    if len(parts) % 2:
        last = f"{parts.pop()}`{last}"
    shown = [Markup("<code>{}</code>").format(part) if place % 2 else escape(part) for place, part in enumerate(parts)]
    return Markup("<bdi hx-ignore>{}</bdi>").format(Markup("").join([*shown, escape(last)]))


def exact(text: object) -> Markup:
    """The exact value of a hidden field, with each invisible character as a visible character reference."""
    written = (letter if letter.isprintable() else Markup("&#x{:x};").format(ord(letter)) for letter in str(text))
    return Markup("").join(written)


def plain(value: Any) -> Markup:
    """A value of a row, with all its digits."""
    if value is None:
        return BLANK
    if isinstance(value, bool):
        return YES if value else NO
    if isinstance(value, datetime):
        return moment(value)
    if isinstance(value, dict | list):
        return sent(codec.encode(value).decode())
    return sent(codec.plain(value))


#: All filters, by the name that templates use.
FILTERS = {"moment": moment, "ago": ago, "duration": duration, "number": number, "sent": sent, "plain": plain} | {
    "visible": visible,
    "exact": exact,
    "told": told,
    "counted": counted,
    "sentence": whole_sentence,
    "named_secret": named_secret,
}
