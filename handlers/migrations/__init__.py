"""The migrations of the catalog's tables, one revision each (docs/migrations.md)."""
