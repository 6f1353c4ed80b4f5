"""What people and machines look up: deliveries, rows, changes, and whatever they have in hand. Reads only, no HTTP."""
