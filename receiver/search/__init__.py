"""Look-ups of deliveries, rows and changes, and one search over all identifiers. Reads the database; no HTTP."""
