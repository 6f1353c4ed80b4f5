"""Drafting: a dialect's module, fixture and test, written from a captured request."""
