"""A database has a random name as its identity, and an index finds the changes of a delivery."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"

#: The tables of this revision.
TABLES = ("identity",)


def upgrade() -> None:
    op.create_table(
        "identity",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("name", sa.String, nullable=False),
        if_not_exists=True,
    )
    postgresql = op.get_bind().dialect.name == "postgresql"
    name = "replace(CAST(gen_random_uuid() AS text), '-', '')" if postgresql else "lower(hex(randomblob(16)))"
    op.execute(f"INSERT INTO identity (id, name) SELECT 1, {name} WHERE NOT EXISTS (SELECT 1 FROM identity)")  # noqa: S608 (both are ours)
    op.create_index(
        "ix_changes_delivery",
        "changes",
        ["delivery_id"],
        sqlite_where=sa.text("delivery_id IS NOT NULL"),
        postgresql_where=sa.text("delivery_id IS NOT NULL"),
        if_not_exists=True,
    )
