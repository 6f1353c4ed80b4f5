"""Logging, and functions that make text from outside safe to show."""
