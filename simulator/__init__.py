"""The four systems as seen from outside: their catalogs, APIs, deliveries, bad days, and the convergence check."""
