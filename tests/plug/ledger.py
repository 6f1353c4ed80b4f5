"""The events in the database, recorded by the database itself: triggers note every end of a delivery.

The triggers write in the transaction that fires them, so the ledger holds exactly what was committed, and how often. It
uses none of the code that it checks.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from typing import Any

import psycopg
from sqlalchemy import make_url

ENDED = "('processed', 'ignored', 'dead')"

SQLITE = f"""
CREATE TABLE ledger (seq INTEGER PRIMARY KEY, delivery_id INTEGER NOT NULL, what TEXT NOT NULL, at REAL NOT NULL);
CREATE TRIGGER ledger_ends AFTER UPDATE OF state ON deliveries
  WHEN NEW.state IN {ENDED} AND OLD.state <> NEW.state BEGIN
  INSERT INTO ledger (delivery_id, what, at) VALUES (NEW.id, 'end', (julianday('now') - 2440587.5) * 86400);
END;
CREATE TRIGGER ledger_changes AFTER INSERT ON changes BEGIN
  INSERT INTO ledger (delivery_id, what, at)
  VALUES (NEW.delivery_id, NEW."table" || ' ' || NEW.external_id, (julianday('now') - 2440587.5) * 86400);
END;
"""

POSTGRESQL = f"""
CREATE TABLE ledger (seq bigserial PRIMARY KEY, delivery_id bigint NOT NULL, what text NOT NULL, at float8 NOT NULL);
CREATE FUNCTION ledger_end() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  INSERT INTO ledger (delivery_id, what, at) VALUES (NEW.id, 'end', extract(epoch FROM clock_timestamp()));
  RETURN NULL;
END $$;
CREATE FUNCTION ledger_change() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  INSERT INTO ledger (delivery_id, what, at)
  VALUES (NEW.delivery_id, NEW."table" || ' ' || NEW.external_id, extract(epoch FROM clock_timestamp()));
  RETURN NULL;
END $$;
CREATE TRIGGER ledger_ends AFTER UPDATE OF state ON deliveries
  FOR EACH ROW WHEN (NEW.state IN {ENDED} AND OLD.state <> NEW.state) EXECUTE FUNCTION ledger_end();
CREATE TRIGGER ledger_changes AFTER INSERT ON changes FOR EACH ROW EXECUTE FUNCTION ledger_change();
"""


class Ledger:
    """Reads a database of either kind through connections of its own."""

    def __init__(self, url: str) -> None:
        self._url = make_url(url)
        self._is_postgresql = self._url.get_backend_name() == "postgresql"

    def install(self) -> None:
        """Make the triggers and their table. The tables of the inbox must exist."""
        if self._is_postgresql:
            with self._postgresql() as connection:
                connection.execute(POSTGRESQL)
        else:
            with closing(self._sqlite()) as connection:
                connection.executescript(SQLITE)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        if self._is_postgresql:
            with self._postgresql() as connection:
                return connection.execute(query).fetchall()
        with closing(self._sqlite()) as connection:
            return connection.execute(query).fetchall()

    def counts(self, query: str) -> dict[Any, int]:
        """Run a query of names and numbers, and return them as a dict."""
        return dict(self.rows(query))

    def kept(self) -> set[str]:
        """Return the ids of all deliveries."""
        return {str(number) for (number,) in self.rows("SELECT id FROM deliveries")}

    def changes(self) -> set[int]:
        """Return the numbers of all changes in the feed."""
        return {number for (number,) in self.rows("SELECT seq FROM changes")}

    def states(self) -> dict[str, int]:
        return self.counts("SELECT state, count(*) FROM deliveries GROUP BY state")

    def by_source(self) -> dict[str, int]:
        return self.counts("SELECT source, count(*) FROM deliveries GROUP BY source")

    def open(self) -> int:
        """Count the deliveries that have not ended."""
        return sum(count for state, count in self.states().items() if state in ("pending", "processing"))

    def open_deliveries(self) -> list[str]:
        """Describe the deliveries that have not ended, by what decides when they are worked on."""
        found = self.rows(
            "SELECT id, source, state, attempts, due_at, suspect, claimed_by, lease_until, reason FROM deliveries "
            "WHERE state IN ('pending', 'processing')"
        )
        return [f"open: {' '.join(map(str, row))}" for row in found]

    def applied_twice(self) -> list[tuple[int, str, int]]:
        """Return the deliveries that ended, or changed one row, more than once: which, what, how often."""
        return self.rows(
            "SELECT delivery_id, what, count(*) FROM ledger GROUP BY delivery_id, what HAVING count(*) > 1"
        )

    def effects_without_end(self) -> int:
        """Count the deliveries that changed a row although their end, committed with the change, does not say so."""
        return self.rows(
            "SELECT count(DISTINCT ledger.delivery_id) FROM ledger JOIN deliveries ON deliveries.id = delivery_id "
            "WHERE what <> 'end' AND (state <> 'processed' OR outcome NOT IN ('applied', 'tie'))"
        )[0][0]

    def ends(self) -> Sequence[float]:
        """Return when deliveries ended, in seconds of Unix time, ascending."""
        return [at for (at,) in self.rows("SELECT DISTINCT at FROM ledger WHERE what = 'end' ORDER BY at")]

    def is_sound(self) -> bool:
        """Whether every delivery has its body and its dedup key, and SQLite finds no fault in the file."""
        alone = [
            f"SELECT count(*) FROM deliveries LEFT JOIN {table} ON delivery_id = id WHERE delivery_id IS NULL"
            for table in ("bodies", "dedup_keys")
        ]
        whole = self._is_postgresql or self.rows("PRAGMA integrity_check") == [("ok",)]
        return whole and all(self.rows(query) == [(0,)] for query in alone)

    def _postgresql(self) -> psycopg.Connection[tuple[Any, ...]]:
        address = self._url.set(drivername="postgresql").render_as_string(hide_password=False)
        return psycopg.connect(address, connect_timeout=10, autocommit=True)

    def _sqlite(self) -> sqlite3.Connection:
        assert self._url.database is not None
        return sqlite3.connect(self._url.database, timeout=30)
