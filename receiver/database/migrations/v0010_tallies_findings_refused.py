"""Tallies, findings, the process that evaluates the rules, and refused requests that are kept."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"

#: The tables of this revision.
TABLES = ("tallies", "findings", "duties", "refused")

MOMENT = sa.Text().with_variant(sa.DateTime(timezone=True), "postgresql")
ARRIVAL = sa.BigInteger().with_variant(sa.Integer, "sqlite")

IGNORED = sa.text("state = 'ignored'")


def upgrade() -> None:
    op.create_table(
        "tallies",
        sa.Column("span", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("source", sa.String, primary_key=True),
        sa.Column("kind", sa.String, primary_key=True),
        sa.Column("at", MOMENT, primary_key=True),
        sa.Column("detail", sa.String, primary_key=True),
        sa.Column("process", sa.String, primary_key=True),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("amount", sa.Float, nullable=False),
        sqlite_with_rowid=False,
        if_not_exists=True,
    )
    op.create_index("ix_tallies_at", "tallies", ["span", "at"], if_not_exists=True)
    op.create_table(
        "findings",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("opened_at", MOMENT, primary_key=True),
        sa.Column("rule", sa.String, nullable=False),
        sa.Column("source", sa.String, nullable=False),
        sa.Column("since", MOMENT, nullable=False),
        sa.Column("says", sa.String, nullable=False),
        sa.Column("mend", sa.String, nullable=False),
        sa.Column("evidence", sa.Text, nullable=False),
        sa.Column("seen_at", MOMENT, nullable=False),
        sa.Column("closed_at", MOMENT),
        sa.Column("acknowledged_at", MOMENT),
        sa.Column("acknowledged_by", sa.String),
        if_not_exists=True,
    )
    is_open = sa.text("closed_at IS NULL")
    op.create_index(
        "ix_findings_open",
        "findings",
        ["id"],
        unique=True,
        sqlite_where=is_open,
        postgresql_where=is_open,
        if_not_exists=True,
    )
    op.create_index("ix_findings_opened", "findings", ["opened_at"], if_not_exists=True)
    op.create_table(
        "duties",
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("holder", sa.String, nullable=False),
        sa.Column("until", MOMENT, nullable=False),
        if_not_exists=True,
    )
    op.create_table(
        "refused",
        sa.Column("id", ARRIVAL, primary_key=True, autoincrement=False),
        sa.Column("source", sa.String, nullable=False),
        sa.Column("code", sa.String, nullable=False),
        sa.Column("received_at", MOMENT, nullable=False),
        sa.Column("size", sa.Integer, nullable=False),
        sa.Column("headers", sa.Text, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        if_not_exists=True,
    )
    op.create_index("ix_refused_source", "refused", ["source", "id", "size"], if_not_exists=True)
    op.create_index(
        "ix_deliveries_ignored",
        "deliveries",
        ["source", "event_type", "id"],
        sqlite_where=IGNORED,
        postgresql_where=IGNORED,
        if_not_exists=True,
    )
