"""Huge numbers in bodies: their digits or their exponent are so large that computing with them takes too long.

`1e999999999` is short in a body. But a model with an `int` would make a whole number of a billion digits of it, and
each ack would wait for that. So such a number keeps its digits, and every computation with it fails at once.
"""

from __future__ import annotations

from decimal import Clamped, Context, Decimal, DecimalTuple, InvalidOperation, Overflow, Rounded, Subnormal
from typing import Any

#: The most powers of ten above and below one of a usual number, and its most digits: as many as an exact column takes.
#: A body full of such numbers becomes whole numbers within seconds.
LARGEST_POWER = 1_000
LONGEST_NUMBER = 2 * LARGEST_POWER + 1

#: Reads the text of a usual number with all its digits. Raises `ArithmeticError` for every other number.
usual_number = Context(
    prec=LONGEST_NUMBER,
    Emax=LARGEST_POWER,
    Emin=-LARGEST_POWER,
    traps=[Overflow, Subnormal, Rounded, Clamped, InvalidOperation],
).create_decimal


class HugeNumber(Decimal):
    """A number with its digits, with which nothing can be computed: to Python it is a signalling NaN.

    It can be compared for equality, be a float, be written as text, and be written into JSON by `receiver.codec`.
    """

    __slots__ = ("exact",)

    exact: Decimal

    def __new__(cls, exact: Decimal) -> HugeNumber:
        made = super().__new__(cls, "sNaN")
        made.exact = exact
        return made

    def __str__(self) -> str:
        return str(self.exact)

    def __repr__(self) -> str:
        return repr(self.exact)

    def __format__(self, form: str, /, *_: Any) -> str:
        """Format the number. Raises `ValueError` for a form that would write out more than `LARGEST_POWER` zeros."""
        if form and abs(self.exact.adjusted()) > LARGEST_POWER:
            raise ValueError(f"{self} has too many digits to be written out")
        return format(self.exact, form)

    def __eq__(self, other: object) -> bool:
        return self.exact == (other.exact if isinstance(other, HugeNumber) else other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __float__(self) -> float:
        return float(self.exact)

    def __hash__(self) -> int:
        return hash(self.exact)

    def __reduce__(self) -> tuple[type[HugeNumber], tuple[Decimal]]:  # type: ignore[override]
        return HugeNumber, (self.exact,)

    def adjusted(self) -> int:
        return self.exact.adjusted()

    def as_tuple(self) -> DecimalTuple:
        return self.exact.as_tuple()


def any_number(text: str) -> Decimal:
    """Read the text of a number. Raises `ArithmeticError` for an exponent beyond those of `Decimal`."""
    try:
        return usual_number(text)
    except ArithmeticError:
        exact = Decimal(text)
        return HugeNumber(exact) if exact else exact
