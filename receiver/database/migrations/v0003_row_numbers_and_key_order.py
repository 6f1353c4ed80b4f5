"""On SQLite, a delivery's id becomes its row's own number, which saves an index beside each table; and on both systems
a dedup key that is derived from the content begins with microseconds, so that keys lie in the order of their changes.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

#: The tables that are rebuilt on SQLite, with their columns.
REBUILT = {
    "deliveries": (
        *("id", "source", "event_type", "entity_kind", "entity_id", "occurred_at", "received_at", "state", "attempts"),
        *("due_at", "suspect", "claimed_by", "lease_until", "outcome", "reason", "ended_at", "dedup_key", "conflict"),
        *("duplicates", "secret"),
    ),
    "bodies": ("delivery_id", "body", "plain", "headers"),
}

MOMENT = sa.Text()

INDEXES = (
    ("ix_deliveries_due", ("suspect", "due_at", "id"), "state = 'pending'"),
    ("ix_deliveries_processing", ("source", "entity_kind", "entity_id"), "state = 'processing'"),
    ("ix_deliveries_dead", ("id",), "state = 'dead'"),
    ("ix_deliveries_source", ("source", "id"), None),
    ("ix_deliveries_entity", ("entity_id", "id"), "ended_at IS NOT NULL"),
)

#: Recognises derived keys: the second of the change, followed by 64 hexadecimal digits.
#: The second is cut out of the text, because `strftime` would round the microseconds.
REKEY_ON_SQLITE = """
UPDATE {table} SET dedup_key = (
    SELECT strftime('%s', substr(d.occurred_at, 1, 19)) || substr(d.occurred_at, 21, 6)
        || substr({table}.dedup_key, -65)
    FROM deliveries AS d WHERE d.id = {table}.{id}
)
WHERE substr(dedup_key, -65, 1) = '-' AND substr(dedup_key, -64) NOT GLOB '*[^0-9a-f]*' AND EXISTS (
    SELECT 1 FROM deliveries AS d
    WHERE d.id = {table}.{id}
        AND strftime('%s', substr(d.occurred_at, 1, 19)) || substr({table}.dedup_key, -65) = {table}.dedup_key
)
"""

REKEY_ON_POSTGRESQL = """
UPDATE {table} SET dedup_key =
    trunc(CAST(extract(epoch FROM d.occurred_at) AS numeric) * 1000000) || right({table}.dedup_key, 65)
FROM deliveries AS d
WHERE d.id = {table}.{id} AND {table}.dedup_key ~ '^[0-9]+-[0-9a-f]{{64}}$'
    AND floor(CAST(extract(epoch FROM d.occurred_at) AS numeric)) || right({table}.dedup_key, 65) = {table}.dedup_key
"""


def upgrade() -> None:
    postgresql = op.get_bind().dialect.name == "postgresql"
    rekey = REKEY_ON_POSTGRESQL if postgresql else REKEY_ON_SQLITE
    # A database whose tables were made as they are declared has such ids already, and columns of later migrations.
    if not postgresql and _id_is_a_big_integer():
        _rebuild_deliveries()
        _rebuild_bodies()
    op.execute(rekey.format(table="dedup_keys", id="delivery_id"))
    op.execute(rekey.format(table="deliveries", id="id"))


def _id_is_a_big_integer() -> bool:
    columns = sa.inspect(op.get_bind()).get_columns("deliveries")
    return any(column["name"] == "id" and isinstance(column["type"], sa.BigInteger) for column in columns)


def _rebuild_deliveries() -> None:
    for name, _, _ in INDEXES:
        op.drop_index(name, "deliveries")
    op.rename_table("deliveries", "first_deliveries")
    op.create_table(
        "deliveries",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
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
    _move("deliveries", "id")
    for name, columns, where in INDEXES:
        op.create_index(name, "deliveries", columns, sqlite_where=None if where is None else sa.text(where))


def _rebuild_bodies() -> None:
    op.rename_table("bodies", "first_bodies")
    op.create_table(
        "bodies",
        sa.Column("delivery_id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("plain", sa.LargeBinary),
        sa.Column("headers", sa.Text, nullable=False),
    )
    _move("bodies", "delivery_id")


def _move(table: str, key: str) -> None:
    columns = ", ".join(REBUILT[table])
    op.execute(f"INSERT INTO {table} ({columns}) SELECT {columns} FROM first_{table} ORDER BY {key}")  # noqa: S608 (our own names)
    op.drop_table(f"first_{table}")
