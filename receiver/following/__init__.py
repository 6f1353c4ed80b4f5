"""Following: posts the change feed to a user's own endpoint, with a cursor stored in the database."""
