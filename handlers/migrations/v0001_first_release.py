"""The tables of the first release: the six of the catalog."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

#: The tables that this revision makes. A database with all of them and without a recorded revision has this revision.
TABLES = ("products", "variants", "categories", "groups", "options", "records")

MOMENT = sa.Text().with_variant(sa.DateTime(timezone=True), "postgresql")
PRICE = sa.Text().with_variant(sa.Numeric(), "postgresql")


def upgrade() -> None:
    for table in TABLES:
        kind = [sa.Column("kind", sa.String)] if table == "records" else []
        op.create_table(
            table,
            sa.Column("source", sa.String, primary_key=True),
            sa.Column("external_id", sa.String, primary_key=True),
            sa.Column("active", sa.Boolean, nullable=False),
            sa.Column("changed_at", MOMENT, nullable=False),
            sa.Column("deactivated_at", MOMENT),
            sa.Column("tie", sa.Boolean, nullable=False),
            sa.Column("versions", sa.String, nullable=False),
            sa.Column("sku", sa.String),
            sa.Column("name", sa.String),
            sa.Column("price", PRICE),
            sa.Column("currency", sa.String),
            sa.Column("parent", sa.String),
            sa.Column("lifecycle_state", sa.String),
            sa.Column("data", sa.Text),
            *kind,
        )
        op.create_index(f"ix_{table}_parent", table, ["parent"])
