"""The path of a webhook from received bytes to its ack: the endpoint, admission and group commit."""
