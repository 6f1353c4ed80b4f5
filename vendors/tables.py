"""Mirror tables that the catalog does not have: how many pieces are where, and what a thing costs under which terms."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from sqlmodel import Field

from receiver import MirrorRow, document_field, price_field


class StockLevel(MirrorRow, table=True):
    """How many pieces of a thing are for sale at a place."""

    __tablename__ = "stock_levels"

    #: The sender's id of what is counted: an inventory item, a product or a variant.
    item: str | None = Field(default=None, index=True)
    #: The sender's id of the place; None where it counts all places together.
    location: str | None = None
    #: Exact, since some shops sell by weight; below zero where more was sold than there is. None: not counted.
    available: Decimal | None = price_field()


class Price(MirrorRow, table=True):
    """A price of a product, of which a product may have several. It is not deactivated with its product."""

    __tablename__ = "prices"

    #: The external id of the product.
    product: str | None = Field(default=None, index=True)
    #: In the smallest unit of the currency, as the sender writes it; None for tiers and for amounts that buyers choose.
    unit_amount: Decimal | None = price_field()
    currency: str | None = None
    #: How often it is paid: "month", "year"; None for once.
    interval: str | None = None
    lifecycle_state: str | None = None
    #: The sender's own object, unchanged.
    data: dict[str, Any] | None = document_field()
