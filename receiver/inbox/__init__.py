"""The inbox: the durable truth about every delivery."""
