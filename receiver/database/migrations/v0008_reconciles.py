"""A reconcile goes through a list page by page: the keys that it has seen, and how far it is, are kept."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

MOMENT = sa.Text().with_variant(sa.DateTime(timezone=True), "postgresql")


def upgrade() -> None:
    # A database whose tables were made as they are declared has both already.
    op.create_table(
        "seen",
        sa.Column("run", sa.String, primary_key=True),
        sa.Column("table", sa.String, primary_key=True),
        sa.Column("external_id", sa.String, primary_key=True),
        sa.Column("walk", sa.Integer, nullable=False),
        sa.Column("active", sa.Boolean),
        sqlite_with_rowid=False,
        if_not_exists=True,
    )
    op.create_table(
        "reconciles",
        sa.Column("source", sa.String, primary_key=True),
        sa.Column("noticed_at", MOMENT, nullable=False),
        sa.Column("run", sa.String),
        sa.Column("holder", sa.String),
        sa.Column("lease_until", MOMENT),
        sa.Column("mark", sa.Text),
        sa.Column("scheduled", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("began_at", MOMENT),
        sa.Column("ended_at", MOMENT),
        sa.Column("error", sa.String),
        if_not_exists=True,
    )
