"""Mirror tables in addition to the catalog's: stock levels, and prices with their terms."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from sqlmodel import Field

from receiver import MirrorRow, document_field, price_field


class StockLevel(MirrorRow, table=True):
    """The quantity of an item that is for sale at a location. It is not deactivated with its product or variant."""

    __tablename__ = "stock_levels"

    #: The sender's id of the counted thing: an inventory item, a product or a variant.
    item: str | None = Field(default=None, index=True)
    #: The sender's id of the location; None if the sender counts all locations together.
    location: str | None = None
    #: The exact quantity, since some shops sell by weight. It is below zero if more was sold than there is, and None if
    #: the sender does not count it.
    available: Decimal | None = price_field()


class Price(MirrorRow, table=True):
    """One of the prices of a product. It is not deactivated with its product."""

    __tablename__ = "prices"

    #: The external id of the product.
    product: str | None = Field(default=None, index=True)
    #: The amount in the smallest unit of the currency, as the sender writes it; None for tiers and for amounts that
    #: buyers choose.
    unit_amount: Decimal | None = price_field()
    currency: str | None = None
    #: The period of a repeated payment, such as "month" or "3 months"; None for a single payment.
    interval: str | None = None
    lifecycle_state: str | None = None
    #: The sender's own object, unchanged.
    data: dict[str, Any] | None = document_field()
