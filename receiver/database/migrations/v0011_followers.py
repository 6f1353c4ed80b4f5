"""Followers of the change feed: the cursor of each, and the changes that its target refuses."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"

#: The tables of this revision.
TABLES = ("followers", "dead_changes")

MOMENT = sa.Text().with_variant(sa.DateTime(timezone=True), "postgresql")


def upgrade() -> None:
    op.create_table(
        "followers",
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("target", sa.String, nullable=False),
        sa.Column("reach", sa.String, nullable=False),
        sa.Column("table", sa.String),
        sa.Column("source", sa.String),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("mark", sa.String, nullable=False),
        sa.Column("holder", sa.String),
        sa.Column("seen_at", MOMENT, nullable=False),
        sa.Column("began_at", MOMENT, nullable=False),
        sa.Column("accepted_at", MOMENT),
        sa.Column("trouble", sa.String),
        sa.Column("trouble_since", MOMENT),
        if_not_exists=True,
    )
    op.create_table(
        "dead_changes",
        sa.Column("follower", sa.String, primary_key=True),
        sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("table", sa.String, nullable=False),
        sa.Column("source", sa.String, nullable=False),
        sa.Column("external_id", sa.String, nullable=False),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("status", sa.Integer),
        sa.Column("reason", sa.String),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("since", MOMENT, nullable=False),
        if_not_exists=True,
    )
    row = ["follower", "table", "source", "external_id", "seq"]
    op.create_index("ix_dead_changes_row", "dead_changes", row, if_not_exists=True)
    op.create_index("ix_dead_changes_state", "dead_changes", ["follower", "state", "seq"], if_not_exists=True)
