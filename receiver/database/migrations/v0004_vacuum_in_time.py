"""PostgreSQL vacuums `deliveries` after a number of changes, not after a share of a growing history.

Finished deliveries leave dead index entries where every claim looks first.

"""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        # The table may have partitions, which have settings of their own.
        op.execute("""
            DO $$ BEGIN
                IF (SELECT relkind FROM pg_class WHERE oid = 'deliveries'::regclass) = 'r' THEN
                    ALTER TABLE deliveries
                        SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 50000);
                END IF;
            END $$
        """)
