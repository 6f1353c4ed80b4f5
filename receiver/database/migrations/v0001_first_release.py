"""The tables of the first release: the inbox and the change feed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

#: The tables of this revision. A database with all of them and without a recorded revision has this revision.
TABLES = ("deliveries", "bodies", "dedup_keys", "attempts", "changes")

MOMENT = sa.Text().with_variant(sa.DateTime(timezone=True), "postgresql")


def upgrade() -> None:
    op.create_table(
        "deliveries",
        sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("source", sa.String, nullable=False),
        sa.Column("event_type", sa.String),
        sa.Column("entity_kind", sa.String),
        sa.Column("entity_id", sa.String),
        sa.Column("occurred_at", MOMENT),
        sa.Column("received_at", MOMENT, nullable=False),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.Column("due_at", MOMENT, nullable=False),
        sa.Column("suspect", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("claimed_by", sa.String),
        sa.Column("lease_until", MOMENT),
        sa.Column("outcome", sa.String),
        sa.Column("reason", sa.String),
        sa.Column("ended_at", MOMENT),
        sa.Column("dedup_key", sa.String, nullable=False),
        sa.Column("conflict", sa.Boolean, nullable=False),
        sa.Column("duplicates", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.Column("secret", sa.Integer),
    )
    _index("ix_deliveries_due", "suspect", "due_at", "id", where="state = 'pending'")
    _index("ix_deliveries_processing", "source", "entity_kind", "entity_id", where="state = 'processing'")
    _index("ix_deliveries_dead", "id", where="state = 'dead'")
    _index("ix_deliveries_source", "source", "id")
    _index("ix_deliveries_entity", "entity_id", "id", where="ended_at IS NOT NULL")
    op.create_table(
        "bodies",
        sa.Column("delivery_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("plain", sa.LargeBinary),
        sa.Column("headers", sa.Text, nullable=False),
    )
    op.create_table(
        "dedup_keys",
        sa.Column("source", sa.String, primary_key=True),
        sa.Column("dedup_key", sa.String, primary_key=True),
        sa.Column("fingerprint", sa.LargeBinary, nullable=False),
        sa.Column("delivery_id", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "attempts",
        sa.Column("delivery_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("ended_at", MOMENT, primary_key=True),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("worker", sa.String, nullable=False),
        sa.Column("reason", sa.String, nullable=False),
    )
    op.create_table(
        "changes",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
        sa.Column("table", sa.String, nullable=False),
        sa.Column("source", sa.String, nullable=False),
        sa.Column("external_id", sa.String, nullable=False),
        sa.Column("operation", sa.String, nullable=False),
        sa.Column("before", sa.Text, nullable=False),
        sa.Column("after", sa.Text, nullable=False),
        sa.Column("delivery_id", sa.BigInteger),
        sa.Column("changed_at", MOMENT, nullable=False),
        sa.Column("recorded_at", MOMENT, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_changes_row", "changes", ["table", "source", "external_id", "seq"])


def _index(name: str, *columns: str, where: str | None = None) -> None:
    condition = None if where is None else sa.text(where)
    op.create_index(name, "deliveries", columns, sqlite_where=condition, postgresql_where=condition)
