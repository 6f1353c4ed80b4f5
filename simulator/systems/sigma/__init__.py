"""Sigma PIM: its catalog, its API and its webhooks."""
