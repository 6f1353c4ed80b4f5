"""The migrations of the receiver's own tables, one module for each revision: docs/migrations.md."""
