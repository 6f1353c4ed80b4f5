"""A reconcile is a run through a list, page by page; the keys that it saw and the rows that it changed are kept."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

#: The tables of this revision.
TABLES = ("seen", "schedules")

MOMENT = sa.Text().with_variant(sa.DateTime(timezone=True), "postgresql")


def upgrade() -> None:
    # A database whose tables were made as they are declared has all of it already.
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
        "schedules",
        sa.Column("source", sa.String, primary_key=True),
        sa.Column("noticed_at", MOMENT, nullable=False),
        if_not_exists=True,
    )
    if "run" not in {column["name"] for column in sa.inspect(op.get_bind()).get_columns("changes")}:
        op.add_column("changes", sa.Column("run", sa.BigInteger))
    _create_index("ix_changes_run", "changes", ["run", "seq"], "run IS NOT NULL")
    _create_index("ix_runs_reconciles", "runs", ["sources", "id"], "kind = 'reconcile' AND started_at IS NOT NULL")


def _create_index(name: str, table: str, columns: list[str], condition: str) -> None:
    where = sa.text(condition)
    op.create_index(name, table, columns, sqlite_where=where, postgresql_where=where, if_not_exists=True)
