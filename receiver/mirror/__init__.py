"""The mirror: rows, where the newest news wins, and their change feed."""
