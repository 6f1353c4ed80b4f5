"""Dedup keys may begin with the time of the change. Older keys stay, and are looked up until a recorded time."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"

MOMENT = sa.Text().with_variant(sa.DateTime(timezone=True), "postgresql")

#: An hour is left for processes of the previous release.
IN_AN_HOUR = {
    "sqlite": "strftime('%Y-%m-%dT%H:%M:%f', 'now', '+1 hour') || '000Z'",
    "postgresql": "now() + interval '1 hour'",
}


#: A sender's clock may be further ahead, by hours if it writes its local time as UTC.
UNTIL = """
UPDATE identity
SET older_keys_until = coalesce((SELECT max(occurred_at) FROM deliveries WHERE occurred_at > {moment}), {moment})
WHERE EXISTS (SELECT 1 FROM dedup_keys)
"""


def upgrade() -> None:
    # A database whose tables were made as they are declared has it already.
    if "older_keys_until" not in {column["name"] for column in sa.inspect(op.get_bind()).get_columns("identity")}:
        op.add_column("identity", sa.Column("older_keys_until", MOMENT))
    op.execute(UNTIL.format(moment=IN_AN_HOUR[op.get_bind().dialect.name]))
