"""Who may look at the console: one-time links, sessions, roles."""
