"""Each round of a delivery is kept when another one follows, and so is every attempt, not only the failed ones."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

#: The tables of this revision.
TABLES = ("rounds", "settlements")

#: The table that is rebuilt on SQLite, with its columns.
REBUILT = {"attempts": ("delivery_id", "ended_at", "number", "worker", "reason")}

MOMENT = sa.Text().with_variant(sa.DateTime(timezone=True), "postgresql")


def _new_columns() -> list[sa.Column[object]]:
    """Of a failed attempt, in the order of the table."""
    return [
        sa.Column("round", sa.Integer, nullable=False, server_default=sa.text("1")),
        sa.Column("handler", sa.String),
        sa.Column("release", sa.String),
        sa.Column("hydrate_us", sa.Integer),
        sa.Column("handle_us", sa.Integer),
        sa.Column("settle_us", sa.Integer),
        sa.Column("traceback", sa.String),
    ]


def upgrade() -> None:
    # A database whose tables were made as they are declared has all of it already.
    if "round" in {column["name"] for column in sa.inspect(op.get_bind()).get_columns("deliveries")}:
        return
    op.add_column("deliveries", sa.Column("round", sa.Integer, nullable=False, server_default=sa.text("1")))
    op.create_table(
        "rounds",
        sa.Column("delivery_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("cause", sa.String, nullable=False),
        sa.Column("run", sa.BigInteger),
        sa.Column("action", sa.BigInteger),
        sa.Column("began_at", MOMENT, nullable=False),
        sa.Column("state", sa.String),
        sa.Column("outcome", sa.String),
        sa.Column("reason", sa.String),
        sa.Column("ended_at", MOMENT),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "settlements",
        sa.Column("ended_at", MOMENT, primary_key=True),
        sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("worker", sa.String, nullable=False),
        sa.Column("release", sa.String, nullable=False),
        sa.Column("settle_us", sa.Integer, nullable=False),
        sa.Column("attempts", sa.Text, nullable=False),
        sqlite_with_rowid=False,
    )
    by_run = sa.text("run IS NOT NULL")
    op.create_index("ix_rounds_run", "rounds", ["run", "delivery_id"], sqlite_where=by_run, postgresql_where=by_run)
    if op.get_bind().dialect.name == "postgresql":
        _widen_attempts()
    else:
        _rebuild_attempts()


def _widen_attempts() -> None:
    for column in _new_columns():
        op.add_column("attempts", column)
    op.drop_constraint("attempts_pkey", "attempts", type_="primary")
    op.create_primary_key("attempts_pkey", "attempts", ["delivery_id", "ended_at", "number", "round"])


def _rebuild_attempts() -> None:
    op.rename_table("attempts", "failed_attempts")
    op.create_table(
        "attempts",
        sa.Column("delivery_id", sa.BigInteger, nullable=False),
        sa.Column("ended_at", MOMENT, nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("worker", sa.String, nullable=False),
        sa.Column("reason", sa.String, nullable=False),
        *_new_columns(),
        sa.PrimaryKeyConstraint("delivery_id", "ended_at", "number", "round"),
        sqlite_with_rowid=False,
    )
    columns = ", ".join(REBUILT["attempts"])
    op.execute(f"INSERT INTO attempts ({columns}) SELECT {columns} FROM failed_attempts")  # noqa: S608 (our own names)
    op.drop_table("failed_attempts")
