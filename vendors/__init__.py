"""Ready dialects of senders that many teams have, each written as a user would write it: `dialects` in the settings."""
