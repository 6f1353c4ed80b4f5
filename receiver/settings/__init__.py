"""The settings, read from the environment and a file."""
