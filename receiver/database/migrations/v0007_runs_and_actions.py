"""The actions of people, and the runs that they start."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

#: The tables of this revision.
TABLES = ("actions", "runs", "run_turns", "run_deliveries", "run_rows")

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
    _create_runs()


def _create_runs() -> None:
    op.create_table(
        "runs",
        sa.Column("id", NUMBER, primary_key=True),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("sources", sa.Text, nullable=False),
        sa.Column("arguments", sa.Text, nullable=False),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("total", sa.BigInteger, nullable=False),
        sa.Column("done", sa.BigInteger, nullable=False),
        sa.Column("tally", sa.Text, nullable=False),
        sa.Column("mark", sa.Text),
        sa.Column("forecast", sa.Text),
        sa.Column("release", sa.String, nullable=False),
        sa.Column("wiring", sa.String, nullable=False),
        sa.Column("planned_by", sa.String, nullable=False),
        sa.Column("planned_at", MOMENT, nullable=False),
        sa.Column("started_by", sa.String),
        sa.Column("started_at", MOMENT),
        sa.Column("reason", sa.String),
        sa.Column("ended_at", MOMENT),
        sa.Column("trouble", sa.String),
        sa.Column("fed_by", sa.String),
        sa.Column("fed_until", MOMENT),
        sqlite_autoincrement=True,
        if_not_exists=True,
    )
    is_open = sa.text("state IN ('planning', 'running')")
    op.create_index("ix_runs_open", "runs", ["id"], sqlite_where=is_open, postgresql_where=is_open, if_not_exists=True)
    op.create_table(
        "run_turns",
        sa.Column("kind", sa.String, primary_key=True),
        sa.Column("source", sa.String, primary_key=True),
        sa.Column("run", sa.BigInteger, nullable=False),
        if_not_exists=True,
    )
    op.create_table(
        "run_deliveries",
        sa.Column("run", sa.BigInteger, primary_key=True),
        sa.Column("delivery_id", sa.BigInteger, primary_key=True),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("forecast", sa.String),
        sa.Column("forecast_reason", sa.String),
        sa.Column("outcome", sa.String),
        sa.Column("reason", sa.String),
        sqlite_with_rowid=False,
        if_not_exists=True,
    )
    for name, state in (("ix_run_deliveries_fed", "fed"), ("ix_run_deliveries_retrying", "retrying")):
        of_state = sa.text(f"state = '{state}'")
        op.create_index(
            name,
            "run_deliveries",
            ["delivery_id", "run"],
            sqlite_where=of_state,
            postgresql_where=of_state,
            if_not_exists=True,
        )
    op.create_table(
        "run_rows",
        sa.Column("run", sa.BigInteger, primary_key=True),
        sa.Column("table", sa.String, primary_key=True),
        sa.Column("source", sa.String, primary_key=True),
        sa.Column("external_id", sa.String, primary_key=True),
        sa.Column("operation", sa.String, nullable=False),
        sa.Column("before", sa.Text, nullable=False),
        sa.Column("after", sa.Text, nullable=False),
        if_not_exists=True,
    )
