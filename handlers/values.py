"""Ids, texts, prices and times as the four systems write them. Several forms are read, and none is guessed.

An invalid id or time of change is refused, because the row and the order depend on it. An invalid name or price, or a
SKU that is too long for its index, becomes None in its column, and `data` keeps the source's own value. So a price "on
request" neither makes the delivery dead nor leaves an old price in the row.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from functools import cached_property
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, ModelWrapValidatorHandler, model_validator

from receiver import Unreadable
from receiver.database.columns import LARGEST_EXPONENT
from receiver.envelope import LONGEST_NAME
from receiver.moments import in_utc, is_zero

#: Numbers as JSON and people write them. Decimal alone would also accept "NaN", "1_000" and " 1 ".
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,6})?", re.ASCII)

#: The start of an ISO 8601 time. It refuses plain numbers, whose unit is unknown.
_DATE = re.compile(r"\d{4}-\d\d-\d\d[T ]", re.ASCII)


def as_id(value: Any) -> str:
    """Return an id as text, so that 49 and "49" are one product. Raises `ValueError` for true, 1.0, "" and null."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise ValueError("an id is text or a whole number")
    if not 0 < len(value) <= LONGEST_NAME:
        raise ValueError(f"an id is 1 to {LONGEST_NAME} characters long")
    return value


def as_id_or_none(value: Any) -> str | None:
    """Return an id as `as_id` does, for the id of a parent; None for any other value."""
    try:
        return as_id(value)
    except ValueError:
        return None


def id_of(value: Any, members: Iterable[str], *, what: str) -> str:
    """Return the first of these members that is present and not null, as an id. Raises `Unreadable`."""
    members = tuple(members)
    for member in members if isinstance(value, dict) else ():
        if value.get(member) is not None:
            try:
                return as_id(value[member])
            except ValueError as error:
                raise Unreadable(f"`{what}.{member}` is not a valid id: {error}.") from None
    raise Unreadable(f"`{what}` has no {' or '.join(members)}, so it does not say what changed.")


def as_text(value: Any) -> str | None:
    """Return text unchanged, and a number with its digits; None for any other value."""
    if isinstance(value, str):
        return value
    if isinstance(value, (int, Decimal)) and not isinstance(value, bool):
        return str(value)
    return None


def as_short_text(value: Any) -> str | None:
    """Return text as `as_text` does, for a SKU; None if it is longer than any id."""
    text = as_text(value)
    return None if text is None or len(text) > LONGEST_NAME else text


def as_price(value: Any) -> Decimal | None:
    """Return a number, or text that is a number, with its digits; None for any other value."""
    text = as_text(value)
    if text is None or not _NUMBER.fullmatch(text):
        return None
    number = Decimal(text)
    beyond = max(abs(number.adjusted()), -int(number.as_tuple().exponent)) > LARGEST_EXPONENT
    return None if beyond else number


def as_moment(value: Any) -> datetime:
    """Read an ISO 8601 time with its offset, as UTC. Raises `ValueError`, also for a zero time."""
    if not isinstance(value, str) or not _DATE.match(value):
        raise ValueError("a time is ISO 8601 text")
    moment = datetime.fromisoformat(value)
    if moment.tzinfo is None:
        raise ValueError("a time needs its offset")
    if is_zero(moment):
        raise ValueError("a zero time means that no time is given")
    return in_utc(moment)


def as_moment_or_none(value: Any) -> datetime | None:
    """Read a time as `as_moment` does; None if it is not valid."""
    try:
        return as_moment(value)
    except ValueError:
        return None


def related_id(value: Any) -> str | None:
    """Return the id of a related object, `{"id": 5, …}`; None for an empty relation, which PHP may write as `[]`."""
    return as_id_or_none(value.get("id")) if isinstance(value, dict) else None


Id = Annotated[str, BeforeValidator(as_id)]
IdOrNone = Annotated[str | None, BeforeValidator(as_id_or_none)]
Text = Annotated[str | None, BeforeValidator(as_text)]
ShortText = Annotated[str | None, BeforeValidator(as_short_text)]
Price = Annotated[Decimal | None, BeforeValidator(as_price)]
Moment = Annotated[datetime, BeforeValidator(as_moment)]
MomentOrNone = Annotated[datetime | None, BeforeValidator(as_moment_or_none)]
RelatedId = Annotated[str | None, BeforeValidator(related_id)]


class Sent(BaseModel):
    """An object as a source sends it: the known members as fields, and all members unchanged in `whole`."""

    model_config = ConfigDict(extra="ignore")

    @model_validator(mode="wrap")
    @classmethod
    def _keep_whole(cls, value: Any, validate: ModelWrapValidatorHandler[Self]) -> Self:
        sent = validate(value)
        # A cached property keeps its value here. A private attribute would make the validation a third slower.
        sent.__dict__["whole"] = value
        return sent

    @cached_property
    def whole(self) -> Any:
        """The object with all its members unchanged; None if the model was not read from an object."""
        return None

    def news(self, **fields: str) -> dict[str, Any]:
        """Return column values, given the field of each column: `news(sku="sku_num")`. Fields not sent are left out."""
        # Not by `getattr`, which in a model of pydantic's takes several times as long.
        values, sent = self.__dict__, self.model_fields_set
        return {column: values[field] for column, field in fields.items() if field in sent}
