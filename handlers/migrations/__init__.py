"""How the catalog's tables came to be, one revision after the other: docs/migrations.md."""
