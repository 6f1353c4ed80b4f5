"""Refused: turns a refusal that a dialect's code raises into a refusal of our own class, with plain values.

A class of a dialect's own need not call `super().__init__`, and its attributes may have any value. The answer, the
metrics and the keeper read them, and an error there would concern other requests, too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import structlog

from receiver import errors
from receiver.codec import storable
from receiver.errors import BodyTooLarge, NotVerified, Refused, Unavailable
from receiver.ingest.source import VerifiableSource
from receiver.logs.repeats import Repeats
from receiver.logs.safe_text import name_of, quoted
from receiver.schemas import NOT_VERIFIED, codes_of

log = Repeats(structlog.get_logger(__name__))

#: Our own classes of refusals, by name.
OUR_REFUSALS = {
    name: kind for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, Refused)
}

#: The most seconds for which a refusal may ask its sender to wait, and the seconds of one that asks for another number.
LONGEST_SENDER_PAUSE, USUAL_SENDER_PAUSE = 86_400, Unavailable("").retry_after

#: The names of the values of a `NotVerified`.
_USUAL_VALUES = frozenset({"message", "code", "final"})

#: The largest size that a refusal may name; larger numbers do not fit into a frame.
LARGEST_SIZE = 2**63 - 1


def in_our_words(refusal: Refused, source: VerifiableSource) -> Refused:
    """Make the refusal of the nearest class of our own. The usual value replaces each that the API does not allow.

    Metrics and alarms count by the code, so it may not be a text of the sender's.
    """
    if _is_usual(refusal):
        return refusal
    kind = _nearest_kind(refusal)
    codes = codes_of(kind)
    code = _value(refusal, "code", lambda given: type(given) is str and given in codes)
    message = _value(refusal, "message", lambda given: type(given) is str)
    if code is None or message is None:
        log.warning(
            "a dialect refused a request with an unknown code, or without a text: call `super().__init__` with a text, "
            "and for NotVerified with one of the codes of docs/api.md",
            about={"source": source.name, "refusal": name_of(refusal)},
            code=quoted(_value(refusal, "code", lambda _: True)),
        )
    if message is None:
        message = "This request is not verified." if kind is NotVerified else "This request is refused."
    made = kind.__new__(kind, storable(message))
    made.message = made.args[0]
    made.code = code or ("signature_wrong" if kind is NotVerified else kind.code)
    made.status = _value(refusal, "status", _is_between(400, 599), kind.status)
    if isinstance(made, NotVerified):
        made.final = _value(refusal, "final", lambda given: type(given) is bool, False)
    elif isinstance(made, Unavailable):
        made.retry_after = _value(refusal, "retry_after", _is_between(0, LONGEST_SENDER_PAUSE), USUAL_SENDER_PAUSE)
    elif isinstance(made, BodyTooLarge):
        made.size = _value(refusal, "size", _is_between(0, LARGEST_SIZE), 0)
    return made


def _is_usual(refusal: Refused) -> bool:
    """Whether it is a `NotVerified` with plain values, as nearly all are, so that a flood of them costs little."""
    if type(refusal) is not NotVerified or vars(refusal).keys() != _USUAL_VALUES:
        return False
    code, message, final = refusal.code, refusal.message, refusal.final
    return (
        type(code) is str
        and code in NOT_VERIFIED
        and type(message) is str
        and message.isascii()
        and "\0" not in message
        and type(final) is bool
    )


def _nearest_kind(refusal: Refused) -> type[Refused]:
    """The most specific of our own classes that the refusal belongs to, found without asking its own class."""
    kinds = [kind for kind in OUR_REFUSALS.values() if issubclass(type(refusal), kind)]
    return max(kinds, key=lambda kind: len(kind.__mro__))


def _value(refusal: Refused, name: str, fits: Callable[[Any], bool], otherwise: Any = None) -> Any:
    """The attribute of the refusal if it is there and fits."""
    try:
        given = getattr(refusal, name)
    except BaseException:
        # A property of a dialect's own class may raise anything.
        return otherwise
    return given if fits(given) else otherwise


def _is_between(least: int, most: int) -> Callable[[Any], bool]:
    return lambda given: type(given) is int and least <= given <= most
