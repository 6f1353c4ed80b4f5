"""How the receiver's own tables came to be, one revision after the other: docs/migrations.md."""
