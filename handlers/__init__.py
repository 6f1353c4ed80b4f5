"""The reference integration: the tables of a catalog, and the dialects of four systems that fill them."""
