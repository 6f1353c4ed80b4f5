"""Runs, which people plan, start and watch; and actions, the record of what people did."""
