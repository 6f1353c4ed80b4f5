"""Adds an index on the SKU to each table of the catalog."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"

TABLES_WITH_SKU = ("products", "variants", "categories", "groups", "options", "records")


def upgrade() -> None:
    for table in TABLES_WITH_SKU:
        op.create_index(f"ix_{table}_sku", table, ["sku"], if_not_exists=True)
