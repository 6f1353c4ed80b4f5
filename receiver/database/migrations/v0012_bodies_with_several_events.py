"""A body may hold several events: each delivery has the id of its body, and its position in it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"

SHARED = sa.text("body_id IS NOT NULL")


def upgrade() -> None:
    # A database whose tables were made as they are declared has both already.
    if "item" not in {column["name"] for column in sa.inspect(op.get_bind()).get_columns("deliveries")}:
        op.add_column("deliveries", sa.Column("item", sa.Integer))
        op.add_column("deliveries", sa.Column("body_id", sa.BigInteger))
    op.create_index(
        "ix_deliveries_body",
        "deliveries",
        ["body_id"],
        sqlite_where=SHARED,
        postgresql_where=SHARED,
        if_not_exists=True,
    )
