"""Provenance: why a column of a row has its value, and which rows a delivery changed."""
