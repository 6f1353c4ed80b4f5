"""The catalog's mirror tables: six tables with the columns that an ERP joins on, and the source's own object."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from sqlmodel import Field

from receiver import MirrorRow, document_field, price_field


class CatalogRow(MirrorRow):
    """The columns that all six tables have."""

    sku: str | None = Field(default=None, index=True)
    name: str | None = None
    #: Exact, with the digits that the source gave.
    price: Decimal | None = price_field()
    #: The code of ISO 4217, if the source gives it.
    currency: str | None = None
    #: The external id of the parent: a variant's product, a product's category, an option's product.
    parent: str | None = Field(default=None, index=True)
    lifecycle_state: str | None = None
    #: The source's own object, unchanged.
    data: dict[str, Any] | None = document_field()


class Product(CatalogRow, table=True):
    __tablename__ = "products"


class Variant(CatalogRow, table=True):
    """A variant, which is deactivated with its product."""

    __tablename__ = "variants"
    parent_table = Product


class Category(CatalogRow, table=True):
    __tablename__ = "categories"


class Group(CatalogRow, table=True):
    __tablename__ = "groups"


class Option(CatalogRow, table=True):
    __tablename__ = "options"


class Record(CatalogRow, table=True):
    """An entity of any other kind. Its external id is "<kind>:<id>", because entities of two kinds may share an id."""

    __tablename__ = "records"

    kind: str | None = None
