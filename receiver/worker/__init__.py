"""From the inbox to the mirror: claim, hydrate, handle, settle."""
