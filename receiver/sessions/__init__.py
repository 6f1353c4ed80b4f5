"""Access to the console: one-time links, sessions and roles."""
