"""Simulated senders: the catalogs, APIs and webhooks of four systems, faults on the way, and the convergence check."""
