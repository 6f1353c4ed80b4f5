"""From bytes to a 2xx: the endpoint, admission and group commit."""
