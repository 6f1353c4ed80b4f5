"""Times: recognises the form in which a sender writes a time, and makes the code that reads it or writes it."""

from __future__ import annotations

import re
from datetime import datetime
from decimal import Decimal
from email.utils import parsedate_to_datetime
from typing import Any, Literal, cast

from pydantic import TypeAdapter, ValidationError

from receiver.drafting.columns import moment_in

#: The form of a time in a body. Of those that no model reads, "utc" ends with the word UTC, "spaced" has a space in
#: front of its offset, "iso" is any other with an offset, and "mail" is the form of emails.
TimeForm = Literal["aware", "naive", "iso", "spaced", "utc", "mail", "seconds", "milliseconds", "microseconds"]

#: The forms that a model reads as an annotated time.
MODEL_FORMS = frozenset({"aware", "naive", "seconds", "milliseconds"})

#: The most digits of a time in microseconds, which some senders write as text.
LONGEST_MOMENT = 16

#: By form of time, the code that writes a time into a body.
WRITTEN_TIMES: dict[TimeForm, str] = {
    "aware": "at.isoformat()",
    "naive": "at.astimezone(UTC).replace(tzinfo=None).isoformat()",
    "iso": "at.isoformat()",
    "spaced": "f\"{at.replace(tzinfo=None).isoformat(' ')} {at:%z}\"",
    "utc": "f\"{at.astimezone(UTC).replace(tzinfo=None).isoformat(' ')} UTC\"",
    "mail": "format_datetime(at)",
    "seconds": "int(at.timestamp())",
    "milliseconds": "int(at.timestamp() * 1000)",
    "microseconds": "int(at.timestamp() * 1_000_000)",
}

#: The least number of a time that counts, by its unit.
_UNITS: dict[TimeForm, int] = {"seconds": 10**9, "milliseconds": 10**12, "microseconds": 10**15}

_SPACED = re.compile(r"[0-9] (?:Z|[+-][0-9]{2}:?[0-9]{2})\Z")

_NAIVE: TypeAdapter[datetime] = TypeAdapter(datetime)

#: The first year whose times count: an earlier one is a placeholder.
_FIRST_YEAR = 1971


def time_form(value: Any) -> TimeForm | None:
    """Recognise the form of a time; None for a value that is no time."""
    number = _number_in(value)
    if number is not None:
        return _form_of_number(number)
    if not isinstance(value, str):
        return None
    if moment_in(value) is not None:
        return "aware"
    return _form_of_text(value) if len(value) > len("2026-06-01T12:0") and not value.isdigit() else None


def read_time(found: str, value: Any, form: TimeForm) -> str:
    """Make the code that reads a time of this form. `found` is the code of the member, and `value` an example."""
    if form in _UNITS:
        number = "float" if isinstance(value, Decimal) else "int"
        divided = {"seconds": "", "milliseconds": " / 1000", "microseconds": " / 1_000_000"}[form]
        return f"datetime.fromtimestamp({number}({found}){divided}, UTC)"
    if form == "mail":
        return f"parsedate_to_datetime({found})"
    if form == "spaced":
        return f'datetime.fromisoformat("".join({found}.rsplit(" ", 1)))'
    cut = '.removesuffix(" UTC")' if form == "utc" else ""
    # Programs in Go write the offset, too.
    cut += '.removesuffix(" +0000")' if cut and str(value).endswith(" +0000 UTC") else ""
    return f"datetime.fromisoformat({found}{cut})" + (".replace(tzinfo=UTC)" if form in ("utc", "naive") else "")


def _number_in(value: Any) -> int | Decimal | None:
    """The number that a time since 1970 has, which some senders write as text."""
    # Not `isinstance`: a number that is too large to keep has a type of its own, and true and false are integers.
    if type(value) in (int, Decimal):
        return cast("int | Decimal", value)
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) <= LONGEST_MOMENT:
        return int(value)
    return None


def _form_of_number(number: int | Decimal) -> TimeForm | None:
    return next((unit for unit, least in _UNITS.items() if least <= number < 10 * least), None)


def _form_of_text(text: str) -> TimeForm | None:
    try:
        moment = _NAIVE.validate_python(text, strict=False)
    except ValidationError:
        return _unusual_form(text)
    return "naive" if moment.tzinfo is None and moment.year >= _FIRST_YEAR else None


def _unusual_form(text: str) -> TimeForm | None:
    """The form of a time with an offset that no model reads."""
    form: TimeForm = "utc" if text.endswith(" UTC") else "spaced" if _SPACED.search(text) else "iso"
    try:
        moment = datetime.fromisoformat(_without_space(text, form))
    except ValueError:
        return "mail" if _is_mail_time(text) else None
    is_told = (moment.tzinfo is None) == (form == "utc")
    return form if is_told and moment.year >= _FIRST_YEAR else None


def _without_space(text: str, form: TimeForm) -> str:
    """The text as ISO 8601, as the code of `read_time` makes it, too."""
    if form == "utc":
        return text.removesuffix(" UTC").removesuffix(" +0000")
    return "".join(text.rsplit(" ", 1)) if form == "spaced" else text


def _is_mail_time(text: str) -> bool:
    """Whether a text is a time such as `Mon, 01 Jun 2026 12:00:00 GMT`."""
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return False
    # Other texts with a number and the name of a month are read as times, too, but do not begin with a weekday.
    return text[3:4] == "," and moment.tzinfo is not None and moment.year >= _FIRST_YEAR
