"""Verifying that a webhook is authentic: signatures, tokens and encrypted bodies."""
