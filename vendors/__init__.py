"""Ready dialects of common senders, written as users write theirs. The setting `dialects` names the ones to use."""
