"""Measurements. Each figure is a ratio to a named baseline that is measured in turns in the same run."""
