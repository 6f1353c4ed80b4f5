"""The time at which each process last read its settings, and the reason if it refused them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    # A database whose tables were made as they are declared has it already.
    if "settings" not in {column["name"] for column in sa.inspect(op.get_bind()).get_columns("processes")}:
        op.add_column("processes", sa.Column("settings", sa.Text))
