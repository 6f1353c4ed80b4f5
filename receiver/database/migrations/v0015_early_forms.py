"""Databases that got an early form of the revisions 0006, 0008 and 0012 get the final one; others stay as they are.

Those three were changed, or put before others, after there were databases with them. Their later form never ran there.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"

#: The tables of this revision.
TABLES = ("settlements", "seen", "schedules")

#: The table that is rebuilt on SQLite, with all of its columns, if it has the early form.
REBUILT = {"attempts": None}

MOMENT = sa.Text().with_variant(sa.DateTime(timezone=True), "postgresql")

#: The early form of `attempts` had the successful ones, too. Each becomes a settlement of its own.
MOVE_SUCCESSES = """
INSERT INTO settlements (ended_at, id, worker, release, settle_us, attempts)
SELECT ended_at, delivery_id, worker, coalesce(release, ''), coalesce(settle_us, 0), CAST({array}({object}(
    'handler', handler, 'round', round, 'number', number, 'deliveries', {array}(delivery_id),
    'hydrate_us', {array}(coalesce(hydrate_us, 0)), 'handle_us', {array}(coalesce(handle_us, 0))
)) AS text)
FROM attempts WHERE NOT failed
"""

JSON = {
    "sqlite": {"array": "json_array", "object": "json_object"},
    "postgresql": {"array": "json_build_array", "object": "json_build_object"},
}


def upgrade() -> None:
    _create_settlements()
    if "failed" in _columns("attempts"):
        op.execute(MOVE_SUCCESSES.format(**JSON[op.get_bind().dialect.name]))
        op.execute("DELETE FROM attempts WHERE NOT failed")
        op.execute("UPDATE attempts SET reason = '' WHERE reason IS NULL")
        with op.batch_alter_table("attempts", table_kwargs={"sqlite_with_rowid": False}) as attempts:
            attempts.drop_column("failed")
            attempts.alter_column("reason", existing_type=sa.String(), nullable=False)
    _create_tables_of_reconciles()
    if "run" not in _columns("changes"):
        op.add_column("changes", sa.Column("run", sa.BigInteger))
        _create_index("ix_changes_run", "changes", ["run", "seq"], "run IS NOT NULL")
        _create_index("ix_runs_reconciles", "runs", ["sources", "id"], "kind = 'reconcile' AND started_at IS NOT NULL")
    if "item" not in _columns("deliveries"):
        op.add_column("deliveries", sa.Column("item", sa.Integer))
        op.add_column("deliveries", sa.Column("body_id", sa.BigInteger))
        _create_index("ix_deliveries_body", "deliveries", ["body_id"], "body_id IS NOT NULL")


def _create_settlements() -> None:
    op.create_table(
        "settlements",
        sa.Column("ended_at", MOMENT, primary_key=True),
        sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("worker", sa.String, nullable=False),
        sa.Column("release", sa.String, nullable=False),
        sa.Column("settle_us", sa.Integer, nullable=False),
        sa.Column("attempts", sa.Text, nullable=False),
        sqlite_with_rowid=False,
        if_not_exists=True,
    )


def _create_tables_of_reconciles() -> None:
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
    if {"source", "noticed_at", "holder", "scheduled"} <= _columns("reconciles"):
        # An unfinished walk of the early form begins anew, as a run. What it had seen belongs to no run.
        op.execute("DELETE FROM seen WHERE run IN (SELECT run FROM reconciles)")
        op.drop_table("reconciles")


def _columns(table: str) -> set[str]:
    inspector = sa.inspect(op.get_bind())
    return {column["name"] for column in inspector.get_columns(table)} if inspector.has_table(table) else set()


def _create_index(name: str, table: str, columns: list[str], condition: str) -> None:
    where = sa.text(condition)
    op.create_index(name, table, columns, sqlite_where=where, postgresql_where=where, if_not_exists=True)
