"""IIMMPACT: its catalog, its API and its webhook."""
