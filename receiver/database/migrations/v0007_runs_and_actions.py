"""What people did, and the runs that they set going."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0005"

MOMENT = sa.Text().with_variant(sa.DateTime(timezone=True), "postgresql")
NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    op.create_table(
        "actions",
        sa.Column("id", NUMBER, primary_key=True),
        sa.Column("at", MOMENT, nullable=False),
        sa.Column("who", sa.String, nullable=False),
        sa.Column("via", sa.String, nullable=False),
        sa.Column("what", sa.String, nullable=False),
        sa.Column("arguments", sa.Text, nullable=False),
        sa.Column("run", sa.BigInteger),
        sa.Column("count", sa.BigInteger, nullable=False),
        sa.Column("reason", sa.String),
        sa.Column("result", sa.Text, nullable=False),
        sa.Column("key", sa.String),
        sqlite_autoincrement=True,
        if_not_exists=True,
    )
    op.create_index("ix_actions_key", "actions", ["key"], unique=True, if_not_exists=True)
    op.create_index("ix_actions_run", "actions", ["run", "id"], if_not_exists=True)
