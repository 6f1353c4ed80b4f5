"""Processes that serve or work: their composition, start, health and end."""
