"""The mirror: its rows, in which the newest news wins, and its change feed."""
