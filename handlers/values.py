"""The values that the four systems share: ids, texts, prices and times, read tolerantly but never guessed.

A value that decides (an id, a time) is refused if it is not valid. A value that only informs (a name, a price) costs
its own column at most: if the column cannot hold it, it becomes None, and the source's own object in `data` still has
it. So "on request" as a price neither makes a delivery dead nor keeps an old price.
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

#: JSON's numbers, and what people write for them in text; Decimal alone would also take "NaN", "1_000" and " 1 ".
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,6})?", re.ASCII)

#: The start of an ISO 8601 date: keeps out numbers, whose unit would be a guess.
_DATE = re.compile(r"\d{4}-\d\d-\d\d[T ]", re.ASCII)


def as_id(value: Any) -> str:
    """An id as text: 49 and "49" are the same product. Raises `ValueError` for anything else (true, 1.0, "", null)."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise ValueError("an id is text or a whole number")
    if not 0 < len(value) <= LONGEST_NAME:
        raise ValueError(f"an id is 1 to {LONGEST_NAME} characters long")
    return value


def id_of(value: Any, members: Iterable[str], *, what: str) -> str:
    """The first of these members that is there and not null, as an id. Raises `Unreadable`."""
    members = tuple(members)
    for member in members if isinstance(value, dict) else ():
        if value.get(member) is not None:
            try:
                return as_id(value[member])
            except ValueError as error:
                raise Unreadable(f"`{what}.{member}` is not a valid id: {error}.") from None
    raise Unreadable(f"`{what}` has no {' or '.join(members)}, so nobody knows what changed.")


def as_text(value: Any) -> str | None:
    """Text as it is, a number with the digits given; None for any other value."""
    if isinstance(value, str):
        return value
    if isinstance(value, (int, Decimal)) and not isinstance(value, bool):
        return str(value)
    return None


def as_price(value: Any) -> Decimal | None:
    """A number, or text that is one, with its digits; None for any other value."""
    text = as_text(value)
    if text is None or not _NUMBER.fullmatch(text):
        return None
    number = Decimal(text)
    beyond = max(abs(number.adjusted()), -int(number.as_tuple().exponent)) > LARGEST_EXPONENT
    return None if beyond else number


def as_moment(value: Any) -> datetime:
    """An ISO 8601 time with its offset, in UTC. Raises `ValueError`, for a time that programs write for none, too."""
    if not isinstance(value, str) or not _DATE.match(value):
        raise ValueError("a time is ISO 8601 text")
    moment = datetime.fromisoformat(value)
    if moment.tzinfo is None:
        raise ValueError("a time needs its offset")
    if is_zero(moment):
        raise ValueError("a zero time means that no time is given")
    return in_utc(moment)


def as_moment_or_none(value: Any) -> datetime | None:
    """As `as_moment`, for a time that only helps."""
    try:
        return as_moment(value)
    except ValueError:
        return None


def related_id(value: Any) -> str | None:
    """The id of a related object, `{"id": 5, …}`; None for an empty relation, which PHP may write as `[]`."""
    try:
        return as_id(value["id"]) if isinstance(value, dict) else None
    except (KeyError, ValueError):
        return None


Id = Annotated[str, BeforeValidator(as_id)]
Text = Annotated[str | None, BeforeValidator(as_text)]
Price = Annotated[Decimal | None, BeforeValidator(as_price)]
Moment = Annotated[datetime, BeforeValidator(as_moment)]
MomentOrNone = Annotated[datetime | None, BeforeValidator(as_moment_or_none)]
RelatedId = Annotated[str | None, BeforeValidator(related_id)]


class Sent(BaseModel):
    """An object as a source sends it: what we know of it as fields, and `whole` with every member as it came."""

    model_config = ConfigDict(extra="ignore")

    @model_validator(mode="wrap")
    @classmethod
    def _keep_whole(cls, value: Any, validate: ModelWrapValidatorHandler[Self]) -> Self:
        sent = validate(value)
        # Where a cached property keeps its value: a private attribute would cost a third of the validation again.
        sent.__dict__["whole"] = value
        return sent

    @cached_property
    def whole(self) -> Any:
        """The object with every member as it came; None if it was not read from one."""
        return None

    def news(self, **fields: str) -> dict[str, Any]:
        """Column values by the fields that hold them, `news(sku="sku_num")`; without those not sent."""
        return {column: getattr(self, field) for column, field in fields.items() if field in self.model_fields_set}
