"""The database: connections, transactions, columns, schema and migrations."""
