"""Processes that serve and work: composition, start, health and end."""
