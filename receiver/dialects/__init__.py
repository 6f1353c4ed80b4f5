"""Dialects, each with the signature, envelope and handlers of one kind of system; and the sources that use them."""
