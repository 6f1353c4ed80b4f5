"""What needs a person: tallies of what happened, faults with one cause, and rules that say it in a sentence."""
