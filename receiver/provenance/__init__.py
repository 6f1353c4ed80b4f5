"""Provenance: the origin of each value of a row, the news that lost against it, and the rows a delivery changed."""
