"""Lists of deliveries, rows and changes, and one search over all identifiers. They read the database, without HTTP."""
