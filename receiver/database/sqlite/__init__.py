"""SQLite: turns with its one writer, its log, and checkpoints of our own."""
