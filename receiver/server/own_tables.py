"""Declares every table of Hookmirror's own, for code that goes through all declared tables: the schema and a copy."""

# ruff: noqa: F401 (the import of a module declares its tables)
from __future__ import annotations

import receiver.database.identity
import receiver.findings.tables
import receiver.following.dead_changes
import receiver.following.followers
import receiver.inbox.refused
import receiver.inbox.tables
import receiver.mirror.changes
import receiver.reconcile.tables
import receiver.runs.actions
import receiver.runs.tables
import receiver.sessions.tables
import receiver.worker.processes
