"""Drafting: writes a dialect's module, fixture and test from a captured request."""
