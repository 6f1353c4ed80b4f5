"""sticky.io: its products, its API and its webhook."""
