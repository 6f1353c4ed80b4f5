"""The HTTP API: its resources, their operations, and the bounds of reads."""
