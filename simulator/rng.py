"""Seeded random values: names, prices, ids and secrets. The same seed gives the same values in the same order."""

from __future__ import annotations

import string
from collections.abc import Mapping
from decimal import Decimal
from random import Random
from typing import TypeVar
from uuid import UUID

T = TypeVar("T")

ALPHANUMERICS = string.ascii_letters + string.digits

NOUNS = ("Lamp", "Jacket", "Kettle", "Backpack", "Bicycle", "Notebook", "Blender", "Tent", "Chair", "Headset")
MANNERS = ("Coastal", "Alpine", "Urban", "Quiet", "Folding", "Solar", "Compact", "Classic", "Nordic", "Rapid")
COLORS = ("blue", "red", "green", "black", "white", "grün", "été")
SIZES = ("small", "medium", "large")


class Rng(Random):
    """A random generator that also makes names, prices, ids and other values of a catalog."""

    def name(self) -> str:
        return f"{self.choice(MANNERS)} {self.choice(NOUNS)} {self.randrange(100, 1000)}"

    def sentence(self) -> str:
        return f"A {self.choice(MANNERS).lower()} {self.choice(NOUNS).lower()}, {self.choice(COLORS)}."

    def sku(self) -> str:
        return "".join(self.choices(string.ascii_uppercase + string.digits, k=10))

    def price(self, digits: int = 2) -> Decimal:
        """Make a price with exactly this many digits after the point, trailing zeros included."""
        cents = self.randrange(100, 200_000)
        return Decimal(cents).scaleb(-2).quantize(Decimal(1).scaleb(-digits))

    def token(self, length: int) -> str:
        """Make a text of letters and digits, for secrets and key phrases."""
        return "".join(self.choices(ALPHANUMERICS, k=length))

    def hexadecimal(self, length: int) -> str:
        return f"{self.getrandbits(length * 4):0{length}x}"

    def uuid(self) -> str:
        return str(UUID(int=self.getrandbits(128), version=4))

    def happens(self, share: float) -> bool:
        """Return True with this probability, from 0 to 1."""
        return share > 0 and self.random() < share

    def weighted(self, weights: Mapping[T, int]) -> T:
        return self.choices(list(weights), weights=list(weights.values()))[0]

    def some(self, items: list[T]) -> list[T]:
        """Choose at least one of the items, and keep their order."""
        count = self.randint(1, len(items))
        chosen = set(self.sample(range(len(items)), count))
        return [item for position, item in enumerate(items) if position in chosen]
