"""The reference integration: a catalog, and the dialects of four systems that announce its changes."""
