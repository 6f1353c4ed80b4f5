"""Is a webhook authentic? Signatures and encrypted bodies."""
