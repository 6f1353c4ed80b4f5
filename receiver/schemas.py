"""Schemas of JSON answers: their base class, and those of every process: alive, and an error.

A schema has two uses: its instances are encoded as answers, and its class is described in the OpenAPI document.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal, Self

from msgspec import Meta, Struct

from receiver.errors import NotVerified, Refused

#: A time, ISO 8601 in UTC.
Moment = Annotated[datetime, Meta(tz=True)]

#: The codes that verifiers give `NotVerified`.
NOT_VERIFIED = (
    *("signature_missing", "signature_malformed", "signature_repeated", "signature_wrong"),
    "signature_stale",
    *("not_decryptable", "app_key_wrong", "body_compressed"),
)


def _with_subclasses(kind: type[Refused]) -> list[type[Refused]]:
    return [kind, *(each for below in kind.__subclasses__() for each in _with_subclasses(below))]


#: Every class of refusals.
REFUSALS: tuple[type[Refused], ...] = tuple(_with_subclasses(Refused))


def codes_of(kind: type[Refused]) -> tuple[str, ...]:
    """The error codes that a refusal of this class may have."""
    return NOT_VERIFIED if kind is NotVerified else (kind.code,)


#: All error codes, in the order of the classes.
ERROR_CODES = [code for kind in REFUSALS for code in codes_of(kind)]


class Shape(Struct, frozen=True, forbid_unknown_fields=True):
    """The base class of answers. An answer has all members of its class, and no others."""


class Alive(Shape, frozen=True):
    """The answer of a process that runs."""

    status: Literal["alive"]


class Error(Shape, frozen=True):
    """The reason for which a request was refused."""

    error: Annotated[str, Meta(extra_json_schema={"enum": ERROR_CODES})]
    message: Annotated[str, Meta(description="What to do about it.")]

    @classmethod
    def of(cls, refusal: Refused) -> Self:
        return cls(refusal.code, refusal.message)
