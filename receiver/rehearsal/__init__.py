"""Rehearsal: runs new handler code over the last kept deliveries into a scratch mirror before it is deployed."""
