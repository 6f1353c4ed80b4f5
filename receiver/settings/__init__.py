"""What a person may set, read from the environment and a file."""
